"""What is killed or interrupted goes on where it was: finished jobs are kept."""

import os
import signal
import time
from pathlib import Path

from project import Project

from drills.harness import (
    SAME,
    WAITING,
    Place,
    Running,
    drill,
    failing,
    held,
    kept,
    line,
    locked,
    made,
    processes,
    refused,
    same,
    until,
    waiting_job,
)


@drill("SIGKILL of a job in the middle of writing its result; run again")
def job_killed(place: Place) -> str:
    project = place.unfinished()
    before = made(project)
    with held(project) as (running, job):
        assert list((project.folder / WAITING).parent.glob(".*.partial")), "nothing was being written"
        os.kill(job, signal.SIGKILL)
        said = running.ended()
    assert running.process.returncode != 0
    finish(place, project, before)
    return line(said, "killed", "run again")


@drill("SIGKILL of the process that jobs are forked from; run again")
def forking_process_killed(place: Place) -> str:
    project = place.unfinished()
    before = made(project)
    with held(project) as (running, job):
        os.kill(parent(job), signal.SIGKILL)
        until(lambda: job not in processes(project.folder), "the job to end with the process that it was forked from")
        said = running.ended()
    assert running.process.returncode != 0
    finish(place, project, before)
    return line(said, "killed along with", "run again")


@drill("SIGKILL of snakemake alone, whose job goes on; make unlock, run again while it does")
def snakemake_killed(place: Place) -> str:
    project = place.unfinished()
    before = made(project)
    with held(project) as (running, orphan):
        running.kill()
        said = failing(project)
        project.make("unlock")
        again = Running(project)
        assert waiting_job(project, again) != orphan
    again.ended()
    until(lambda: orphan not in processes(project.folder), "the job without a snakemake to end")
    finish(place, project, before)
    return locked(said)


@drill("SIGKILL of snakemake and its jobs at once; make unlock, run again")
def snakemake_and_jobs_killed(place: Place) -> str:
    project = place.unfinished()
    before = made(project)
    with held(project) as (running, job):
        running.kill(group=True)
        until(lambda: job not in processes(project.folder), "the job to end with who asked for it")
    assert any((project.folder / ".snakemake/incomplete").iterdir()), "no mark of a job that was under way"
    said = failing(project)
    project.make("unlock")
    finish(place, project, before)
    return locked(said)


@drill("a new study, all of it killed every few seconds until it is through; make unlock each time")
def killed_again_and_again(place: Place) -> str:
    project, times, before = place.fresh(), 0, {}
    seconds = 6.0
    while True:
        running = Running(project)
        if ended(running, seconds):
            break
        running.kill(group=True)
        until(lambda: not processes(project.folder), "what was killed to end")
        project.make("unlock")
        now = made(project)
        lost = [name for name, content in before.items() if now.get(name) != content]
        assert len(lost) <= 2, (
            f"finished jobs were lost: {lost}"
        )  # Snakemake may not have heard of the last on each core
        seconds += 1.0 if len(now) == len(before) else 0.0  # a slow machine
        before, times = now, times + 1
    assert times, "it was through before it could be killed"
    same(project, place.finished)
    return f"{SAME}, killed {times} times"


@drill("SIGTERM of snakemake; run again")
def snakemake_terminated(place: Place) -> str:
    project = place.unfinished()
    before = made(project)
    with held(project) as (running, _):
        running.process.terminate()
        time.sleep(1)
        assert running.process.poll() is None, "it did not wait for its job"
    said = running.ended()
    assert running.process.returncode != 0
    finish(place, project, before)
    return line(said, "scheduler")


@drill("Ctrl-C; run again")
def interrupted(place: Place) -> str:
    project = place.unfinished()
    before = made(project)
    with held(project) as (running, job):
        said = running.kill(signal.SIGINT, group=True)
        until(lambda: job not in processes(project.folder), "the job to end")
    assert running.process.returncode != 0
    assert not list((project.folder / "results").rglob("*.partial")), "an interrupted job left something over"
    finish(place, project, before)
    return line(said, "interrupted")


@drill("SIGKILL of dvc repro alone, whose snakemake goes on to its end; dvc repro again")
def dvc_killed(place: Place) -> str:
    project = place.unfinished(place.recorded)
    before = made(project)
    with held(project, "dvc", "repro") as (running, _):
        running.kill()
    until(lambda: not processes(project.folder, "snakemake"), "the stage that dvc had begun to end")
    project.make("repro")
    tidy(project)
    kept(project, before)
    return same(project, place.finished)


@drill("SIGKILL of dvc repro and all that it started; make unlock, dvc repro again")
def dvc_and_jobs_killed(place: Place) -> str:
    project = place.unfinished(place.recorded)
    before = made(project)
    with held(project, "dvc", "repro") as (running, job):
        running.kill(group=True)
        until(lambda: job not in processes(project.folder), "the job to end with who asked for it")
    said = refused(project.make("repro", check=False))
    project.make("unlock")
    project.make("repro")
    tidy(project)
    kept(project, before)
    same(project, place.finished)
    return locked(said)


def finish(place: Place, project: Project, before: dict[str, bytes]):
    """Run again: the same numbers, and what had been done was not done again."""
    project.snakemake()
    kept(project, before)
    same(project, place.finished)


def tidy(project: Project):
    """DVC, too, has nothing to do."""
    assert "up to date" in project.run("dvc", "status").stdout


def ended(running: Running, seconds: float) -> bool:
    """Whether it ends well in so many seconds."""
    until_then = time.monotonic() + seconds
    while time.monotonic() < until_then:
        if running.process.poll() is not None:
            assert running.process.returncode == 0, running.output.read_text()
            return True
        time.sleep(0.05)
    return False


def parent(process: int) -> int:
    """Who started a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(each.split()[1]) for each in lines if each.startswith("PPid:"))
