"""Say what every ensemble costs to train, serve and keep, and what the cheapest saves that is as good as naive."""

import numpy as np
import pandas as pd

from attriflow import price
from attriflow.io import load_arrays, load_json, save_table
from attriflow.job import Job, run
from attriflow.summary import lds_of_loss


def main(job: Job):
    places = ("tables", "resamples", "scores", "described", "queries")
    rows, resampled = [], []
    for kind, table, resamples, scores, described, query in zip(
        job.settings["kinds"], *(job.inputs(name) for name in places), strict=True
    ):
        measured, arrays = lds_of_loss(pd.read_csv(table)), load_arrays(scores)
        costs = dict(zip(arrays, arrays["serving"], strict=False))  # arrays of scores come first
        rows.append(price.table(measured, costs, load_json(described), kind, load_json(query)))
        resampled.append(load_arrays(resamples)["resampled"][measured.index])
    found = price.arranged(pd.concat(rows, ignore_index=True))
    save_table(job.outputs["ensembles"], found)
    save_table(job.outputs["savings"], pd.DataFrame(price.savings(found, np.concatenate(resampled))))


if __name__ == "__main__":
    run(main)
