"""Put the blocks of one ground truth together."""

import json

import numpy as np

from attriflow.io import load_arrays, save_arrays
from attriflow.job import Job, run
from attriflow.runs import Run


def main(job: Job):
    settings = job.settings
    runs = dict(enumerate([Run.from_dict(each) for each in every] for every in settings["runs"]))
    blocks: dict[int, list] = {}
    for repeat, path in zip(settings["repeats"], job.inputs("blocks"), strict=True):
        blocks.setdefault(repeat, []).append(load_arrays(path))
    outputs = {
        repeat: {name: np.concatenate([block[name] for block in found]) for name in found[0]}
        for repeat, found in blocks.items()
    }
    collect = job.registry.load("ground_truth", settings["kind"]).collect
    described = [json.dumps(each) for every in settings["runs"] for each in every]
    arrays = collect(runs, outputs, settings["n"], job.seed) | {"runs": np.array(described)}
    save_arrays(job.outputs["truth"], arrays)


if __name__ == "__main__":
    run(main)
