"""Compare chosen dampings with the best of the grid, and put the curves that chose them into one table."""

import pandas as pd

from attriflow import choices, paired
from attriflow.io import load_json, save_table
from attriflow.job import Job, run


def main(job: Job):
    chosen, curves = [], []
    for each, path, curve in zip(job.settings["chosen"], job.inputs("selections"), job.inputs("curves"), strict=True):
        names = {key: each[key] for key in ("setting", "ensemble", "method")} | each["costly"]
        chosen += choices.said(names, load_json(path))
        curves.append(pd.read_csv(curve).assign(**names))
    measured, effects = paired.load(job.inputs("tables"), job.inputs("effects"))
    found = choices.table(measured, effects, pd.DataFrame(chosen), job.settings["grad_dot"])
    save_table(job.outputs["selection"], found)
    save_table(job.outputs["curves"], pd.concat(curves, ignore_index=True))


if __name__ == "__main__":
    run(main)
