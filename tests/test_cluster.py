"""SLURM: what is asked of it, that its results are those of one machine, and that nothing hangs or is lost.

Tests marked `slurm` start one of their own (`slurm_here`); the others put stand-ins of its commands first in the path.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import slurm_here
from conftest import Project
from tables import same_tables

pytestmark = pytest.mark.slow

CLUSTER = (sys.executable, "workflow/commands/cluster.py")
# a small machine of tests: no waiting for a slow controller or a slow file system
QUICK = ("--slurm-init-seconds-before-status-checks=1", "--seconds-between-status-checks=1", "--latency-wait=10")


# --- what is refused, and the watch ------------------------------------------------------------------------------


@pytest.fixture
def commands(tmp_path) -> Path:
    """A folder of stand-ins for SLURM's commands: a queue without jobs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scancel"):
        stand_in(folder / name, "")
    return folder


def stand_in(path: Path, script: str):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def run(folder: Path, commands: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """The command with stand-ins, in a folder where `snakemake` is one, too."""
    script = Path(__file__).parent.parent / "workflow/commands/cluster.py"
    return subprocess.run(
        [sys.executable, str(script), *arguments], cwd=folder, capture_output=True, text=True, timeout=60,
        env=os.environ | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"} | environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as in the background of a script
    )  # fmt: skip


def test_snakemake_gets_the_profiles_and_the_arguments(tmp_path, commands):
    stand_in(commands / "snakemake", 'echo "$@"; exit 3')
    (tmp_path / "profiles/site").mkdir(parents=True)
    done = run(tmp_path, commands, "--configfile", "studies/mnist.yaml")
    assert done.returncode == 3
    given = done.stderr.split()
    assert given[:4] == ["--profile", "profiles/site", "--workflow-profile", "profiles/slurm"]
    assert given[4] == "--slurm-jobname-prefix" and given[5].startswith("attriflow-")
    assert given[6:] == ["--configfile", "studies/mnist.yaml"]


def test_a_machine_without_slurm_is_told_so(tmp_path, commands):
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent.parent / "workflow/commands/cluster.py")],
        cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "cluster: no sbatch, squeue, scancel here; run this on a node that submits jobs, or `make study`\n"
    )


