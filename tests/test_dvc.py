"""DVC and Snakemake agree: what one made, the other calls up to date, here and in a fresh clone."""

import json
import re
import shutil
import subprocess

import pandas as pd
import pytest
import yaml
from conftest import ROOT, Project
from project import TINY
from test_reruns import everything, prepared, scored

pytestmark = pytest.mark.slow


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


def outdated(project: Project) -> set[str]:
    """The stages that `dvc status` names, but for that of the plan, whose dependencies DVC cannot see."""
    named = json.loads(project.run("dvc", "status", "--json").stdout)
    assert named.pop("plan") == ["always changed"]
    return set(named)


def record(project: Project, *, check: bool = True) -> subprocess.CompletedProcess:
    return project.run("python", "workflow/commands/record.py", check=check)


def refused(project: Project) -> str:
    """The one line with which `make record` refuses; it changes nothing."""
    lock = project.folder / "dvc.lock"
    before = lock.read_bytes() if lock.exists() else None
    done = record(project, check=False)
    assert done.returncode == 1
    assert (lock.read_bytes() if lock.exists() else None) == before
    (line,) = done.stderr.splitlines()
    assert line.startswith("record: ") and line.endswith("; nothing was recorded")
    return line


def test_a_recorded_run_is_clean_for_dvc_and_repro_runs_nothing_but_the_plan(recorded):
    assert outdated(recorded) == set()
    done = recorded.run("dvc", "repro")
    assert re.findall(r"Running stage '(\w+)'", done.stdout) == ["plan"]
    assert recorded.planned() == set()
    assert recorded.git("status", "--porcelain").stdout == ""


def test_after_clone_and_pull_nothing_is_left_to_do(clone):
    done = clone.make("pull")
    assert "Nothing to be done" in done.stdout + done.stderr
    assert "metadata" not in done.stdout + done.stderr  # Snakemake's own, which are not there and which nobody misses
    assert outdated(clone) == set()
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
    assert outdated(clone) == set()


def test_repro_alone_makes_everything(finished, tmp_path):
    project = finished.copy(tmp_path / "alone")
    shutil.rmtree(project.folder / "results")
    shutil.rmtree(project.folder / "specs")
    shutil.rmtree(project.folder / ".snakemake")
    project.git("init", "-q")
    project.run("dvc", "repro")
    assert project.planned() == set()
    assert outdated(project) == set()
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
    assert outdated(clone) == set()


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


# --- results of every study ----------------------------------------------------------------------------------

SMALL = """
study: small
methods: {small: {kind: grad_dot, target: margin}}
run: {methods: [small], figures: [lds_by_method]}
"""
TABLE = "results/evaluation/small/summary.csv"


@pytest.fixture(scope="module")
def two_studies(recorded, tmp_path_factory) -> Project:
    """The recorded project after another study, of which nothing is recorded yet."""
    project = recorded.copy(tmp_path_factory.mktemp("two") / "project")
    (project.folder / "studies").mkdir()
    (project.folder / "studies/small.yaml").write_text(SMALL)
    project.snakemake("evaluation", "--configfile", "studies/small.yaml")
    project.snakemake()
    return project


@pytest.fixture
def second(two_studies, tmp_path) -> Project:
    return two_studies.copy(tmp_path / "second")


def alter(path):
    """Change a digit of a table, whose size stays."""
    content = path.read_text()
    place = content.rindex("0.") + 2
    path.write_text(content[:place] + str((int(content[place]) + 1) % 10) + content[place + 1 :])


def test_an_altered_table_of_another_study_is_not_recorded(second):
    alter(second.folder / TABLE)
    assert f"{TABLE} was altered after it was made" in refused(second)


def test_stale_results_of_another_study_are_not_recorded(second):
    second.edit("studies/small.yaml", "target: margin", "target: loss")
    line = refused(second)
    assert "results of study 'small' are not up to date (evaluation/small/" in line
    assert "run `make study NAME=small` first" in line and "or remove studies/small.yaml" in line
    (second.folder / "studies/small.yaml").unlink()
    assert f"removed {TABLE}: no study makes it" in record(second).stdout


