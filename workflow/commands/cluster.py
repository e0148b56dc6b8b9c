"""Run a study on a SLURM cluster: `make cluster NAME=...`; arguments go to Snakemake.

Refuses what would fail or hang later: no SLURM here, jobs of an earlier run that still write. While Snakemake runs, it
is watched: what SLURM says of jobs that wait for long is passed on, such as that nodes are drained; and where it waits
for jobs of which SLURM knows none any more, as it does for ever if the answers about their states are lost, it is
stopped with a word. Whatever was finished stays; the same command goes on.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))  # of `folders`

import folders

SITE = Path("profiles/site")
NAME = Path(".snakemake/attriflow.cluster")  # what the names of the last run's jobs begin with
PATIENCE = "ATTRIFLOW_CLUSTER_PATIENCE"  # seconds without a job in the queue and without a word of Snakemake
WAITING = "ATTRIFLOW_CLUSTER_WAITING"  # seconds that a job may wait before it is said why
AGAIN = 3600  # seconds until the same reason is said again
_FORMAT = "%i %j %T %r"  # number, name, state, reason


def main(arguments: list[str]) -> int:
    refuse_without_slurm()
    refuse_beside_jobs()
    name = f"attriflow-{secrets.token_hex(4)}"
    NAME.parent.mkdir(exist_ok=True)
    NAME.write_text(name)
    site = ["--profile", str(SITE)] if SITE.is_dir() else []
    command = ["snakemake", *site, "--workflow-profile", "profiles/slurm", "--slurm-jobname-prefix", name, *arguments]
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    running = subprocess.Popen(
        command, stdout=pipe, stderr=both, start_new_session=True, preexec_fn=heed_interrupts,
        env=os.environ | folders.usable_caches(),
    )  # fmt: skip
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: running.send_signal(signal.SIGINT))  # Snakemake cancels its jobs on this one
    return watched(running, name, float(os.getenv(PATIENCE, "900")))


def heed_interrupts():
    """What a script starts in the background ignores them, and so would Snakemake."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def watched(running: subprocess.Popen, name: str, patience: float) -> int:
    """Pass on what a process says until it ends; its exit status. Stops it where nothing happens for too long.

    Nothing happens while it says nothing and no job whose name begins with `name` is in the queue, once one was.
    """
    os.set_blocking(running.stdout.fileno(), False)
    alive, seen, asked, waits = time.monotonic(), False, 0.0, Waits(float(os.getenv(WAITING, "120")))
    while True:
        ended = running.poll()
        if said := running.stdout.read():
            alive = time.monotonic()
            sys.stderr.buffer.write(said)
            sys.stderr.flush()
        if ended is not None:
            return ended
        if time.monotonic() - asked > min(30, patience / 4):
            asked, jobs = time.monotonic(), queued(name)
            if jobs != []:  # some, or SLURM does not answer now
                seen, alive = True, time.monotonic()
            for line in waits.look(jobs or []):
                print(f"cluster: {line}", file=sys.stderr, flush=True)
        if seen and time.monotonic() - alive > patience:
            running.send_signal(signal.SIGINT)
            print(
                f"cluster: SLURM has had no job of this run for {patience:.0f} s, yet Snakemake waits for one: answers "
                "about states of jobs are lost. Stopped; nothing finished is lost, run the same command again. If it "
                "comes back, set slurm-status-command in profiles/site/config.yaml (docs/cluster.md)",
                file=sys.stderr,
            )
            running.wait()
            return 1
        time.sleep(0.2)


@dataclass(frozen=True)
class Job:
    """What SLURM says of a job."""

    number: str
    state: str
    reason: str


class Waits:
    """Since when which jobs wait, and which reasons were said."""

    def __init__(self, most: float):
        self._most = most
        self._since: dict[str, float] = {}  # by number
        self._said: dict[str, float] = {}  # by reason

    def look(self, jobs: list[Job]) -> list[str]:
        """A line for each reason for which jobs have waited for long, once an hour."""
        now, waiting = time.monotonic(), [job for job in jobs if job.state == "PENDING"]
        self._since = {job.number: self._since.get(job.number, now) for job in waiting}
        long = [job for job in waiting if now - self._since[job.number] >= self._most]
        reasons = dict.fromkeys(job.reason for job in long)
        fresh = [reason for reason in reasons if now - self._said.get(reason, -AGAIN) >= AGAIN]
        self._said |= dict.fromkeys(fresh, now)
        return [self._line([job for job in long if job.reason == reason], now) for reason in fresh]

    def _line(self, jobs: list[Job], now: float) -> str:
        first = jobs[0]
        several = f"{len(jobs)} jobs have" if len(jobs) > 1 else "a job has"
        return (
            f"{several} waited for {now - self._since[first.number]:.0f} s, and SLURM's reason is: {first.reason} "
            f"(`scontrol show job {first.number}`, `sinfo --list-reasons`)"
        )


def refuse_without_slurm():
    """Commands, and a controller that answers."""
    if missing := [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]:
        sys.exit(f"cluster: no {', '.join(missing)} here; run this on a node that submits jobs, or `make study`")
    done = subprocess.run(["squeue", "--noheader", "--me"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"cluster: SLURM does not answer ({done.stderr.strip()}); nothing was submitted")


def refuse_beside_jobs():
    """Jobs of a run whose Snakemake was killed go on, and would write what a new run's jobs write."""
    name = NAME.read_text() if NAME.exists() else None
    if name and (still := [job.number for job in queued(name) or []]):
        sys.exit(
            f"cluster: {len(still)} jobs of an earlier run are in the queue: wait for them, or "
            f"`scancel {' '.join(still)}`; then `make unlock`, and run again"
        )


def queued(name: str) -> list[Job] | None:
    """The jobs that wait or run and whose names begin so; None where SLURM does not answer."""
    done = subprocess.run(["squeue", "--noheader", "--me", f"--format={_FORMAT}"], capture_output=True, text=True)
    if done.returncode:
        return None
    rows = ([*line.split(maxsplit=3), "", ""] for line in done.stdout.splitlines())
    return [Job(number, state, reason) for number, job, state, reason, *_ in rows if job.startswith(name)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
