"""What the commands that version results share: what must be there first, and which results are not what was made."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, "src")

import folders

from attriflow import provenance
from attriflow.config import ConfigError
from attriflow.plan import Plan
from attriflow.registry import ROOMS
from attriflow.study import names, plan_of

ROOT = Path()


def missing() -> str | None:
    """What DVC needs and is not there, with what to do; None where all is there."""
    if shutil.which("dvc") is None:
        return "DVC is not installed; everything can be made without it (`make`), to move results: pip install dvc"
    if shutil.which("git") is None:
        return "git is not installed, by whose commits results are versioned"
    if subprocess.run(["git", "rev-parse", "--git-dir"], capture_output=True).returncode:
        return "this folder is no git repository, by whose commits results are versioned; clone one, or `git init`"
    if not Path(".dvc").is_dir():
        return "this folder has no .dvc; get it from the repository (`git checkout .dvc`), or `dvc init`"
    linked = [folder for folder in (Path("results"), *(Path("results", room) for room in ROOMS)) if folder.is_symlink()]
    if linked:
        return (
            f"{linked[0]} is a link to {os.readlink(linked[0])}, and DVC versions only what lies here itself; "
            "put the folder in the link's place, or the whole project to where there is space"
        )
    return None


def plans() -> dict[str, Plan]:
    """The plan of every study, the default first. Raises ConfigError that names the study."""
    found = {}
    for study in ("default", *names(ROOT)):
        try:
            found[study] = plan_of(ROOT, study)
        except ConfigError as error:
            raise ConfigError([f"study '{study}': {line}" for line in error.errors]) from error
    return found


def records() -> list[Path]:
    """The records of all results that lie here, of whatever study."""
    return sorted(path for room in ROOMS for path in Path("results", room).rglob("*.made.json"))


def wrong_results(made: Path) -> Iterator[str]:
    """A line for each result that is not, byte for byte, what its record says; or for a record that is none."""
    said = provenance.read(made)
    if said is None:
        yield f"{made} is altered, so nothing says what made the results beside it; delete it and run again"
        return
    for path in said["spec"]["outputs"].values():
        try:
            provenance.verify(Path(path), made, provenance.digest(said["spec"]))
        except ValueError as error:
            yield str(error)


def dvc(*arguments: str) -> int:
    """Run DVC, which says itself what went wrong; its exit status."""
    return subprocess.run(["dvc", *arguments], env=os.environ | folders.usable_caches()).returncode
