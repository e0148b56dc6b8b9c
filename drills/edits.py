"""Code, config or plug-ins change while a run is in progress: what was planned otherwise is refused."""

from project import Project

from drills.harness import WAITING, Place, change, drill, failing, held, kept, line, made, remove, same


@drill("code of jobs to come is edited while a run is in progress; run again")
def code_edited(place: Place) -> str:
    expected = place.copy()
    edit(expected)
    expected.snakemake()
    project = place.unfinished()
    with held(project) as (running, _):
        edit(project)
    said = running.failed()
    project.snakemake()
    same(project, expected)
    return line(said, "the code of attriflow.evaluation.lds changed since this job was planned; run again")


@drill("a value of the config is edited while a run is in progress: it ends as planned; run again for the new value")
def config_edited(place: Place) -> str:
    project = place.unfinished()
    with held(project) as (running, _):
        change(project)
    running.succeeded()
    expected, jobs = place.changed
    assert project.planned() == jobs
    project.snakemake()
    return same(project, expected)


@drill("a value of the config is edited while a run is in progress, and a dry run plans anew beside it; run again")
def config_edited_and_planned(place: Place) -> str:
    project = place.unfinished()
    with held(project) as (running, _):
        change(project)
        project.planned()
    said = running.failed()
    project.snakemake()
    same(project, place.changed[0])
    return line(said, "was made from another spec than this job was planned with; run again")


@drill("the folder of plug-ins goes while a run is in progress; put it back, run again")
def plugins_gone(place: Place) -> str:
    project = place.unfinished()
    remove(project, f"{WAITING}/*")
    folder = project.folder / "drills/plugins"
    with held(project, "snakemake", "--cores", "1", step="prepare") as (running, _):
        folder.rename(folder.with_name("elsewhere"))
    said = running.failed()
    folder.with_name("elsewhere").rename(folder)
    before = made(project)
    project.snakemake()
    kept(project, before)
    same(project, place.finished)
    return line(said, "plugins: 'drills/plugins' is not a folder")


@drill("a plug-in is gone though its results are there; put it back")
def plugin_removed(place: Place) -> str:
    project = place.copy()
    path = project.folder / "drills/plugins/scores/waiting.py"
    path.rename(path.with_name("waiting.txt"))
    said = failing(project)
    path.with_name("waiting.txt").rename(path)
    same(project, place.finished)
    return line(said, "config: ", "'waiting'", "known")


def edit(project: Project):
    """Another way to write a metric down, with the same numbers."""
    project.edit("src/attriflow/evaluation/lds.py", "sign=1, ranks=True", "sign=1.0, ranks=True")
