"""Draw one figure, as PDF and PNG."""

import pandas as pd

from attriflow.figures import save
from attriflow.io import load_arrays
from attriflow.job import Job, run


def main(job: Job):
    tables = {}
    for name in ("summary", "mislabel"):
        if name in job.spec["inputs"]:
            tables[name] = pd.read_csv(job.input(name))
    if "examples" in job.spec["inputs"]:
        tables["examples"] = [load_arrays(path) for path in job.inputs("examples")]
    figure = job.registry.load("figures", job.settings["figure"]).draw(**tables)
    for path in job.outputs.values():
        save(figure, path)


if __name__ == "__main__":
    run(main)
