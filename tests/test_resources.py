"""Resources: what a job takes at most follows from its plan, and big jobs wait for each other instead of failing."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from project import DIGITS, Project

from attriflow import network, provenance, resources
from attriflow.memory import Size, passes
from attriflow.registry import Registry
from attriflow.study import plan_of

pytestmark = pytest.mark.slow

SCORES = "scores/digits_mlp/independent"
TRAK = f"{SCORES}/trak/projection=gaussian+epoch=last+parameters=all/0"
UNSAID = 'def prepare(member, split):\n    return {}\n\n\ndef score(members):\n    """None."""\n'


def plan(project, monkeypatch):
    """The plan of a project, whose folder becomes the current one: paths are relative to it."""
    monkeypatch.chdir(project.folder)
    return plan_of(Path())


def test_no_job_of_a_run_takes_more_than_was_estimated_and_none_a_multiple_of_it(finished, monkeypatch):
    made = plan(finished, monkeypatch)
    for job in made.jobs.values():
        if job.rule in ("dataset", "ensemble", "draw"):
            continue
        taken = provenance.read(Path(job.made))["cost"]["peak_mib"] * 2**20 / 10**6
        assert taken <= resources.megabytes(job, made.registry) <= 3 * taken + 400, job.stem


@pytest.mark.parametrize(
    ("kind", "hyperparameters", "grows"),
    [
        ("grad_dot", {}, {"n": 2, "m": 2, "factors": 2}),
        ("influence", {"curvature": "hessian"}, {"n": 2, "p": 2}),
        ("influence_cg", {"iterations": 5}, {"n": 2, "m": 2, "p": 2}),
        ("trak", {"proj_dim": 64}, {"n": 2, "m": 2}),
        ("logra", {"rank": 16}, {"n": 2, "m": 2}),
    ],
)
def test_prepare_takes_more_for_a_larger_problem(finished, monkeypatch, kind, hyperparameters, grows):
    made = plan(finished, monkeypatch)
    job = made.jobs[TRAK]
    settings = job.settings | {"kind": kind, "hyperparameters": hyperparameters}
    size = Size(n=5000, m=500, p=50_000, t=2, layers=3, factors=1000, activations=500, columns=9)

    def estimate(size: Size, **more) -> int:
        monkeypatch.setattr(network, "size", lambda *_: size)
        changed = replace(job, settings=settings | {"hyperparameters": hyperparameters | more})
        return resources.megabytes(changed, made.registry)

    for axis, factor in grows.items():
        assert estimate(replace(size, **{axis: factor * getattr(size, axis)})) > estimate(size), axis
    for name, value in hyperparameters.items():
        if isinstance(value, int):
            assert estimate(size, **{name: 4 * value}) > estimate(size), name


def test_a_method_that_says_nothing_gets_a_stated_default(finished, monkeypatch, tmp_path):
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores/silent.py").write_text(UNSAID)
    made = plan(finished, monkeypatch)
    job = made.jobs[TRAK]
    silent = replace(job, settings=job.settings | {"kind": "silent", "hyperparameters": {}})
    assert 4400 <= resources.megabytes(silent, Registry(tmp_path)) < 4500


def test_an_input_that_is_missing_or_of_another_plan_is_named(project, monkeypatch):
    made = plan(project, monkeypatch)
    data = project.folder / "results/data/digits.npz"
    kept = data.read_bytes()
    data.write_bytes(kept[:-100])
    for stem in (TRAK, "models/digits_mlp/full-0", "ground_truth/digits_mlp/subsets/0.0"):
        with pytest.raises(FileNotFoundError) as caught:
            resources.megabytes(made.jobs[stem], made.registry)
        assert caught.value.filename == "results/data/digits.npz"
    data.write_bytes(kept)
    (project.folder / f"results/{TRAK}.npz").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        resources.megabytes(made.jobs[TRAK.removesuffix("/0")], made.registry)
    assert caught.value.filename == f"results/{TRAK}.npz"


MODEL = """
from torch import nn

{0}

