"""Put every measurement of one kind of a study into one tidy table."""

import pandas as pd

from attriflow import summary
from attriflow.io import save_table
from attriflow.job import Job, run


def main(job: Job):
    table = pd.concat([pd.read_csv(path) for path in job.inputs("tables")], ignore_index=True)
    if "damping_rule" in table:  # a row a point of a grid or rule; other tables have their hyperparameters last already
        table = summary.arranged(table)
    save_table(job.outputs["summary"], table)


if __name__ == "__main__":
    run(main)
