"""Two runs at a time on one folder: what both would make is made by one of them, and the other says so."""

from project import Project

from drills.harness import Place, drill, failing, held, locked, refused, same

GRID = "methods: {waiting: {power: [0.5, 2.0]}}"
APART = "run: {methods: [grad_dot]}"


@drill("a run of a study that runs already; wait until that has ended")
def same_study_twice(place: Place) -> str:
    project = place.unfinished()
    with held(project) as (running, _):
        said = failing(project)
    running.succeeded()
    same(project, place.finished)
    return locked(said)


@drill("while a study runs, another one that gives the same scores another grid; wait, then run it, then the first")
def study_of_the_same_files(place: Place) -> str:
    expected = place.copy()
    other = study(expected, GRID)
    for arguments in (other, ()):
        expected.snakemake(*arguments)
    project = place.unfinished()
    study(project, GRID)
    with held(project) as (running, _):
        said = failing(project, *other)
    running.succeeded()
    same(project, place.finished)
    for arguments in (other, ()):
        project.snakemake(*arguments)
    same(project, expected)
    return locked(said)


@drill("while a study runs, another one that makes other files")
def study_of_other_files(place: Place) -> str:
    expected = place.copy()
    expected.snakemake(*study(expected, APART))
    project = place.unfinished()
    other = study(project, APART)
    with held(project) as (running, _):
        project.snakemake(*other)
    running.succeeded()
    same(project, expected)
    return same(project, expected, *other)


@drill("dvc repro while a study runs by snakemake; wait, then dvc repro")
def dvc_beside_snakemake(place: Place) -> str:
    project = place.unfinished(place.recorded)
    with held(project) as (running, _):
        said = refused(project.make("repro", check=False))
    running.succeeded()
    project.make("repro")
    same(project, place.finished)
    return locked(said)


def study(project: Project, text: str) -> tuple[str, str]:
    """A study of its own beside the default one; the arguments that run it."""
    (project.folder / "studies").mkdir()
    (project.folder / "studies/other.yaml").write_text(f"study: other\n{text}\n")
    return ("--configfile", "studies/other.yaml")
