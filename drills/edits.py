"""Code, config or plug-ins change while a run is in progress: what was planned otherwise is refused."""

import os

from project import Project

from drills.harness import WAITING, Place, change, content, drill, failing, held, kept, line, made, remove, same


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


@drill("git leaves a folder with old bytecode beside a module of its name; then the module is edited; run again")
def folder_left_over(place: Place) -> str:
    project, expected = place.copy(), place.copy()
    (project.folder / "src/attriflow/evaluation/lds/__pycache__").mkdir(parents=True)
    assert project.planned() == set(), "a folder without a module runs something"
    for each in (project, expected):
        edit(each)
        assert each.planned(), "the edit is not seen"
        each.snakemake()
    return same(project, expected)


@drill("old bytecode lies beside code that is edited with its time and size kept; run again")
def bytecode_left_over(place: Place) -> str:
    project, expected = place.copy(), place.copy()
    project.run("python", "-m", "compileall", "-q", "src", "drills/plugins")
    for each in (project, expected):
        path = each.folder / "drills/plugins/scores/waiting.py"
        before = path.stat()
        path.write_text(path.read_text().replace("power + 0 *", "power + 9 *"))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size
        each.snakemake()
    scores = content(place.finished.folder / f"{WAITING}.npz")
    assert content(project.folder / f"{WAITING}.npz") != scores, "the old bytecode ran"
    return same(project, expected)


def edit(project: Project):
    """Another way to write a metric down, with the same numbers."""
    project.edit("src/attriflow/evaluation/lds.py", "sign=1, ranks=True", "sign=1.0, ranks=True")
