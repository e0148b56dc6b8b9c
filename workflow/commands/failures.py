"""What a user reads when jobs fail: which, the last lines of their logs, and what to do, after all else.

Snakemake says what happens to its jobs in records of its logger, which a handler follows here.
"""

import contextlib
import logging
import re
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from snakemake_interface_logger_plugins.common import LogEvent

_LINES = 6  # of a log that are shown
_MOST = 10  # failed jobs that are shown with their lines
_TAIL = 2**16  # bytes of a log that are looked at
_ENDED = re.compile(r"\[.*\] [\d.]+ s, \d+ MiB")  # SOURCE: the last words of a job that was done (job.run)
_WORDS = re.compile(r"\[.*\] (failed, log|interrupted;)")  # and of one that was not
_STOPPED = "] interrupted;"
_STATUS = re.compile(r"exit status (\d+)|died with <Signals\.(\w+)")  # SOURCE: subprocess.CalledProcessError
# what Snakemake and SLURM's tools add to a log on a node, whatever the cause
_MEANINGLESS = re.compile(
    r"WorkflowError:|At least one job did not complete successfully|Exiting because a job execution failed"
    r"|srun: cluster configuration lacks support for cpu binding|RuleException:|CalledProcessError in file"
    r"|Command '.*' returned non-zero exit status 1\.|\s*$"
)
_GUESSES = re.compile(r"No SLURM account given|No account was given|Unable to guess SLURM account")


@dataclass
class _Failure:
    """A job that failed: its name, its own log, those of the cluster, how its process ended, how often it was tried."""

    name: str
    log: Path | None
    outer: list[Path]
    status: str
    attempts: int
    lines: list[str] = field(default_factory=list)

    def read(self):
        """Keep the last lines of the logs, which another attempt begins anew."""
        said = _last(self.log)
        self.lines = said[-_LINES:]
        if not (said and _WORDS.match(said[-1])):
            self.lines += [line for path in self.outer for line in _last(path)[-_LINES:]]
            if not self.outer:
                self.lines.append(self._without_words())

    def _without_words(self) -> str:
        begun = "without a word of its own" if self.log and self.log.exists() else "before it began a log"
        return (
            f"It ended {begun}{self.status}: unless somebody killed it, memory ran out, or what it said stands above. "
            "Give it more memory, or let fewer jobs run at once"
        )

    @property
    def interrupted(self) -> bool:
        """Whether the user stopped it, before or after it began its log."""
        return bool(re.search(r"\b(130|SIGINT)\b", self.status) or [line for line in self.lines if _STOPPED in line])

    def __str__(self) -> str:
        often = f" ({self.attempts} attempts)" if self.attempts > 1 else ""
        logs = ", ".join(map(str, [*([self.log] if self.log else []), *self.outer])) or "none"
        return "\n".join([f"[{self.name}]{often}, log: {logs}", *(f"    {line}" for line in self.lines)])


class Failures(logging.Handler):
    """Follows the jobs of a run: their logs begin anew at each attempt, and the failed ones are told of in the end."""

    def __init__(self):
        super().__init__()
        self._attempts: dict[int, int] = {}
        self._failed: dict[int, _Failure] = {}
        self._grouped: set[int] = set()  # jobs of whose group Snakemake said that it failed, and not yet of each
        self._said = threading.local()  # Snakemake says how a command ended just before it says whose it was

    def emit(self, record: logging.LogRecord):
        """Act on what Snakemake says of its jobs."""
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO:
            self._begin(record)
        elif event == LogEvent.ERROR:
            self._said.last = record.getMessage()
        elif event == LogEvent.GROUP_ERROR:
            self._fail_of_group(record)
        elif event == LogEvent.JOB_ERROR and record.jobid in self._grouped:
            self._grouped.remove(record.jobid)
        elif event == LogEvent.JOB_ERROR:
            own = [log for log in record.log if log][:1]
            self._fail(vars(record) | {"log": own}, record.log[1:])
        elif event == LogEvent.JOB_FINISHED:
            self._failed.pop(record.job_id, None)

    def _begin(self, record: logging.LogRecord):
        """Another attempt: what its log says then is of none before."""
        self._attempts[record.jobid] = self._attempts.get(record.jobid, 0) + 1
        for log in record.log:
            with contextlib.suppress(OSError):  # the job itself says what is wrong with it
                _here(log).unlink(missing_ok=True)

    def _fail_of_group(self, record: logging.LogRecord):
        """Those of a group that began and did not end well; the first where none began."""
        jobs = record.job_error_info
        self._grouped |= {job["jobid"] for job in jobs}
        for job in [job for job in jobs if _began_and_failed(job["log"])] or jobs[:1]:
            self._fail(job, record.aux_logs)

    def _fail(self, job: dict, outer: list[str | None]):
        log = _here(job["log"][0]) if job["log"] else None
        name = str(log).removeprefix("logs/").removesuffix(".log") if log else job["rule_name"]
        ended, self._said.last = _STATUS.search(getattr(self._said, "last", "")), ""
        status = f" (exit status {ended[1] or ended[2]})" if ended else ""
        outer = [Path(path) for path in outer if path]
        failure = _Failure(name, log, outer, status, self._attempts.get(job["jobid"], 1))
        failure.read()
        if outer:  # on this machine, the job itself says it at once
            print(f"{failure}\n", file=sys.stderr, flush=True)
        self._failed[job["jobid"]] = failure

    def tell(self):
        """Say which jobs failed for good, why, and what to do; nothing where none did."""
        failed = [failure for failure in self._failed.values() if not failure.interrupted]
        if not failed:
            return
        said = [f"\n{len(failed)} job{'s' if len(failed) > 1 else ''} failed:", *map(str, failed[:_MOST])]
        if more := failed[_MOST:]:
            said.append(f"and {len(more)} more, logs: {', '.join(str(failure.log) for failure in more)}")
        said.append("Mend what the last lines say, then run the same command again: what was finished is kept.")
        print("\n".join(said), file=sys.stderr, flush=True)


def _began_and_failed(logs: list[str]) -> bool:
    said = [line for log in logs for line in _last(_here(log))]
    return bool(said) and not _ENDED.fullmatch(said[-1])


def _here(log: str) -> Path:
    """The log of a job as it lies here. Of one in a store, Snakemake says `s3://lab/run/logs/x.log (...)`."""
    if "://" not in log:
        return Path(log)
    return Path("logs", log.rpartition("/logs/")[2].partition(" (")[0])


def _last(log: Path | None) -> list[str]:
    """The last lines of a log that say something; none where it is not there."""
    try:
        with open(log or "", "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line.rstrip() for line in lines if not _MEANINGLESS.match(line)]


def of_a_node(record: logging.LogRecord) -> bool:
    """A filter for Snakemake on a cluster's node: its log is there for what went wrong, which jobs say themselves."""
    event = getattr(record, "event", None)
    return record.levelno >= logging.WARNING and event not in (LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR)


def of_meaning(record: logging.LogRecord) -> bool:
    """A filter for what Snakemake's executor warns of though nothing is wrong: clusters without accounts."""
    return not _GUESSES.match(str(record.msg))
