"""Score one ensemble, at every size, at every cheap point of one costly point."""

import time

import numpy as np

from attriflow.hyperparameters import point_name
from attriflow.io import load_arrays, load_json, save_arrays
from attriflow.job import Job, cost, run
from attriflow.prepared import members


def main(job: Job):
    settings, sizes = job.settings, job.settings["sizes"]
    names = [member["name"] for member in load_json(job.input("ensemble"))["members"]][: max(sizes)]
    blocks = [load_arrays(path) for path in job.inputs("prepared")]
    preparing = np.cumsum(np.concatenate([block["seconds"] for block in blocks]))  # of the first 1, 2, ... members
    peak = max(each["peak_mib"] for each in job.costs("prepared"))
    score = job.registry.load("scores", settings["kind"]).score
    progress = job.progress(len(settings["cheap"]) * len(names), "member")
    costs = []

    def counted():
        for member in members(blocks):
            yield member
            progress()

    def arrays():
        for point in settings["cheap"]:
            started = time.monotonic()
            for size, scores in enumerate(score(counted(), **point), 1):
                if size in sizes:
                    spent = cost(started)
                    costs.append([preparing[size - 1] + spent["seconds"], max(peak, spent["peak_mib"])])
                    yield point_name({"size": size} | point), np.asarray(scores, np.float32)
        yield "costs", np.array(costs)  # seconds and peak MiB of every array above

    save_arrays(job.outputs["scores"], arrays())


if __name__ == "__main__":
    run(main)