def build(shape, classes):
    {1}
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
"""
UNMEASURABLE = {
    "a refusal": ("", "raise ValueError('no such model')", "ValueError: no such model"),
    "a file of its own that is not there": ("", "open('nowhere')", "FileNotFoundError: [Errno 2] No such file"),
    "an import": ("import nothing_of_the_kind", "", "ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
    "another shape": ("", "return nn.Linear(3, classes)", "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
    "no parameters": ("", "return nn.Flatten()", "StopIteration:)"),
}


@pytest.mark.parametrize(("top", "line", "reason"), UNMEASURABLE.values(), ids=UNMEASURABLE)
def test_a_model_that_cannot_be_measured_gets_stated_defaults_and_its_reason_once(
    finished, monkeypatch, tmp_path, capsys, top, line, reason
):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mine.py").write_text(MODEL.format(top, line))
    made, registry = plan(finished, monkeypatch), Registry(tmp_path)
    monkeypatch.setattr(
        "sys.modules", {name: each for name, each in sys.modules.items() if "plugins.models" not in name}
    )
    for stem in (TRAK, "models/digits_mlp/full-0", "models/digits_mlp/full-1", "ground_truth/digits_mlp/subsets/0.0"):
        job = made.jobs[stem]
        job = replace(job, settings=job.settings | {"model": {"kind": "mine"}})
        assert resources.megabytes(job, registry) == 4400
        assert resources.minutes(job, registry) == 24 * 60
    said = capsys.readouterr().err
    assert said.count("cannot be estimated") == 1
    assert f"[{TRAK}] memory cannot be estimated ({reason}" in said
    assert "4400 MB are assumed" in said


@pytest.mark.parametrize(
    "formula", ["raise KeyError('n')", "return None", "return float('inf')", "return size.nothing"]
)
def test_a_formula_of_a_method_that_fails_gets_the_stated_default(finished, monkeypatch, tmp_path, formula):
    (tmp_path / "scores").mkdir()
    text = f"{UNSAID}\n\ndef memory(size):\n    {formula}\n\n\ndef passes(n, m):\n    {formula.replace('size', 'n')}\n"
    (tmp_path / "scores/failing.py").write_text(text)
    made = plan(finished, monkeypatch)
    monkeypatch.setattr(
        "sys.modules", {name: each for name, each in sys.modules.items() if "plugins.scores" not in name}
    )
    job = made.jobs[TRAK]
    failing = replace(job, settings=job.settings | {"kind": "failing", "hyperparameters": {}})
    assert resources.megabytes(failing, Registry(tmp_path)) == 4400
    assert resources.minutes(failing, Registry(tmp_path)) == 24 * 60


def test_no_job_of_a_run_takes_longer_than_it_may(finished, monkeypatch):
    made = plan(finished, monkeypatch)
    for job in made.jobs.values():
        if job.rule not in ("dataset", "ensemble", "draw"):
            assert 2 < resources.minutes(job, made.registry) <= 30, job.stem


def test_time_grows_with_what_a_job_does(finished, monkeypatch):
    made = plan(finished, monkeypatch)

    def minutes(stem: str, **settings) -> int:
        job = made.jobs[stem]
        return resources.minutes(replace(job, settings=job.settings | settings), made.registry)

    recipe = made.jobs["models/digits_mlp/full-0"].settings["recipe"]
    trained = [minutes("models/digits_mlp/full-0", recipe=recipe | {"epochs": epochs}) for epochs in (10**6, 2 * 10**6)]
    assert trained[1] - 2 == pytest.approx(2 * (trained[0] - 2), rel=0.01)
    retrain = "ground_truth/digits_mlp/subsets/0.0"
    runs = made.jobs[retrain].settings["runs"]
    many = [minutes(retrain, recipe=recipe | {"epochs": 10**6}, runs=runs * times) for times in (1, 4)]
    assert many[1] - 2 == pytest.approx(4 * (many[0] - 2), rel=0.01)


def test_iterative_methods_say_how_often_they_pass_the_training_examples():
    registry = Registry()
    assert passes(registry, "influence_cg", 100, 10, {"iterations": 20, "curvature": "ggn"}) == 400
    assert passes(registry, "influence_lissa", 100, 10, {"depth": 50, "batch": 20, "repeats": 2}) == 400
    assert passes(registry, "influence_arnoldi", 100, 10, {"iterations": 20}) == 40
    assert passes(registry, "grad_dot", 100, 10, {}) == 0


def test_planning_a_run_from_nothing_imports_no_torch_and_leaves_the_memory_open(project, tmp_path):
    """A torch that cannot be imported stands before the real one."""
    (tmp_path / "torch.py").write_text("raise ImportError('torch is imported')\n")
    for name in ("results", "specs"):
        (project.folder / name).rename(tmp_path / name)
    listed = project.snakemake("--dry-run", "--quiet", "host", PYTHONPATH=str(tmp_path)).stdout
    assert "mem_mb=<TBD>" in listed.split("rule prepare:")[1].split("rule ")[0]
    project.snakemake("--lint", PYTHONPATH=str(tmp_path))


def test_a_run_tells_the_memory_of_its_jobs_once_their_inputs_are_there(project):
    listed = project.snakemake("--dry-run", "--forcerun", "prepare", "--quiet", "host").stdout
    figures = [line for line in listed.split("rule prepare:")[1].splitlines() if "resources:" in line]
    assert "mem_mb=<TBD>" not in figures[0]
    assert "mem_mb=" in figures[0]


def test_jobs_that_together_exceed_the_memory_run_one_after_the_other_and_end(project):
    project.edit("config.yaml", "damping: [0.1, 1.0]", "damping: [0.1, 2.0]")
    project.edit("config.yaml", "proj_dim: [4, 8]", "proj_dim: [4, 16]")
    project.snakemake("--resources", "mem_mb=100")
    assert project.planned() == set()


def test_a_job_that_alone_exceeds_the_memory_is_refused_with_the_numbers(project):
    folder = project.folder / "mine/scores"
    folder.mkdir(parents=True)
    (folder / "huge.py").write_text(UNSAID + "\n\ndef memory(size):\n    return 2**50 * size.n\n")
    project.edit("config.yaml", "seed: 0\n", "seed: 0\nplugins: mine\n")
    project.edit("config.yaml", "  grad_dot:\n", "  grad_dot:\n  huge:\n")
    failed = project.snakemake("--resources", "mem_mb=1000", "--keep-going", check=False)
    assert failed.returncode != 0
    assert "MemoryError: huge needs about 62914560.0 GiB for n = 60, m = 12" in failed.stderr
    assert "'grad_dot'" in failed.stderr


def test_what_free_memory_there_is_can_be_printed(project):
    assert int(project.run("python", "workflow/commands/memory.py").stdout) > 100


BAD = """
import numpy as np
from attriflow.data import Raw


