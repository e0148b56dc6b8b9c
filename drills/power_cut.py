"""What a power cut leaves half written is made again, or refused; leftovers of tools do no harm."""

import json
import os
import shutil
from base64 import urlsafe_b64encode
from pathlib import Path

from project import Project

from drills.harness import SCORES, WAITING, Place, drill, failing, line, locked, refused, same

# one file of every kind: of the data, a model, its metrics, a measurement and a figure
KINDS = (
    "results/data/digits.npz",
    "results/models/digits_mlp/full-0.pt",
    "results/models/digits_mlp/full-1.json",
    "results/evaluation/summary.csv",
    "results/figures/lds_by_method.png",
)


@drill("outputs cut short, one of every kind (npz, pt, json, csv, png); run again")
def truncated_outputs(place: Place) -> str:
    project = place.copy()
    for name in KINDS:
        cut(project, name, 0.5)
    assert {stem(name) for name in KINDS} <= project.planned()
    project.snakemake()
    return same(project, place.finished)


@drill("an array and a checkpoint without a byte; run again")
def empty_outputs(place: Place) -> str:
    project = place.copy()
    names = (f"{SCORES}/grad_dot/epoch=last+parameters=all+target=loss.npz", "results/models/digits_mlp/full-1.pt")
    for name in names:
        cut(project, name, 0)
    assert {stem(name) for name in names} <= project.planned()
    project.snakemake()
    return same(project, place.finished)


@drill("an array of the right length whose content never reached the disk; delete what the error says, run again")
def blank_output(place: Place) -> str:
    project = place.unfinished()
    path = project.folder / f"{WAITING}/0.npz"
    path.write_bytes(bytes(path.stat().st_size))
    said = line(failing(project), f"{WAITING}/0.npz was altered after it was made", f"delete {WAITING}/0.made.json")
    (project.folder / f"{WAITING}/0.made.json").unlink()
    project.snakemake()
    same(project, place.finished)
    return said


@drill("a made file without a byte, one half written, one cut within its last line; run again")
def truncated_made_files(place: Place) -> str:
    project = place.copy()
    names = (WAITING, f"{WAITING}/1", "results/evaluation/summary")
    for name, share in zip(names, (0, 0.5, 0.99), strict=True):
        cut(project, f"{name}.made.json", share)
    assert {stem(name) for name in names} <= project.planned()
    project.snakemake()
    return same(project, place.finished)


@drill("specs cut short, without a byte, and gone")
def truncated_specs(place: Place) -> str:
    project = place.copy()
    cut(project, "specs/default/data/digits.json", 0.5)
    cut(project, "specs/default/evaluation/summary.json", 0)
    shutil.rmtree(project.folder / "specs/default/scores")
    return same(project, place.finished)


@drill("Snakemake's lock is left over; make unlock")
def stale_lock(place: Place) -> str:
    project = place.unfinished()
    folder = project.folder / ".snakemake/locks"
    folder.mkdir(exist_ok=True)
    for kind in ("input", "output"):
        (folder / f"0.{kind}.lock").write_text(f"{WAITING}.npz\n")
    said = failing(project)
    project.make("unlock")
    project.snakemake()
    same(project, place.finished)
    return locked(said)


@drill("Snakemake marks finished results as incomplete; run again")
def incomplete_marks(place: Place) -> str:
    project = place.copy()
    name = f"{WAITING}.npz"
    (project.folder / ".snakemake/incomplete" / urlsafe_b64encode(name.encode()).decode()).touch()
    assert stem(name) in project.planned()
    project.snakemake()
    return same(project, place.finished)


@drill("Snakemake's own records are gone or damaged")
def lost_records(place: Place) -> str:
    project = place.copy()
    for path in sorted((project.folder / ".snakemake/metadata").iterdir())[::2]:
        path.write_bytes(path.read_bytes()[:20])
    same(project, place.finished)
    shutil.rmtree(project.folder / ".snakemake")
    return same(project, place.finished)


@drill("temporary files of killed jobs lie about: beside results to be made, and beside finished ones (make record)")
def partial_files(place: Place) -> str:
    project = place.unfinished(place.recorded)
    left = [f".{Path(WAITING).name}.npz.99.partial", f".{Path(WAITING).name}.made.json.99.partial"]
    beside = project.folder / "results/models/digits_mlp/.full-0.pt.99.partial"
    for path in (*((project.folder / WAITING).with_name(name) for name in left), beside):
        path.write_bytes(b"half a fi")
    project.snakemake()
    assert beside.exists()
    project.make("record")
    return same(project, place.finished)


@drill("DVC's locks are left over by processes that are gone; dvc repro")
def stale_dvc_locks(place: Place) -> str:
    project = place.unfinished(place.recorded)
    folder = project.folder / ".dvc/tmp"
    gone = {"pid": 2**22 + 1, "cmd": "dvc repro"}  # above the largest process number
    writing = {str(project.folder / "results" / room): gone for room in ("scores", "evaluation")}
    (folder / "rwlock").write_text(json.dumps({"write": writing}))
    (folder / "lock").touch()
    project.make("repro")
    assert "up to date" in project.run("dvc", "status").stdout
    return same(project, place.finished)


@drill("dvc.lock is cut short; put it back from git")
def truncated_dvc_lock(place: Place) -> str:
    project = place.copy(place.recorded)
    cut(project, "dvc.lock", 0.5)
    said = refused(project.run("dvc", "status", check=False))
    project.git("checkout", "-q", "dvc.lock")
    assert "up to date" in project.run("dvc", "status").stdout
    same(project, place.finished)
    return line(said, "dvc.lock")


def cut(project: Project, name: str, share: float):
    """Keep the first part of a file."""
    path = project.folder / name
    os.truncate(path, int(path.stat().st_size * share))


def stem(name: str) -> str:
    """The job that made a result."""
    without = name.removeprefix("results/")
    return (
        without if Path(without).suffix not in (".npz", ".pt", ".json", ".csv", ".png") else without.rsplit(".", 1)[0]
    )
