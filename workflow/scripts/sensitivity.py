"""Say how much each hyperparameter of a study matters, and what values from elsewhere cost."""

import numpy as np
import pandas as pd

from attriflow.io import load_arrays, save_table
from attriflow.job import Job, run
from attriflow.sensitivity import tables
from attriflow.summary import lds_of_loss


def main(job: Job):
    measured, resampled = [], []
    for table, arrays in zip(job.inputs("tables"), job.inputs("resamples"), strict=True):
        rows = lds_of_loss(pd.read_csv(table).drop(columns="point"))
        measured.append(rows)
        resampled.append(load_arrays(arrays)["resampled"][rows.index])
    together = pd.concat(measured, ignore_index=True)
    for name, found in tables(together, np.concatenate(resampled), job.settings["kinds"]).items():
        save_table(job.outputs[name], found)


if __name__ == "__main__":
    run(main)
