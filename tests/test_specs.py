"""Specs and records: what is up to date, number for number and byte for byte."""

import copy
import os
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT, TINY

from attriflow import provenance, specs, study
from attriflow.data import _raw
from attriflow.overlap import overlap
from attriflow.plan import Job, Source

SPENT = {"seconds": 1.0, "cpu_seconds": 1.0, "peak_mib": 1.0}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in, without a mirror."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(_raw.MIRROR, raising=False)
    return tmp_path


def digests(config: dict) -> dict[str, str]:
    return {stem: job.digest for stem, job in study.plan(ROOT, config).jobs.items()}


# --- numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("damping: [0.1, 1.0]", "damping: [0.1, 1]"),
        ("momentum: 0.9", "momentum: 0.9, weight_decay: 0"),
        ("momentum: 0.9", "momentum: 0.9, weight_decay: -0.0"),
        ("dropout: 0.1", "dropout: 1.0e-1"),
        ("damping: [0.01, 0.1]", "damping: [0.01, 0.10]"),
    ],
)
def test_a_number_written_in_another_way_is_the_same_everywhere(one, other):
    assert one in TINY
    assert digests(yaml.safe_load(TINY.replace(one, other))) == digests(yaml.safe_load(TINY))


def test_a_method_is_called_with_the_numbers_that_it_asks_for():
    config = yaml.safe_load(TINY.replace("damping: [0.1, 1.0]", "damping: [1, select]"))
    (job,) = (job for job in study.plan(ROOT, config).room("scores") if job.rule == "score" and "/trak/" in job.stem)
    damping, *_ = {point["damping"] for point in job.settings["cheap"]} - {"select"}
    assert isinstance(damping, float)
    assert {type(point["proj_dim"]) for point in job.settings["cheap"]} == {int}


# --- records -------------------------------------------------------------------------------------------------


@pytest.fixture
def jobs(folder) -> tuple[Job, Job]:
    """A job and one that reads what it made, both done."""
    first = Job("train", "models/a", {"damping": 1.0}, {"model": "pt"})
    second = Job("score", "scores/a", {}, {"scores": "npz"}, {"models": [Source(first, "model")]})
    record(first, b"weights")
    record(second, b"scores", **{first.path("model"): provenance.sha256(first.path("model"))})
    return first, second


def record(job: Job, content: bytes, **inputs: str):
    from pathlib import Path

    paths = {name: Path(job.path(name)) for name in job.outputs}
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    provenance.write(Path(job.made), job.spec, paths, SPENT, inputs=inputs)


def test_results_are_stale_once_an_input_holds_other_bytes_and_not_before(jobs):
    first, second = jobs
    assert specs.up_to_date(second)
    record(first, b"weights")  # made again, the same
    assert specs.up_to_date(second)
    record(first, b"Weights")  # of the same spec, on another processor
    assert specs.up_to_date(first)
    assert not specs.up_to_date(second)


def test_an_input_that_is_gone_makes_nothing_stale(jobs):
    os.unlink(jobs[0].made)
    assert specs.up_to_date(jobs[1])
    assert not specs.up_to_date(jobs[0])


def test_results_of_an_integer_are_not_those_of_a_number_with_a_point(jobs):
    first, _ = jobs
    same = Job(first.rule, first.stem, {"damping": 1.0}, first.outputs)
    other = Job(first.rule, first.stem, {"damping": 1}, first.outputs)
    assert specs.up_to_date(same)
    assert other.spec == first.spec and not specs.up_to_date(other)  # Python takes them for equal


DIES = """
import os, sys
from pathlib import Path
from attriflow import running
class Job:
    outputs = {"x": Path("results/a/b.npz")}
    def __init__(self, path, threads, device): ...
def main(job):
    job.outputs["x"].write_bytes(b"new")
    os._exit(9)
sys.argv = ["job", "spec.json"]
running.run(main, Job)
"""


def test_a_job_that_is_killed_leaves_no_record_of_earlier_results(folder):
    (folder / "results/a").mkdir(parents=True)
    (folder / "results/a/b.npz").write_bytes(b"old")
    provenance.write("results/a/b.made.json", {"job": "a/b"}, {"x": folder / "results/a/b.npz"}, SPENT)
    (folder / "spec.json").write_text('{"spec": {"job": "a/b"}}')
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    assert subprocess.run([sys.executable, "-c", DIES], env=environment).returncode == 9
    assert (folder / "results/a/b.npz").read_bytes() == b"new"
    assert not (folder / "results/a/b.made.json").exists()


def test_a_record_says_where_its_results_were_made():
    from attriflow.running import machine

    said = machine(3)
    assert said["python"] == sys.version.split()[0]
    assert said["threads"] == 3
    assert said["processor"] and said["platform"] and said["device"]


# --- raw files whose sum is not pinned -----------------------------------------------------------------------

