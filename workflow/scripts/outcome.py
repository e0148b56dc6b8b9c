"""Say what a study came to: the LDS of every method at its best point, and along its hyperparameters."""

import pandas as pd

from attriflow import outcome
from attriflow.io import save_json, save_table
from attriflow.job import Job, run


def main(job: Job):
    table = pd.read_csv(job.input("tables"))
    save_json(job.outputs["best"], outcome.best(table))
    save_table(job.outputs["along"], outcome.along(table))


if __name__ == "__main__":
    run(main)
