"""Put every measurement of one kind of a study into one tidy table."""

import pandas as pd

from attriflow import gold, summary
from attriflow.io import save_table
from attriflow.job import Job, run


def main(job: Job):
    table = pd.concat([pd.read_csv(path) for path in job.inputs("tables")], ignore_index=True)
    arranged = {"summary": summary.arranged, "further": gold.arranged}
    if job.settings["columns"]:  # the other tables have their hyperparameters last already
        table = arranged[job.settings["columns"]](table)
    save_table(job.outputs["summary"], table)


if __name__ == "__main__":
    run(main)
