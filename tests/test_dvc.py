"""DVC and Snakemake agree: what one made, the other calls up to date, here and in a fresh clone."""

import re
import shutil
import subprocess

import pytest
from conftest import ROOT, Project
from test_reruns import everything, prepared, scored


@pytest.fixture(scope="module")
def recorded(finished, tmp_path_factory) -> Project:
    """A finished project under git, recorded with DVC and pushed to a folder beside it."""
    base = tmp_path_factory.mktemp("recorded")
    project = finished.copy(base / "project")
    project.git("init", "-q")
    project.run("dvc", "remote", "add", "--default", "store", str(base / "store"))
    project.run("python", "workflow/commands/record.py")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "results")
    project.run("dvc", "push")
    return project


@pytest.fixture
def clone(recorded, tmp_path) -> Project:
    """A fresh clone without results."""
    subprocess.run(["git", "clone", "-q", str(recorded.folder), str(tmp_path / "clone")], check=True)
    return Project(tmp_path / "clone")


def status(project: Project) -> str:
    return project.run("dvc", "status").stdout


def test_a_recorded_run_is_clean_for_dvc_and_repro_runs_nothing(recorded):
    assert "up to date" in status(recorded)
    done = recorded.run("dvc", "repro")
    assert "Running stage" not in done.stdout
    assert recorded.planned() == set()


def test_after_clone_and_pull_nothing_is_left_to_do(clone):
    done = clone.make("pull")
    assert "Nothing to be done" in done.stdout + done.stderr
    assert "up to date" in status(clone)
    assert clone.planned() == set()


def test_an_edit_before_the_pull_is_seen(clone):
    clone.edit("config.yaml", "influence: {damping: [0.01, 0.1]}", "influence: {damping: [0.01, 0.2]}")
    clone.run("dvc", "pull")
    assert clone.planned() == scored("influence")


def test_an_edit_of_code_after_the_pull_is_seen_and_a_reverted_one_is_not(clone):
    clone.run("dvc", "pull")
    clone.edit("src/attriflow/scores/trak.py", "damping * torch.eye", "2 * damping * torch.eye")
    assert clone.planned() == prepared("trak")
    clone.git("checkout", "-q", "src")
    assert clone.planned() == set()


def test_a_partial_pull_is_enough_to_look(clone):
    clone.run("dvc", "pull", "evaluation", "figures")
    assert clone.planned() == set()
    clone.edit("config.yaml", "seed: 0", "seed: 1")
    assert clone.planned() == everything(clone) | {
        stem
        for stem in clone.planned()
        if stem.split("/")[0] in ("data", "models", "ground_truth", "ensembles", "scores")
    }
    assert "data/digits" in clone.planned()


def test_repro_runs_what_snakemake_would_and_both_agree_afterwards(clone):
    clone.run("dvc", "pull")
    clone.edit("config.yaml", "influence: {damping: [0.01, 0.1]}", "influence: {damping: [0.01, 0.2]}")
    expected = clone.planned()
    before = {path: path.stat().st_mtime_ns for path in (clone.folder / "results").rglob("*.made.json")}
    clone.run("dvc", "repro")
    ran = {
        str(path.relative_to(clone.folder / "results")).removesuffix(".made.json")
        for path in (clone.folder / "results").rglob("*.made.json")
        if before.get(path) != path.stat().st_mtime_ns
    }
    assert ran == expected == scored("influence")
    assert clone.planned() == set()
    assert "up to date" in status(clone)


def test_repro_alone_makes_everything(finished, tmp_path):
    project = finished.copy(tmp_path / "alone")
    shutil.rmtree(project.folder / "results")
    shutil.rmtree(project.folder / "specs")
    shutil.rmtree(project.folder / ".snakemake")
    project.git("init", "-q")
    project.run("dvc", "repro")
    assert project.planned() == set()
    assert "up to date" in status(project)
    assert project.results() == finished.results()


def test_results_of_another_commit_under_this_config_are_seen(clone):
    clone.run("dvc", "pull")
    clone.edit("config.yaml", "influence: {damping: [0.01, 0.1]}", "influence: {damping: [0.01, 0.2]}")
    clone.snakemake()
    clone.run("python", "workflow/commands/record.py")
    clone.git("checkout", "-q", "-b", "other")
    clone.git("commit", "-q", "-a", "-m", "other damping")
    # back to the first commit's config with the other commit's results still there
    clone.git("checkout", "-q", "-")
    assert clone.planned() == scored("influence")
    clone.run("dvc", "checkout")
    assert clone.planned() == set()
    clone.git("checkout", "-q", "other")
    assert clone.planned() == scored("influence")
    clone.run("dvc", "checkout")
    assert clone.planned() == set()


def test_recording_drops_results_of_former_parameters(clone):
    clone.run("dvc", "pull")
    clone.edit("config.yaml", "  grad_dot:\n", "")
    clone.snakemake()
    (clone.folder / "results/scores/note.txt").write_text("left over")
    done = clone.run("python", "workflow/commands/record.py")
    assert "removed results/scores/note.txt: no study makes it" in done.stdout
    assert not (clone.folder / "results/scores/digits_mlp/independent/grad_dot").exists()
    assert "up to date" in status(clone)


def test_recording_refuses_results_that_are_not_up_to_date(clone):
    clone.run("dvc", "pull")
    clone.edit("config.yaml", "influence: {damping: [0.01, 0.1]}", "influence: {damping: [0.01, 0.2]}")
    lock = (clone.folder / "dvc.lock").read_text()
    done = clone.run("python", "workflow/commands/record.py", check=False)
    assert done.returncode != 0
    assert "jobs are not up to date" in done.stderr
    assert (clone.folder / "dvc.lock").read_text() == lock


def test_recording_refuses_while_a_workflow_runs(clone):
    clone.run("dvc", "pull")
    (clone.folder / ".snakemake/locks").mkdir(parents=True, exist_ok=True)
    (clone.folder / ".snakemake/locks/0.input.lock").write_text("")
    done = clone.run("python", "workflow/commands/record.py", check=False)
    assert "a workflow runs in this folder, or was killed" in done.stderr


def test_recording_refuses_an_altered_result(clone):
    clone.run("dvc", "pull")
    path = clone.folder / "results/evaluation/summary.csv"
    path.write_text(path.read_text().replace("0.1", "0.9", 1))
    done = clone.run("python", "workflow/commands/record.py", check=False)
    assert "results/evaluation/summary.csv was altered after it was made" in done.stderr


def test_every_room_has_a_stage_that_waits_for_what_its_jobs_read():
    import yaml

    from attriflow.registry import ROOMS
    from attriflow.study import plan_of

    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert list(stages) == ["plan", *ROOMS]
    plan = plan_of(ROOT)
    for room in ROOMS:
        read = {source.job.room for job in plan.room(room) for each in job.inputs.values() for source in each} - {room}
        assert set(stages[room]["deps"]) == {f"specs/default/{room}.json", *(f"results/{each}" for each in read)}
        rules = set(re.findall(r"^rule (\w+):", (ROOT / f"workflow/rules/{room}.smk").read_text(), re.MULTILINE))
        assert rules >= {room, *(job.rule for job in plan.room(room))}
        allowed = stages[room]["cmd"].split("--allowed-rules ")[1].split(" -- ")[0].split()
        assert set(allowed) == rules
