"""Measure, for every member by itself, whether the correlation with retraining rises where the indicator says so."""

import json

import numpy as np
import pandas as pd

from attriflow import mechanism, prepared, selection, sizes
from attriflow.evaluation import disjoint
from attriflow.hyperparameters import point_name
from attriflow.io import load_arrays, load_json, save_table
from attriflow.job import Job, run
from attriflow.runs import Run


def main(job: Job):
    settings, blocks = job.settings, job.inputs("prepared")
    method = job.registry.load("scores", settings["kind"])
    members = load_json(job.input("ensemble"))["members"]
    models = list(dict.fromkeys(each["name"] for each in members))
    truths = measured(job, [Run.from_dict(each["run"]) for each in members])
    dampings = mechanism.dampings(settings["grid"])
    options = {"confidence": settings["confidence"]}
    progress = job.progress(len(settings["points"]) * sum(sizes.counts(sizes.read(settings["sizes"]))), "member")
    rows = []
    for point in settings["points"]:
        named = {key: settings[key] for key in ("setting", "ensemble", "method")}
        named |= {"point": point_name(settings["costly"] | point)}
        for (model, number), arrays in prepared.placed(blocks):
            member = f"{models[model]}.{number}" if number else models[model]
            spectrum = method.spectrum(arrays, **point)
            selected = selection.select([spectrum]).value
            for truth, (masks, outputs) in truths.items():
                groups = lambda damping: method.powers(arrays, masks, damping=damping, **point)  # noqa: B023, E731
                described = named | {"truth": truth, "member": member}
                chosen = {"selected": np.nan if selected is None else selected, **settings["costly"], **point}
                found = mechanism.scan(outputs, groups, spectrum, dampings, **options)
                rows += [described | row | chosen for row in found]
            progress()
    save_table(job.outputs["table"], pd.DataFrame(rows))


def measured(job: Job, members: list[Run]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name of a ground truth -> masks (s, n) and outputs (s, m). Refuses one that shares anything with a member."""
    found = {}
    for truth, path in zip(job.settings["truths"], job.inputs("truths"), strict=True):
        arrays = load_arrays(path)
        runs = [Run.from_dict(json.loads(each)) for each in arrays["runs"]]
        disjoint(members, runs, truth["n"], job.seed)
        found[truth["truth"]] = (arrays["masks"], mechanism.outputs(arrays))
    return found


if __name__ == "__main__":
    run(main)