def test_a_table_of_another_study_without_its_record_is_not_recorded(second):
    (second.folder / TABLE.replace(".csv", ".made.json")).unlink()
    assert "1 results of study 'small' are not up to date (evaluation/small/summary, ...)" in refused(second)


def test_a_pull_names_an_altered_table_of_another_study(second, tmp_path):
    alter(second.folder / TABLE)
    second.run("dvc", "commit", "--force", "--quiet")  # as somebody may who does not record
    second.git("add", "-A")
    second.git("commit", "-q", "-m", "altered")
    second.run("dvc", "push")
    other = tmp_path / "other"
    subprocess.run(["git", "clone", "-q", str(second.folder), str(other)], check=True)
    failed = Project(other).make("pull", check=False)
    assert failed.returncode == 2
    remedy = f"delete {TABLE.replace('.csv', '.made.json')} and run again"
    assert f"{TABLE} was altered after it was made (its SHA-256 is another); {remedy}" in failed.stderr


def test_a_finished_study_is_recorded_with_the_default_one(second):
    record(second)
    assert outdated(second) == set()


# --- what make record cannot do ------------------------------------------------------------------------------


def no_git(folder):
    shutil.rmtree(folder / ".git")


def no_dvc(folder):
    shutil.rmtree(folder / ".dvc")


def a_broken_study(folder):
    (folder / "studies").mkdir(exist_ok=True)
    (folder / "studies/broken.yaml").write_text("study: [broken\n")


def an_unknown_method(folder):
    (folder / "studies").mkdir(exist_ok=True)
    (folder / "studies/odd.yaml").write_text("study: odd\nrun: {methods: [none]}\n")


def linked_results(folder):
    (folder / "results").rename(folder / "elsewhere")
    (folder / "results").symlink_to("elsewhere")


def a_linked_room(folder):
    (folder / "results/models").rename(folder / "models")
    (folder / "results/models").symlink_to("../models")


def a_file_for_results(folder):
    shutil.rmtree(folder / "results")
    (folder / "results").write_text("")


def a_link_to_nothing(folder):
    shutil.rmtree(folder / "results/scores")
    (folder / "results/scores").symlink_to("gone")


IMPOSSIBLE = {
    no_git: "record: this folder is no git repository, by whose commits results are versioned; clone one, or",
    no_dvc: "record: this folder has no .dvc; get it from the repository",
    a_broken_study: "record: study 'broken': studies/broken.yaml: not YAML: ",
    an_unknown_method: "record: study 'odd': run.methods: unknown 'none'",
    linked_results: "record: results is a link to elsewhere, and DVC versions only what lies here itself",
    a_linked_room: "record: results/models is a link to ../models, and DVC",
    a_file_for_results: "record: results is a file, and a run writes to a folder of that name; move the file away",
    a_link_to_nothing: "record: results/scores is a link to gone",
}


@pytest.mark.parametrize("harm", IMPOSSIBLE, ids=lambda harm: harm.__name__)
def test_what_make_record_cannot_do_is_said_in_one_line(recorded, tmp_path, harm):
    project = recorded.copy(tmp_path / "project")
    harm(project.folder)
    assert refused(project).startswith(IMPOSSIBLE[harm])


def test_what_dvc_cannot_do_ends_without_a_traceback(recorded, tmp_path):
    """Such as when another DVC is at work."""
    project = recorded.copy(tmp_path / "project")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/dvc").write_text("#!/bin/sh\necho 'ERROR: Unable to acquire lock' >&2\nexit 255\n")
    (tmp_path / "bin/dvc").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{project.environment()['PATH']}"
    done = project.run("python", "workflow/commands/record.py", check=False, PATH=path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "ERROR: Unable to acquire lock",
        "record: DVC says above why it could not; mend that and record again; nothing was recorded",
    ]


# --- what the plan sees and DVC does not ---------------------------------------------------------------------


