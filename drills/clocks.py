"""Times of files mean nothing: a checkout, a wrong clock or `touch` runs nothing, a changed value exactly its jobs."""

import os
import random
import shutil
import time

from project import Project

from drills.harness import Place, change, drill, kept, made, same

YEAR = 365 * 86400  # seconds


@drill("every file has a random time, past or future, as after a checkout; then one value changes: its jobs alone run")
def shuffled_times(place: Place) -> str:
    project = place.copy()
    shuffle(project, -30 * YEAR, 10 * YEAR)
    same(project, place.finished)
    return changed_value(place, project)


@drill("the clock stood ten years ahead during a run, and is right again; then one value changes: its jobs alone run")
def clock_ahead(place: Place) -> str:
    project = place.copy()
    shuffle(project, 10 * YEAR, 10 * YEAR)
    same(project, place.finished)
    return changed_value(place, project)


@drill("the clock goes back in the middle of a study, so that new results are older than their inputs; run on")
def clock_set_back(place: Place) -> str:
    project = place.unfinished()
    before = made(project)
    shuffle(project, YEAR, 2 * YEAR)
    project.snakemake()
    kept(project, before)
    return same(project, place.finished)


@drill("a clone, with results that were copied into it without their times and without Snakemake's records")
def copied_without_times(place: Place) -> str:
    project = place.fresh()
    shutil.copytree(place.finished.folder / "results", project.folder / "results", copy_function=shutil.copyfile)
    return same(project, place.finished)


def changed_value(place: Place, project: Project) -> str:
    """Change one value: the same jobs run, and make the same numbers, as where no clock was wrong."""
    expected, jobs = place.changed
    change(project)
    assert project.planned() == jobs, f"other jobs than without the wrong times: {project.planned() ^ jobs}"
    project.snakemake()
    return same(project, expected)


def shuffle(project: Project, earliest: float, latest: float):
    """Give every file a time between these, in seconds from now."""
    chance = random.Random(0)
    for path in sorted(path for path in project.folder.rglob("*") if path.is_file()):
        seconds = time.time() + chance.uniform(earliest, latest)
        os.utime(path, (seconds, seconds))
