"""A flipped bit is never used: the file is refused by name, with the remedy, or made again."""

import re

from drills.harness import MEASURED, SCORES, WAITING, Place, drill, flip, line, refused, remove, same

EVALUATION = "results/evaluation"
TRUTH = "results/ground_truth/digits_mlp/subsets"


@drill("a bit flips in the data, which all that follows reads; delete what the error says, run again")
def flipped_data(place: Place) -> str:
    return follow(place, [f"{EVALUATION}/examples/*"], ["results/data/digits.npz"])


@drill("bits flip in a checkpoint, a cached array and scores; delete what the errors say, run again")
def flipped_scores(place: Place) -> str:
    flipped = ["results/models/digits_mlp/full-0.pt", f"{WAITING}/0.npz", f"{WAITING}.npz"]
    return follow(place, [f"{MEASURED}.*"], flipped)


@drill(
    "bits flip in the ground truth, one of its blocks, the ensemble and tables; delete what the errors say, run again"
)
def flipped_measurements(place: Place) -> str:
    tables = [f"{MEASURED}.csv", f"{EVALUATION}/summary.csv"]
    flipped = [f"{TRUTH}.npz", f"{TRUTH}/0.0.npz", "results/ensembles/digits_mlp/independent.json", *tables]
    return follow(place, ["results/figures/*"], flipped)


@drill("bits flip in made files: in a spec, in the sum of an output, in what making it cost; run again")
def flipped_made_files(place: Place) -> str:
    project = place.copy()
    grad_dot = f"{SCORES}/grad_dot/epoch=last+parameters=all+target=loss"
    flip(project.folder / f"{WAITING}.made.json", b'"seed": ')
    flip(project.folder / f"{grad_dot}/1.made.json", b'"sha256": "')
    flip(project.folder / f"{grad_dot}/0.made.json", b'"seconds": ')
    flip(project.folder / "results/figures/lds_by_method.made.json", b'"byte')
    planned = project.planned()
    assert {"figures/lds_by_method", *(name[8:] for name in (WAITING, f"{grad_dot}/0", f"{grad_dot}/1"))} <= planned
    project.snakemake()
    return same(project, place.finished)


@drill(
    "bits flip in the table that `make` prints and in a figure; delete what report, publish and record say, run again"
)
def flipped_ends(place: Place) -> str:
    project = place.copy(place.recorded)
    summary, figure = f"{EVALUATION}/summary", "results/figures/lds_by_method"
    flip(project.folder / f"{summary}.csv")
    flip(project.folder / f"{figure}.png")
    for command in (["report", "default"], ["publish", "default"], ["record"]):
        done = project.run("python", f"workflow/commands/{command[0]}.py", *command[1:], check=False)
        said = line(refused(done), f"{summary}.csv was altered after it was made", f"delete {summary}.made.json")
    (project.folder / f"{summary}.made.json").unlink()
    project.snakemake()
    project.make("record")
    same(project, place.finished)
    return said


def follow(place: Place, removed: list[str], flipped: list[str]) -> str:
    """Flip a bit in each file, then run and delete what the errors say until nothing is refused.

    removed: results that must be made again, so that the files are read.
    """
    project, errors = place.copy(), []
    remove(project, *removed)
    for name in flipped:
        flip(project.folder / name)
    while (done := project.snakemake("--keep-going", check=False)).returncode:
        # a set, as what jobs say when they fail is said again in the end
        found = set(
            re.findall(r"(\S+ was altered after it was made \(its SHA-256 is another\); delete (\S+) .*)", done.stderr)
        )
        assert found, f"no error names a file and the remedy: {done.stderr}"
        assert len(errors) < 5 * len(flipped), f"no end of errors: {errors}"
        for error, remedy in found:
            errors.append(error)
            (project.folder / remedy).unlink(missing_ok=True)
    named = {error.split()[0] for error in errors}
    assert named == set(flipped), f"used, or made again unread: {set(flipped) - named}; refused {named - set(flipped)}"
    same(project, place.finished)
    return f"{len(named)} refused: {errors[0]}" if len(named) > 1 else errors[0]