def test_repro_sees_what_dvc_does_not_look_at(tmp_path):
    """An edited plugin, which is in no list of dependencies."""
    project = Project.create(
        tmp_path / "project", TINY.replace("digits: {", "digits: {kind: ours, ", 1) + "plugins: mine"
    )
    (project.folder / "mine/data").mkdir(parents=True)
    shutil.copy(ROOT / "src/attriflow/data/digits.py", project.folder / "mine/data/ours.py")
    project.git("init", "-q")
    project.run("dvc", "repro", "data")
    again = project.run("dvc", "repro", "data")
    assert re.findall(r"Running stage '(\w+)'", again.stdout) == ["plan"]
    with open(project.folder / "mine/data/ours.py", "a") as file:
        file.write("\n\ndef more():\n    return 1\n")
    edited = project.run("dvc", "repro", "data")
    assert re.findall(r"Running stage '(\w+)'", edited.stdout) == ["plan", "data"]
    assert project.planned("data") == set()


WIDER = ("trak: {proj_dim: [4, 8], damping: [0.1, 1.0]}", "trak: {proj_dim: [4, 8], damping: [0.1, 10.0]}")
TRAK = "digits_mlp.subsets.independent.trak"
ALONG = "results/evaluation/outcome.along.csv"


def lds(project: Project) -> float:
    """The best LDS of TRAK, read from the summary."""
    summary = pd.read_csv(project.folder / "results/evaluation/summary.csv")
    return summary.query("metric == 'lds' and output == 'loss' and method == 'trak' and ensemble_size == 2").value.max()


def compared(text: str) -> dict[str, dict]:
    """`dvc metrics diff --json` of the one file, of which keys are paths."""
    flat = {}

    def add(place: str, content: dict):
        for key, value in content.items():
            path = f"{place}.{key}".strip(".")
            add(path, value) if isinstance(value, dict) and "new" not in value else flat.update({path: value})

    add("", json.loads(text)["results/evaluation/outcome.json"])
    return flat


def drawn(text: str, revision: str) -> list[float]:
    """The dampings of TRAK that a Vega picture has for a revision."""
    rows = [row for row in json.loads(text)["data"]["values"] if row["rev"] == revision]
    return [float(row["value"]) for row in rows if (row["method"], row["hyperparameter"]) == ("trak", "damping")]


def test_metrics_and_plots_of_two_commits_name_the_method_and_both_values(clone):
    clone.run("dvc", "pull")
    before = lds(clone)
    clone.edit("config.yaml", *WIDER)
    clone.snakemake()
    clone.run("python", "workflow/commands/record.py")
    clone.git("commit", "-q", "-a", "-m", "wider")
    found = compared(clone.run("dvc", "metrics", "diff", "HEAD~1", "--json").stdout)
    assert found[f"{TRAK}.lds"]["old"] == pytest.approx(before, rel=1e-5)
    assert found[f"{TRAK}.lds"]["new"] == pytest.approx(lds(clone), rel=1e-5)
    assert not any(".grad_dot." in key for key in found)  # it did not change
    assert f"{TRAK}.lds" in clone.run("dvc", "metrics", "diff", "HEAD~1").stdout
    picture = clone.run("dvc", "plots", "diff", "HEAD~1", "--show-vega", "--targets", ALONG).stdout
    assert drawn(picture, "HEAD~1") == [0.1, 1.0]
    assert drawn(picture, "workspace") == [0.1, 10.0]
    assert "<DVC_METRIC" not in picture
    clone.run("dvc", "plots", "show")
    assert (clone.folder / "dvc_plots/index.html").stat().st_size > 1000
    assert "dvc_plots" not in clone.git("status", "--short").stdout


