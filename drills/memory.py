"""Memory runs short: what cannot fit is refused or ends by itself, and the rest is kept."""

import sys

from project import Project

from drills.harness import CONFIG, Place, drill, kept, line, made, refused, same

# a layer of 3000 units: its gradients take half a GiB
LARGE = CONFIG.replace("hidden: [8]", "hidden: [3000]").replace("train: 60", "train: 1500")
LARGE = LARGE.replace("grad_dot:", "influence: {damping: [0.1]}").replace(
    "count: 2, sizes: [1, 2]", "count: 1, sizes: [1]"
)


@drill("ulimit -v leaves too little for a method; run again without it")
def too_large_a_study(place: Place) -> str:
    undisturbed, project = place.fresh(LARGE), place.fresh(LARGE)
    undisturbed.snakemake("scores")
    said = refused(limited(project, "scores"))
    before = made(project)
    project.snakemake("scores")
    kept(project, before)
    same(project, undisturbed, "scores")
    return line(said, "MemoryError: influence needs about", "are free. Attribute fewer", "would fit")


@drill("ulimit -v: a job asks for more than is left; run again without it")
def out_of_memory(place: Place) -> str:
    project = place.unfinished()
    before = made(project)
    (project.folder / "hungry").write_text(str(2**32))
    said = refused(limited(project))
    (project.folder / "hungry").unlink()
    project.snakemake()
    kept(project, before)
    same(project, place.finished)
    return line(said, "waiting/base] failed", "give it more", "run again")


@drill("--resources mem_mb far below what any job takes: one at a time")
def one_job_at_a_time(place: Place) -> str:
    project = place.unfinished()
    project.snakemake("--resources", "mem_mb=1")
    return same(project, place.finished)


def limited(project: Project, *targets: str):
    """Run where every process may take little more than the libraries do."""
    libraries = "import pathlib, attriflow.warm as warm; [__import__(name) for name in warm._LIBRARIES]; "
    libraries += (
        "print(next(each for each in pathlib.Path('/proc/self/status').read_text().splitlines() if 'VmSize' in each))"
    )
    kib = int(project.run(sys.executable, "-c", libraries, PYTHONPATH="src").stdout.split()[1])
    command = f'ulimit -v {kib + 250 * 1024}; exec snakemake --cores 1 "$@"'
    return project.run("bash", "-c", command, "snakemake", *targets, check=False)
