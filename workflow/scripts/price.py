"""Say what every ensemble costs to train, serve and keep, and what the cheapest saves that is as good as naive."""

import pandas as pd

from attriflow import paired, price
from attriflow.intervals import Effects
from attriflow.io import load_arrays, load_json, save_table
from attriflow.job import Job, run
from attriflow.summary import lds_of_loss


def main(job: Job):
    places = ("tables", "effects", "scores", "described", "queries")
    rows, effects = [], []
    for kind, table, file, scores, described, query in zip(
        job.settings["kinds"], *(job.inputs(name) for name in places), strict=True
    ):
        measured, arrays = lds_of_loss(pd.read_csv(table)), load_arrays(scores)
        costs = dict(zip(arrays, arrays["serving"], strict=False))  # arrays of scores come first
        rows.append(price.table(measured, costs, load_json(described), kind, load_json(query)))
        effects.append(paired.kept(file, measured.index))
    found = price.arranged(pd.concat(rows, ignore_index=True))
    save_table(job.outputs["ensembles"], found)
    savings = price.savings(found, Effects.joined(effects), seed=job.seed)
    save_table(job.outputs["savings"], pd.DataFrame(savings))


if __name__ == "__main__":
    run(main)
