"""Nobody can write: the disk is full or read-only. What is there stays, and the file is named."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from drills.harness import WAITING, Place, SkippedError, drill, failing, held, kept, line, made, same

KIB = 1024


@drill("no space left for results; free some, run again")
def disk_full(place: Place) -> str:
    project = place.unfinished()
    before = made(project)
    with small_disk(project.folder / "results", free=8 * KIB) as grow:
        said = failing(project)
        assert not list((project.folder / "results").rglob("*.partial")), "something was left on a full disk"
        grow()
        project.snakemake()
        kept(project, before)
        same(project, place.finished)
    return line(said, "no space left to write results/", "free some and run again")


@drill("no space left for anything: specs, logs, Snakemake's records; free some, run again")
def whole_disk_full(place: Place) -> str:
    project = place.unfinished()
    before = made(project)
    with small_disk(project.folder, free=0) as grow:
        said = failing(project)
        grow()
        project.snakemake()
        kept(project, before)
        same(project, place.finished)
    return line(said, "no space left in", "free some and run again")


@drill("the whole disk fills up in the middle of a job; free some, make unlock, run again")
def disk_fills_up(place: Place) -> str:
    project = place.unfinished()
    before = made(project)
    with small_disk(project.folder, free=2048 * KIB) as grow:
        with held(project) as (running, _):
            fill(project.folder / "somebody_elses")
        said = running.failed()
        grow()
        project.make("unlock")
        project.snakemake()
        (project.folder / "somebody_elses").unlink()
        kept(project, before)
        same(project, place.finished)
    return line(said, "no space left to write results/", "free some and run again")


@drill("results are read-only; make them writable, run again")
def read_only(place: Place) -> str:
    project = place.unfinished()
    before = made(project)
    with read_only_disk(project.folder / "results"):
        said = failing(project)
    project.snakemake()
    kept(project, before)
    same(project, place.finished)
    return line(said, "results cannot be written", "make it writable and run again")


@drill("finished results on a read-only disk")
def read_only_and_finished(place: Place) -> str:
    project = place.copy()
    with read_only_disk(project.folder / "results"):
        project.snakemake()
        return same(project, place.finished)


@drill("finished results on a read-only disk, with the times of a checkout; make them writable, run again")
def read_only_and_older(place: Place) -> str:
    project = place.copy()
    os.utime(project.folder / f"{WAITING}.npz", (0, 0))
    with read_only_disk(project.folder / "results"):
        said = failing(project)
    before = made(project)
    project.snakemake()
    kept(project, before)
    same(project, place.finished)
    return line(said, f"{WAITING}.npz: its time cannot be set", "make it writable")


@contextlib.contextmanager
def small_disk(folder: Path, *, free: int) -> Iterator:
    """A folder's content on a disk of its own with so many bytes left; yields what makes it large."""
    beside = folder.with_name(f"{folder.name}.beside")
    folder.rename(beside)
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=64m", "drill", str(folder))
    try:
        shutil.copytree(beside, folder, dirs_exist_ok=True, symlinks=True)
        disk = os.statvfs(folder)
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        mount("-o", f"remount,size={used + free}", str(folder))
        yield lambda: mount("-o", "remount,size=64m", str(folder))
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        shutil.rmtree(beside)


@contextlib.contextmanager
def read_only_disk(folder: Path) -> Iterator[None]:
    """Nobody, root neither, can write to a folder."""
    mount("--bind", str(folder), str(folder))
    try:
        mount("-o", "remount,ro,bind", str(folder))
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path):
    """Write a file until the disk is full."""
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(bytes(KIB))


def mount(*arguments: str):
    """`mount ...`. Raises SkippedError where this user may not."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SkippedError(f"no mounts here: {done.stderr.strip()}")
