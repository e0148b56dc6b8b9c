"""Put the blocks of one ground truth together."""

import json

import numpy as np

from attriflow.blocks import joined
from attriflow.io import save_arrays
from attriflow.job import Job, run
from attriflow.runs import Run


def main(job: Job):
    settings = job.settings
    runs = dict(enumerate([Run.from_dict(each) for each in every] for every in settings["runs"]))
    outputs = joined(settings["repeats"], job.inputs("blocks"))
    collect = job.registry.load("ground_truth", settings["kind"]).collect
    described = [json.dumps(each) for every in settings["runs"] for each in every]
    arrays = collect(runs, outputs, settings["n"], job.seed) | {"runs": np.array(described)}
    save_arrays(job.outputs["truth"], arrays)


if __name__ == "__main__":
    run(main)
