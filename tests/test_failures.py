"""When jobs fail, what a user reads last says which, why, where more stands, and what to do."""

import logging
import os

import failures
import pytest
from conftest import Project
from snakemake_interface_logger_plugins.common import LogEvent

KILLED = """srun: cluster configuration lacks support for cpu binding
slurmstepd-n1: error: StepId=2.0 exceeded memory limit (197156864 > 157286400), being killed
srun: error: n1: task 0: Killed
Exiting because a job execution failed. Look above for error messages
WorkflowError:
At least one job did not complete successfully.

"""


@pytest.fixture
def followed(tmp_path, monkeypatch) -> failures.Failures:
    """In an empty folder."""
    monkeypatch.chdir(tmp_path)
    os.mkdir("logs")
    return failures.Failures()


def say(followed: failures.Failures, event: LogEvent, **said):
    followed.handle(logging.makeLogRecord({"event": event, "levelno": logging.INFO, **said}))


def begin(followed: failures.Failures, job: int, name: str):
    say(followed, LogEvent.JOB_INFO, jobid=job, log=[f"logs/{name}.log"])


def error(followed: failures.Failures, job: int, name: str, *outer: str):
    say(followed, LogEvent.JOB_ERROR, jobid=job, rule_name="r", log=[f"logs/{name}.log", *outer])


def write(path: str, text: str) -> str:
    with open(path, "w") as file:
        file.write(text)
    return path


def told(followed: failures.Failures, capsys) -> list[str]:
    capsys.readouterr()
    followed.tell()
    return capsys.readouterr().err.splitlines()


def test_the_last_lines_of_each_failed_job_and_the_remedy_are_told(followed, capsys):
    for job, name in enumerate("ab"):
        begin(followed, job, name)
        lines = "".join(f"line {place}\n" for place in range(20))
        write(f"logs/{name}.log", f"{lines}ValueError: {name} is wrong\n[{name}] failed, log logs/{name}.log: ...\n")
        error(followed, job, name)
    said = told(followed, capsys)
    assert said[:3] == ["", "2 jobs failed:", "[a], log: logs/a.log"]
    assert "    ValueError: a is wrong" in said and "    ValueError: b is wrong" in said
    assert said.count("    line 18") == 2 and "    line 15" not in said
    assert said[-1].startswith("Mend what the last lines say, then run the same command again")


def test_nothing_is_told_where_no_job_failed_for_good(followed, capsys):
    begin(followed, 1, "a")
    assert told(followed, capsys) == []
    error(followed, 1, "a")
    begin(followed, 1, "a")
    say(followed, LogEvent.JOB_FINISHED, job_id=1)
    assert told(followed, capsys) == []


def test_what_the_user_stopped_has_not_failed(followed, capsys):
    begin(followed, 1, "a")
    write("logs/a.log", "[a] interrupted; run again, finished jobs are kept\n")
    error(followed, 1, "a")
    begin(followed, 2, "b")
    say(followed, LogEvent.ERROR, msg="Command 'python b.py' died with <Signals.SIGINT: 2>.")
    error(followed, 2, "b")
    assert told(followed, capsys) == []


def test_a_log_begins_anew_at_each_attempt(followed, capsys):
    """Else that of the last success would be shown of a job that was killed before it could begin one."""
    write("logs/a.log", "[a] 3.0 s, 100 MiB\n")
    begin(followed, 1, "a")
    say(followed, LogEvent.ERROR, msg="Command 'python a.py' returned non-zero exit status 137.")
    error(followed, 1, "a")
    said = told(followed, capsys)
    assert not any("3.0 s" in line for line in said)
    assert "    It ended before it began a log (exit status 137): unless somebody killed it, memory ran out" in said[3]


