"""Score one ensemble, at every size, at every cheap point of one costly point."""

import time

import numpy as np

from attriflow import prepared, sizes
from attriflow.hyperparameters import point_name
from attriflow.io import load_json, save_arrays
from attriflow.job import Job, cost, run
from attriflow.scoring import scored


def main(job: Job):
    settings, wanted, blocks = job.settings, sizes.read(job.settings["sizes"]), job.inputs("prepared")
    score = job.registry.load("scores", settings["kind"]).score
    selection = load_json(job.input("selection")) if "selection" in job.spec["inputs"] else {}
    preparing = {size: prepared.seconds(blocks, size) for size in wanted}
    peak = max(each["peak_mib"] for each in job.costs("prepared"))
    progress = job.progress(len(settings["cheap"]), "point")
    costs, dampings = [], []

    def arrays():
        for point in settings["cheap"]:
            started = time.monotonic()
            for size, found, damping in scored(
                score, lambda size: prepared.members(blocks, size), point, wanted, selection
            ):
                array, spent = np.asarray(found, np.float32), cost(started)
                costs.append([preparing[size] + spent["seconds"], max(peak, spent["peak_mib"])])
                dampings.append(damping)
                yield point_name({"size": size.written} | point), array
            progress()
        if not costs:
            grid = f"methods.{settings['method']}.damping"
            raise ValueError(f"no rule chose a damping, {job.input('selection')} says why; give {grid} a number, too")
        yield "costs", np.array(costs)  # seconds and peak MiB of every array above
        yield "dampings", np.array(dampings)  # that it was made with, NaN where there is none

    save_arrays(job.outputs["scores"], arrays())


if __name__ == "__main__":
    run(main)