LOADER = '''
"""Numbers in one file."""
FILES = {"own.npy": None}
EXAMPLES = 100
ASK = "ask them"

def load(folder):
    """Never called here."""
'''


@pytest.fixture
def own(folder) -> dict:
    """A config whose data are one raw file that is not pinned."""
    (folder / "mine/data").mkdir(parents=True)
    (folder / "mine/data/own.py").write_text(LOADER)
    text = TINY.replace("digits: {train: 60", "own: {train: 60").replace("dataset: digits", "dataset: own")
    return yaml.safe_load(text) | {"plugins": "mine"}


def test_what_a_mirror_holds_is_known_before_it_is_copied(own, folder, monkeypatch):
    mirror, raw = folder / "mirror/own/own.npy", folder / "data/raw/own/own.npy"
    for path in (mirror, raw):
        path.parent.mkdir(parents=True)
    mirror.write_bytes(b"one")
    monkeypatch.setenv(_raw.MIRROR, str(folder / "mirror"))
    before = digests(own)
    _raw.fetch("own", {"own.npy": None}, ())
    assert raw.read_bytes() == b"one"
    assert digests(own) == before  # a second run does nothing
    monkeypatch.delenv(_raw.MIRROR)
    assert digests(own) == before
    raw.write_bytes(b"two")
    assert all(digests(own)[stem] != digest for stem, digest in before.items())


def test_a_mirror_with_another_file_than_was_copied_is_noticed_and_refused(own, folder, monkeypatch):
    for place, content in (("mirror/own", b"two"), ("data/raw/own", b"one")):
        (folder / place).mkdir(parents=True)
        (folder / place / "own.npy").write_bytes(content)
    copied = study.plan(ROOT, own).jobs["data/own"].settings["raw"]
    monkeypatch.setenv(_raw.MIRROR, str(folder / "mirror"))
    planned = study.plan(ROOT, own).jobs["data/own"].settings["raw"]
    assert planned != copied
    with pytest.raises(ValueError, match=r"own.npy is not the file that this job was planned with .* or ATTRIFLOW"):
        _raw.fetch("own", {"own.npy": None}, (), planned=planned)
    (folder / "data/raw/own/own.npy").unlink()
    _raw.fetch("own", {"own.npy": None}, (), planned=planned)
    assert (folder / "data/raw/own/own.npy").read_bytes() == b"two"


def test_a_clone_that_fetched_the_results_has_nothing_to_do(own, folder):
    raw = folder / "data/raw/own/own.npy"
    raw.parent.mkdir(parents=True)
    raw.write_bytes(b"one")
    plan = study.plan(ROOT, own)
    before, job = digests(own), plan.jobs["data/own"]
    record(job, b"data")
    raw.unlink()
    assert digests(own) == before


def test_a_file_that_a_hyperparameter_names_is_in_the_spec_by_its_sum(folder, monkeypatch):
    from attriflow import hyperparameters

    monkeypatch.setitem(hyperparameters.WORDS, "Path", (lambda value: isinstance(value, str), "a path"))
    (folder / "mine/data").mkdir(parents=True)
    (folder / "mine/data/tabled.py").write_text("EXAMPLES = 100\ndef load(folder, *, table: Path): ...\n")
    text = TINY.replace("digits: {train: 60", "tabled: {table: own.csv, train: 60").replace(
        "dataset: digits", "dataset: tabled"
    )
    config = yaml.safe_load(text) | {"plugins": "mine"}
    (folder / "own.csv").write_text("1,2\n")
    job = study.plan(ROOT, config).jobs["data/tabled"]
    assert job.spec["files"] == {"own.csv": provenance.sha256("own.csv")}
    (folder / "own.csv").write_text("1,3\n")
    assert study.plan(ROOT, config).jobs["data/tabled"].digest != job.digest


# --- studies -------------------------------------------------------------------------------------------------


def checked(text: str, **changes) -> dict:
    return study.plan(ROOT, yaml.safe_load(text) | changes).config


def test_studies_with_one_name_for_two_things_are_named_with_what_differs():
    mine = checked(TINY)
    assert overlap(mine, checked(TINY, study="other")) is None
    other = checked(
        TINY.replace("epochs: 4", "epochs: 5").replace("damping: [0.1, 1.0]", "damping: [0.2]"), study="other"
    )
    said = overlap(mine, other)
    assert "the studies 'default' and 'other' keep results under the same names but differ in" in said
    assert "settings.digits_mlp.recipe.epochs (4 here, 5 there)" in said
    assert "methods.trak.damping ([0.1, 1.0] here, [0.2] there)" in said


def test_costly_values_lie_side_by_side_and_what_one_study_alone_runs_is_its_own():
    mine, other = checked(TINY), checked(TINY.replace("digits_mlp", "digits_small").replace("epochs: 4", "epochs: 5"))
    assert overlap(mine, other) is None
    other = copy.deepcopy(mine)
    other["methods"]["influence"]["curvature"] = "ggn"
    assert overlap(mine, other) is None
