"""Take out the training examples that scores name most helpful, retrain, and table what that changes."""

import pandas as pd

from attriflow import removal
from attriflow.data import load_split
from attriflow.evaluation import disjoint
from attriflow.io import load_arrays, load_json, save_table
from attriflow.job import Job, run
from attriflow.models import builder
from attriflow.runs import Run

DESCRIBED = ("setting", "ensemble", "ensemble_size", "method", "choice", "damping", "point")


def main(job: Job):
    settings, split = job.settings, load_split(job.input("data"))
    counts, tests, repeats = (settings[key] for key in ("counts", "tests", "repeats"))
    members = [Run.from_dict(each["run"]) for each in load_json(job.input("ensemble"))["members"]]
    n = len(split.train_y)

    removals = []
    for choice in removal.chosen(evaluated(job), settings["dampings"]).itertuples():
        scores = load_arrays(job.input("scores", choice.place))[choice.point][:, :tests]
        removals += removal.named(scores, counts, {name: getattr(choice, name) for name in DESCRIBED})
    removals += removal.drawn(n, tests, counts, job.seed, {"setting": settings["setting"]})

    runs = removal.runs(removal.distinct(removals), repeats)
    disjoint(members, runs, n, job.seed)
    measured = removal.outputs(
        builder(job.registry, settings["model"], split.shape, split.classes, split.tokens),
        split,
        runs,
        settings["recipe"],
        job.seed,
        tests=tests,
        device=job.device,
        threads=job.threads,
        progress=job.progress(len(runs) * settings["recipe"]["epochs"], "epoch"),
    )
    rows = removal.table(removals, removal.changes(measured, repeats)).assign(repeats=repeats)
    rows["test_index"] = split.test_index[rows.test_index]  # the user's rows, in the tables that users read
    save_table(job.outputs["changes"], rows)
    save_table(job.outputs["summary"], removal.summary(rows, confidence=settings["confidence"]))


def evaluated(job: Job) -> pd.DataFrame:
    """The evaluation of every point at the largest ensemble; `asked`: its damping as the config has it."""
    tables = []
    for place, (path, points) in enumerate(zip(job.inputs("tables"), job.settings["points"], strict=True)):
        table = pd.read_csv(path)
        table = table[table.point.isin(points)]
        tables.append(table.assign(place=place, asked=table.point.map(points)))
    return pd.concat(tables, ignore_index=True)


if __name__ == "__main__":
    run(main)
