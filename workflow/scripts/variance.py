"""Say how the squared error of one ensemble is made up: what halves of its models predict of each other."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from attriflow import prepared, sizes, variance
from attriflow.hyperparameters import point_name
from attriflow.io import save_table
from attriflow.job import Job, run
from attriflow.summary import gridded, lds_of_loss


def main(job: Job):
    settings, (size,) = job.settings, sizes.read([job.settings["size"]])
    point = best_point(job)
    first = next(prepared.members(job.inputs("prepared"), size))
    n, m = np.shape(next(scores(job, [first], point)))
    tests = variance.kept(n, m, size.members)
    others = (
        arrays for (model, _), arrays in prepared.placed(job.inputs("reference")) if model in settings["reference"]
    )
    mean, error = variance.reference(each[:, tests] for each in scores(job, others, point))
    progress = job.progress(size.members, "member")
    members = prepared.members(job.inputs("prepared"), size)
    found = variance.products(
        (told(each[:, tests], progress) for each in scores(job, members, point)), mean, size.models, size.per_model
    )
    named = {key: settings[key] for key in ("setting", "ensemble", "method")} | settings["costly"] | point
    named |= {"reference_models": len(settings["reference"]), "reference_error": error.mean()}
    options = {"confidence": settings["confidence"]}
    save_table(job.outputs["table"], pd.DataFrame([named | row for row in variance.table(found, **options)]))


def scores(job: Job, members, point: dict) -> Iterator[np.ndarray]:
    """The scores (n, m) of every member by itself."""
    score = job.registry.load("scores", job.settings["kind"]).score
    for member in members:
        yield np.asarray(next(iter(score(iter([member]), **point))))


def told(array: np.ndarray, progress) -> np.ndarray:
    progress()
    return array


def best_point(job: Job) -> dict:
    """The cheap point of the grid at which the naive ensemble is best, at its largest."""
    measured = gridded(lds_of_loss(pd.read_csv(job.input("chosen"))))
    measured = measured[measured.ensemble_size == measured.ensemble_size.max()]
    name = measured.loc[measured.value.idxmax()].point.partition(",")[2]
    return next(point for point in job.settings["cheap"] if point_name(point) == name)


if __name__ == "__main__":
    run(main)
