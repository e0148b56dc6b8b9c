"""Put every measurement of a study into one tidy table."""

import pandas as pd
from attriflow.io import save_table
from attriflow.job import Job, run

FIRST = ["setting", "ensemble", "ensemble_size", "method"]
MEASURED = ["truth", "metric", "output", "value", "low", "high", "ceiling", "seconds", "peak_mib"]
COUNTS = ["rows", "test_examples", "confidence"]


def main(job: Job):
    tables = [pd.read_csv(path).drop(columns="point") for path in job.inputs("tables")]
    table = pd.concat(tables, ignore_index=True)
    hyperparameters = [name for name in table.columns if name not in FIRST + MEASURED + COUNTS]
    save_table(job.outputs["summary"], table[[*FIRST, *hyperparameters, *MEASURED, *COUNTS]])


if __name__ == "__main__":
    run(main)