def test_a_controller_that_does_not_answer_is_told_before_anything_is_submitted(tmp_path, commands):
    stand_in(commands / "squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    stand_in(commands / "snakemake", "touch started")
    done = run(tmp_path, commands)
    assert done.stderr == "cluster: SLURM does not answer (Unable to contact slurm controller); nothing was submitted\n"
    assert not (tmp_path / "started").exists()


def test_jobs_of_an_earlier_run_are_waited_for(tmp_path, commands):
    stand_in(commands / "snakemake", "touch started")
    (tmp_path / ".snakemake").mkdir()
    (tmp_path / ".snakemake/attriflow.cluster").write_text("attriflow-0a")
    stand_in(commands / "squeue", "echo '12 attriflow-0a_x'; echo '13 other'; echo '14 attriflow-0a_x'")
    done = run(tmp_path, commands)
    assert done.stderr == (
        "cluster: 2 jobs of an earlier run are in the queue: wait for them, or `scancel 12 14`; "
        "then `make unlock`, and run again\n"
    )
    assert not (tmp_path / "started").exists()


def test_a_run_whose_jobs_are_gone_is_stopped_with_a_word(tmp_path, commands):
    # a job is in the queue for a second; then Snakemake waits for it for ever, as when the answers are lost
    stand_in(commands / "snakemake", "trap 'echo cancelled; exit 1' INT; touch began; while :; do sleep 0.1; done")
    stand_in(
        commands / "squeue",
        "[ -e began ] && [ ! -e asked ] && touch asked && echo 7 $(cat .snakemake/attriflow.cluster)_x; exit 0",
    )
    done = run(tmp_path, commands, ATTRIFLOW_CLUSTER_PATIENCE="2")
    assert done.returncode == 1
    assert "cluster: SLURM has had no job of this run for 2 s, yet Snakemake waits for one" in done.stderr


def test_a_run_that_submits_nothing_yet_is_left_in_peace(tmp_path, commands):
    stand_in(commands / "snakemake", "sleep 3; echo done")
    done = run(tmp_path, commands, ATTRIFLOW_CLUSTER_PATIENCE="1")
    assert (done.returncode, done.stderr) == (0, "done\n")


# a job that waits, then another; Snakemake ends once it was asked often enough
QUEUE = """
echo x >> asked
n=$(cat .snakemake/attriflow.cluster 2>/dev/null) || exit 0
echo "7 ${n}_x PENDING Nodes required for job are DOWN, DRAINED or reserved"
echo "8 ${n}_x PENDING Nodes required for job are DOWN, DRAINED or reserved"
echo "9 ${n}_x RUNNING None"
"""


def test_why_jobs_wait_for_long_is_said_once(tmp_path, commands):
    stand_in(commands / "snakemake", "sleep 4; echo done")
    stand_in(commands / "squeue", QUEUE)
    quick = {"ATTRIFLOW_CLUSTER_PATIENCE": "2", "ATTRIFLOW_CLUSTER_WAITING": "1"}
    done = run(tmp_path, commands, **quick)
    assert len((tmp_path / "asked").read_text().split()) > 4
    (line,) = [line for line in done.stderr.splitlines() if line != "done"]
    assert re.fullmatch(
        r"cluster: 2 jobs have waited for [12] s, and SLURM's reason is: Nodes required for job are DOWN, DRAINED or "
        r"reserved \(`scontrol show job 7`, `sinfo --list-reasons`\)",
        line,
    )


def test_a_short_wait_is_no_news(tmp_path, commands):
    stand_in(commands / "snakemake", "sleep 2; echo done")
    stand_in(commands / "squeue", QUEUE)
    assert run(tmp_path, commands, ATTRIFLOW_CLUSTER_PATIENCE="2").stderr == "done\n"


# --- a real one --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """What the environment must hold for a SLURM of our own."""
    with slurm_here.slurm(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def squeue(environment: dict[str, str], form: str) -> list[list[str]]:
    """What SLURM knows of every job it has seen."""
    done = subprocess.run(
        ["squeue", "--noheader", "--states=all", f"--format={form}"],
        env=os.environ | environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [line.split() for line in done.stdout.splitlines()]


def gpus(environment: dict[str, str], number: str) -> str | None:
    """The GPUs that a job asked for."""
    done = subprocess.run(
        ["scontrol", "--oneliner", "show", "job", number],
        env=os.environ | environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = dict(word.split("=", 1) for word in done.stdout.split() if "=" in word)
    return said.get("TresPerJob")


def cancel_first(environment: dict[str, str], word: str, cancelled: list[str]):
    """Cancel the first job at work of a rule, once, as an administrator may."""
    for _ in range(1200):
        for number, state, comment in squeue(environment, "%i %T %k"):
            if state == "RUNNING" and word in comment:
                subprocess.run(["scancel", number], env=os.environ | environment, check=True)
                cancelled.append(number)
                return
        time.sleep(0.1)


@pytest.fixture(scope="module")
def submitted(slurm, finished, tmp_path_factory) -> tuple[Project, list[list[str]], list[str], str]:
    """A tiny study that ran through sbatch while one of its jobs was cancelled."""
    project = Project.create(tmp_path_factory.mktemp("submitted") / "project")
    cancelled: list[str] = []
    thread = threading.Thread(target=cancel_first, args=(slurm, "retrain", cancelled))
    thread.start()
    done = project.run(*CLUSTER, *QUICK, **slurm)
    thread.join()
    return project, squeue(slurm, "%i %T %C %m %l %k"), cancelled, done.stdout + done.stderr


@pytest.mark.slurm
def test_a_cluster_makes_what_one_machine_makes(submitted, finished):
    project = submitted[0]
    assert project.results() == finished.results()
    same_tables(project.folder, finished.folder)
    assert project.planned() == set()


@pytest.mark.slurm
def test_a_cancelled_job_is_tried_again_with_more(submitted):
    _, jobs, (cancelled,), said = submitted
    states = {number: state for number, state, *_ in jobs}
    assert states.pop(cancelled) == "CANCELLED"
    assert set(states.values()) == {"COMPLETED"}
    assert "Trying to restart job" in said
    asked = {number: int(memory.removesuffix("M")) for number, _, _, memory, *_ in jobs}
    assert asked[cancelled] * 2 in asked.values()


@pytest.mark.slurm
def test_small_jobs_share_jobs_of_the_cluster(submitted, finished):
    jobs = submitted[1]
    made = len(list((finished.folder / "results").rglob("*.made.json")))
    assert len(jobs) <= made / 2
    assert {cores for _, _, cores, *_ in jobs} == {"1"}
    assert all(int(memory.removesuffix("M")) >= 500 for _, _, _, memory, *_ in jobs)


@pytest.mark.slurm
def test_a_gpu_is_asked_for_where_the_config_names_one(slurm, tmp_path):
    project = Project.create(tmp_path / "project")
    project.edit("config.yaml", "seed: 0", "seed: 0\ndevice: cuda")
    known = {number for (number,) in squeue(slurm, "%i")}
    done = project.run(*CLUSTER, *QUICK, "--retries=0", "models", check=False, **slurm)
    asked = {
        number: (comment, gpus(slurm, number)) for number, comment in squeue(slurm, "%i %k") if number not in known
    }
    assert {found for comment, found in asked.values() if "train" in comment} == {"gres:gpu:1"}
    assert {found for comment, found in asked.values() if "dataset" in comment} == {None}
    import torch

    if not torch.cuda.is_available():
        assert done.returncode == 1 and "'cuda' asked for" in done.stdout + done.stderr


# sbatch as of a site on whose nodes the Python of the submitting node is not
NO_PYTHON = """
for word; do
  shift
  set -- "$@" "$(printf %s "$word" | sed 's#[^ =]*/python[0-9.]* -m snakemake#/none/python -m snakemake#')"
done
exec {sbatch} "$@"
"""


@pytest.mark.slurm
def test_of_a_job_that_could_not_begin_the_word_of_slurm_is_told_at_once_and_in_the_end(slurm, tmp_path):
    project = Project.create(tmp_path / "project")
    (tmp_path / "bin").mkdir()
    stand_in(tmp_path / "bin/sbatch", NO_PYTHON.format(sbatch=shutil.which("sbatch")))
    path = f"{tmp_path / 'bin'}{os.pathsep}{slurm['PATH']}"
    done = project.run(*CLUSTER, *QUICK, "--retries=0", "data", check=False, **slurm | {"PATH": path})
    assert done.returncode == 1
    before, last = (done.stdout + done.stderr).split("At least one job did not complete successfully.\n")
    for said in (before, last):
        assert re.search(
            r"\[data/digits\], log: logs/data/digits.log, \S+/slurm_logs/\S+\.log\n    .*python: not found", said
        )
    assert "Detailed failure reason unavailable" not in before
    assert "SLURM account" not in before  # guesses of one, which this cluster does not have