def load(folder):
    random = np.random.default_rng(0)
    return Raw(random.normal(size=(90, 1, 4, 4)).astype(np.float32), random.integers(0, 3, 90) - 1)
"""


@pytest.mark.slow
def test_a_data_set_that_cannot_be_computed_with_stops_its_own_jobs_and_no_others(tmp_path):
    """Labels from -1 on, of which no loss can be taken."""
    project = Project.create(tmp_path, DIGITS)
    bad = "  bad: {train: 60, test: 12}\n"
    setting = "  bad_mlp: {dataset: bad, model: {kind: mlp}, recipe: {learning_rate: 0.1, batch_size: 16, epochs: 2}}\n"
    project.edit("config.yaml", "settings:\n", f"{bad}settings:\n{setting}")
    rest = "ground_truth: {}\nensembles: {independent: {count: 1}}\nmethods: {grad_dot: {}}\nplugins: mine\n"
    (tmp_path / "config.yaml").write_text((tmp_path / "config.yaml").read_text() + rest)
    (tmp_path / "mine/data").mkdir(parents=True)
    (tmp_path / "mine/data/bad.py").write_text(BAD)
    failed = project.snakemake("--keep-going", check=False)
    assert failed.returncode == 1
    assert list((tmp_path / "results/scores/digits_mlp").rglob("*.npz"))
    assert not list((tmp_path / "results/models/bad_mlp").glob("*.pt"))
