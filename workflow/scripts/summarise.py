"""Put every measurement of one kind of a study into one tidy table."""

import pandas as pd

from attriflow import gold, summary
from attriflow.io import save_table
from attriflow.job import Job, run


def main(job: Job):
    arranged = {"summary": summary.arranged, "further": gold.arranged}[job.settings["columns"]]
    tables = [pd.read_csv(path) for path in job.inputs("tables")]
    save_table(job.outputs["summary"], arranged(pd.concat(tables, ignore_index=True)))


if __name__ == "__main__":
    run(main)