def test_of_a_job_on_a_cluster_the_log_of_the_cluster_is_shown_at_each_attempt(followed, capsys):
    outer = write("outer.log", KILLED)
    for attempt in ("", " (2 attempts)"):
        begin(followed, 1, "a")
        write("logs/a.log", "")  # Snakemake makes it
        error(followed, 1, "a", outer)
        said = capsys.readouterr().err.splitlines()
        assert said == [
            f"[a]{attempt}, log: logs/a.log, outer.log",
            "    slurmstepd-n1: error: StepId=2.0 exceeded memory limit (197156864 > 157286400), being killed",
            "    srun: error: n1: task 0: Killed",
            "",
        ]
    assert told(followed, capsys)[2:5] == ["[a] (2 attempts), log: logs/a.log, outer.log", *said[1:3]]


def test_of_a_store_the_log_that_lies_here_is_shown(followed, capsys):
    write("logs/a.log", "ValueError: a is wrong\n[a] failed, log logs/a.log: ValueError: a is wrong\n")
    log = "s3://lab/logs/run/logs/a.log (send to storage)"
    say(followed, LogEvent.JOB_ERROR, jobid=1, rule_name="r", log=[log])
    assert told(followed, capsys)[2:4] == ["[a], log: logs/a.log", "    ValueError: a is wrong"]
    say(followed, LogEvent.JOB_INFO, jobid=1, log=[log])
    assert not os.path.exists("logs/a.log")


def test_of_a_group_the_jobs_are_named_that_failed(followed, capsys):
    outer = write("outer.log", "[b] failed, log logs/b.log: ValueError: b is wrong\n")
    names = dict(enumerate("abc"))
    for job, name in names.items():
        begin(followed, job, name)
    write("logs/a.log", "[a] 3.0 s, 100 MiB\n")
    write("logs/b.log", "ValueError: b is wrong\n[b] failed, log logs/b.log: ValueError: b is wrong\n")
    jobs = [{"jobid": job, "rule_name": "r", "log": [f"logs/{name}.log"]} for job, name in names.items()]
    say(followed, LogEvent.GROUP_ERROR, aux_logs=[outer], job_error_info=jobs)
    for job, name in names.items():
        error(followed, job, name)
    said = told(followed, capsys)
    assert said[1:4] == ["1 job failed:", "[b], log: logs/b.log, outer.log", "    ValueError: b is wrong"]


def test_a_group_that_did_not_begin_is_not_passed_over(followed, capsys):
    outer = write("outer.log", "slurm_script: 4: /opt/none/python3: not found\n")
    begin(followed, 1, "a")
    jobs = [{"jobid": 1, "rule_name": "r", "log": ["logs/a.log"]}]
    say(followed, LogEvent.GROUP_ERROR, aux_logs=[outer], job_error_info=jobs)
    error(followed, 1, "a")
    assert "    slurm_script: 4: /opt/none/python3: not found" in told(followed, capsys)


def test_of_many_failures_ten_are_shown_and_the_others_named(followed, capsys):
    for job in range(12):
        begin(followed, job, f"j{job}")
        error(followed, job, f"j{job}")
    said = told(followed, capsys)
    assert sum(line.startswith("[j") for line in said) == 10
    assert said[-2] == "and 2 more, logs: logs/j10.log, logs/j11.log"


def test_a_run_with_failures_ends_with_them(project: Project):
    """Of two figures, one has an error and one is killed."""
    raised, killed = "src/attriflow/figures/dimension.py", "src/attriflow/figures/heatmaps.py"
    for name, line in ((raised, 'raise ValueError("no such axis")'), (killed, "import os; os.kill(os.getpid(), 9)")):
        path = project.folder / name
        path.write_text(path.read_text().replace("\ndef draw(", f"\ndef draw(*_, **__):\n    {line}\n\n\ndef _drawn("))
    (project.folder / "logs/figures/heatmaps.log").write_text("[figures/heatmaps] of the last success\n")
    failed = project.snakemake("--keep-going", check=False)
    assert failed.returncode == 1
    last = (failed.stdout + failed.stderr).split("At least one job did not complete successfully.\n")[1]
    assert "2 jobs failed:" in last
    assert "    ValueError: no such axis\n" in last
    assert "[figures/dimension], log: logs/figures/dimension.log" in last
    assert "(exit status 137): unless somebody killed it, memory ran out" in last
    assert "of the last success" not in last
    assert last.rstrip().endswith("run the same command again: what was finished is kept.")
