"""Results that DVC fetches: some are missing, altered, or of another commit."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from project import Project

from drills.harness import WAITING, Place, change, content, drill, flip, line, refused, same


@drill("the remote lacks one file; make repro, which makes its room anew, make record, make push: another clone pulls")
def object_missing(place: Place) -> str:
    project = clone(place)
    stored(place, project, f"{WAITING}.npz").unlink()
    said = refused(project.make("pull", check=False))
    project.make("repro")
    same(project, place.finished)
    project.make("record")
    project.git("commit", "-q", "-a", "-m", "made anew")
    project.make("push")
    other = clone(place, project)
    other.make("pull")
    same(other, place.finished)
    return line(said, "results/scores: not fetched", "make repro")


@drill("a bit flips in a file of the remote; delete what make pull says, run again")
def object_altered(place: Place) -> str:
    project = clone(place)
    flip(stored(place, project, f"{WAITING}.npz"))
    said = refused(project.make("pull", check=False))
    (project.folder / f"{WAITING}.made.json").unlink()
    project.snakemake()
    same(project, place.finished)
    project.make("record")
    return line(said, f"{WAITING}.npz was altered after it was made", f"delete {WAITING}.made.json and run again")


@drill(
    "another study's table is altered, and dvc commit takes it; delete what make record and make pull say, run again"
)
def another_study_altered(place: Place) -> str:
    project, study = clone(place), ("evaluation", "--configfile", "studies/other.yaml")
    project.make("pull")
    (project.folder / "studies").mkdir()
    (project.folder / "studies/other.yaml").write_text("study: other\nrun: {methods: [grad_dot]}\n")
    project.snakemake(*study)
    project.snakemake()
    table, made = (project.folder / f"results/evaluation/other/summary.{ending}" for ending in ("csv", "made.json"))
    before = content(table)
    flip(table)
    words = ("other/summary.csv was altered after it was made", "delete results/evaluation/other/summary.made.json")
    said = line(refused(project.make("record", check=False)), *words)
    project.run("dvc", "commit", "--force", "--quiet")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "an altered table")
    project.make("push")
    line(refused(clone(place, project).make("pull", check=False)), *words)
    made.unlink()
    project.snakemake(*study)
    project.make("record")
    assert content(table) == before, "made again with other numbers"
    return said


@drill("the remote is gone; once it is back, make pull")
def remote_gone(place: Place) -> str:
    project = clone(place)
    store = remote(project)
    store.rename(store.with_name("elsewhere"))
    said = refused(project.make("pull", check=False))
    store.with_name("elsewhere").rename(store)
    project.make("pull")
    same(project, place.finished)
    return line(said, "results/data, ", "not fetched", "make pull")


@drill("no remote was ever named; name it, make pull")
def remote_unnamed(place: Place) -> str:
    project = clone(place)
    store = remote(project)
    for where in ("--local", "--project"):
        project.run("dvc", "remote", "remove", where, "store")
    said = refused(project.make("pull", check=False))
    project.run("dvc", "remote", "add", "--default", "--local", "store", str(store))
    project.make("pull")
    same(project, place.finished)
    return line(said, "no remote is named", "dvc remote add")


@drill("another commit is checked out, its results are not: run again; or dvc checkout")
def another_commit(place: Place) -> str:
    project = place.copy(place.recorded)
    expected, jobs = place.changed
    project.git("checkout", "-q", "-b", "other")
    change(project)
    project.git("commit", "-q", "-a", "-m", "another value")
    assert project.planned() == jobs
    project.snakemake()
    same(project, expected)
    project.make("record")
    project.git("commit", "-q", "-a", "-m", "its results")
    project.git("checkout", "-q", "-")
    assert project.planned() == jobs
    project.run("dvc", "checkout")
    return same(project, place.finished)


def clone(place: Place, origin: Project | None = None) -> Project:
    """A fresh clone without results of the recorded project, or of another, and a copy of its remote."""
    origin = origin or place.recorded
    project, store = Project(place.new_folder()), place.new_folder()
    subprocess.run(["git", "clone", "-q", str(origin.folder), str(project.folder)], check=True)
    shutil.copytree(remote(origin), store)
    project.run("dvc", "remote", "modify", "--local", "store", "url", str(store))
    return project


def remote(project: Project) -> Path:
    """The folder that a project sends its results to."""
    return Path(project.run("dvc", "remote", "list").stdout.split()[1])


def stored(place: Place, project: Project, name: str) -> Path:
    """The file in a project's remote that is this result of the recorded project: DVC names it by its MD5."""
    found = hashlib.md5((place.recorded.folder / name).read_bytes()).hexdigest()
    return remote(project) / "files/md5" / found[:2] / found[2:]