@pytest.mark.parametrize("where", [(), ("--temp",)], ids=["here", "in a folder of its own"])
def test_an_experiment_runs_what_the_edit_touches_and_can_be_compared_and_applied(clone, where):
    clone.run("dvc", "pull")
    clone.edit("config.yaml", *WIDER)
    expected = clone.planned()
    done = clone.run("dvc", "exp", "run", "--name", "wider", *where)
    assert set(re.findall(r"^\[([a-z].*?)\] [\d.]+ s, ", done.stdout + done.stderr, re.MULTILINE)) == expected
    clone.git("checkout", "-q", "config.yaml", "dvc.lock")
    clone.run("dvc", "checkout")
    assert clone.planned() == set()
    before = lds(clone)
    found = compared(clone.run("dvc", "metrics", "diff", "HEAD", "wider", "--json").stdout)
    assert found[f"{TRAK}.lds"]["old"] == pytest.approx(before, rel=1e-5)
    assert drawn(clone.run("dvc", "plots", "diff", "wider", "--show-vega", "--targets", ALONG).stdout, "wider") == [
        0.1,
        10.0,
    ]
    clone.run("dvc", "exp", "apply", "wider")
    assert clone.planned() == set()
    assert found[f"{TRAK}.lds"]["new"] == pytest.approx(lds(clone), rel=1e-5)


def test_an_experiment_may_set_a_grid_by_itself(clone):
    clone.run("dvc", "pull")
    clone.run("dvc", "exp", "run", "--name", "other", "--set-param", "config.yaml:methods.trak.damping=[0.1,10.0]")
    assert yaml.safe_load((clone.folder / "config.yaml").read_text())["methods"]["trak"]["damping"] == [0.1, 10.0]
    assert clone.planned() == set()
    done = clone.run("dvc", "exp", "run", "--set-param", "config.yaml:methods.trak.damping=[0.00001]", check=False)
    assert done.returncode != 0
    assert "methods.trak.damping[0]: must be a number of at least 0, not '1e-05'" in done.stdout + done.stderr


def test_two_studies_can_be_compared_without_a_commit(project):
    (project.folder / "studies").mkdir()
    wider = "study: wider\nmethods: {trak_wide: {kind: trak, proj_dim: 8, damping: [10.0]}}\n"
    (project.folder / "studies/wider.yaml").write_text(wider)
    project.snakemake("evaluation", "--configfile", "studies/wider.yaml")
    assert project.planned() == set()  # another name, other scores
    project.git("init", "-q")
    files = ["results/evaluation/outcome.json", "results/evaluation/wider/outcome.json"]
    shown = json.loads(project.run("dvc", "metrics", "show", "--json", *files).stdout)[""]["data"]
    first, second = (shown[file]["data"]["digits_mlp"]["subsets"]["independent"] for file in files)
    assert second.keys() - first.keys() == {"trak_wide"}
    assert second["trak_wide"]["at"] == "size=2 damping=10 proj_dim=8"


# --- the store -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_what_is_missing_to_move_results_is_said_with_what_to_do(clone, finished, tmp_path, verb):
    clone.run("dvc", "remote", "remove", "store")
    failed = clone.make(verb, check=False)
    assert failed.returncode == 2
    assert f"{verb}: no remote is named; once: dvc remote add --default --local store" in failed.stderr
    (clone.folder / "dvc.lock").unlink()
    assert (
        f"{verb}: dvc.lock is missing, so this commit has recorded no results" in clone.make(verb, check=False).stderr
    )
    assert (
        f"{verb}: this folder is no git repository" in finished.copy(tmp_path / "bare").make(verb, check=False).stderr
    )


def test_all_but_moving_results_works_without_dvc(project, tmp_path):
    """Its command fails where it is called, and its module where it is imported."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/dvc").write_text(f"#!/bin/sh\ntouch {tmp_path}/called\nexit 99\n")
    (tmp_path / "bin/dvc").chmod(0o755)
    (tmp_path / "poison").mkdir()
    (tmp_path / "poison/dvc.py").write_text("raise RuntimeError('DVC was imported')\n")
    project.edit("config.yaml", *WIDER)
    path = f"{tmp_path / 'bin'}:{project.environment()['PATH']}"
    done = project.run("make", "-o", ".venv/.installed", "run", PATH=path, PYTHONPATH=str(tmp_path / "poison"))
    assert "trak" in done.stdout
    assert project.planned() == set()
    assert not (tmp_path / "called").exists()


def test_nothing_of_ours_imports_dvc():
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow").rglob("*.py")]:
        assert not re.search(r"^\s*(import|from) dvc\b", path.read_text(), re.MULTILINE), path


def test_every_room_has_a_stage_that_waits_for_what_its_jobs_read():
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
