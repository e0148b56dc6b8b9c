"""Measure the scores of one costly point against every ground truth of its setting."""

import json

import pandas as pd

from attriflow import paired, sizes
from attriflow.evaluation import disjoint
from attriflow.hyperparameters import point_name
from attriflow.intervals import Effects
from attriflow.io import load_arrays, load_json, save_arrays, save_table
from attriflow.job import Job, run
from attriflow.runs import Run
from attriflow.scoring import resolved


def main(job: Job):
    settings = job.settings
    scores = load_arrays(job.input("scores"))
    scores.pop("serving")
    costs, dampings = scores.pop("costs"), scores.pop("dampings")
    trainings = [each["run"] for each in load_json(job.input("ensemble"))["members"]]
    members = [Run.from_dict(each) for each in trainings if each is not None]  # nothing is known of a user's own
    points = {
        point_name({"size": size.written} | point): {**size.columns, **settings["costly"], **point}
        for point in settings["cheap"]
        for size in sizes.read(settings["sizes"])
    }
    made = {name: (*cost, damping) for name, cost, damping in zip(scores, costs, dampings, strict=True)}
    options = {key: settings[key] for key in ("resamples", "confidence")}
    rows, effects = [], []
    for truth, path in zip(settings["truths"], job.inputs("truths"), strict=True):
        measured = load_arrays(path)
        runs = [Run.from_dict(json.loads(each)) for each in measured["runs"]]
        disjoint(members, runs, truth["n"], job.seed)
        for metric, kind in settings["metrics"].items():
            if kind != truth["kind"]:
                continue
            evaluate = job.registry.load("evaluation", metric).evaluate
            for row in evaluate(scores.items(), measured, seed=job.seed, **options):
                point = row["point"]
                effects.append(row.pop("effects", Effects.unknown(row["value"])))
                seconds, peak, damping = made[point]
                described = {key: settings[key] for key in ("setting", "ensemble", "method")}
                described |= resolved(points[point], damping)
                described |= {"truth": truth["truth"], "metric": metric, "confidence": settings["confidence"]} | row
                rows.append(described | {"seconds": seconds, "peak_mib": peak})
    save_table(job.outputs["table"], pd.DataFrame(rows))
    save_arrays(job.outputs["effects"], paired.arrays(effects))  # an entry for every row of the table


if __name__ == "__main__":
    run(main)
