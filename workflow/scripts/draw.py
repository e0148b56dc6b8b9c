"""Draw one figure, as PDF and PNG."""

import pandas as pd

from attriflow.figures import save
from attriflow.io import load_arrays
from attriflow.job import Job, run


def main(job: Job):
    tables = {}
    for name in job.spec["inputs"]:
        if name == "examples":
            tables[name] = [load_arrays(path) for path in job.inputs(name)]
        else:
            tables[name] = pd.concat([pd.read_csv(path) for path in job.inputs(name)], ignore_index=True)
    figure = job.registry.load("figures", job.settings["figure"]).draw(**tables)
    for path in job.outputs.values():
        save(figure, path)


if __name__ == "__main__":
    run(main)
