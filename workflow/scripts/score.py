"""Score one ensemble, at every size, at every cheap point of one costly point."""

from collections.abc import Iterator
from dataclasses import astuple

import numpy as np

from attriflow import flops, prepared, sizes
from attriflow.hyperparameters import RULES, point_name
from attriflow.io import load_json, save_arrays
from attriflow.job import Job, run
from attriflow.running import peak_mib
from attriflow.scoring import scored
from attriflow.sizes import EnsembleSize


def main(job: Job):
    settings, wanted, blocks = job.settings, sizes.read(job.settings["sizes"]), job.inputs("prepared")
    score = job.registry.load("scores", settings["kind"]).score
    selection = load_json(job.input("selection")) if "selection" in job.spec["inputs"] else {}
    preparing = {size: prepared.spent(blocks, size) for size in wanted}
    kept = {size: prepared.kept(blocks, size) for size in wanted}
    peak = max(each["peak_mib"] for each in job.costs("prepared"))
    progress = job.progress(len(settings["cheap"]), "point")
    costs, dampings, serving = [], [], []

    def arrays():
        for point in settings["cheap"]:
            members = lambda size: prepared.members(blocks, size)  # noqa: E731
            every = scored(score, members, point, wanted, selection, settings["method"])
            for size, array, damping, took in measured(every, one_pass=point.get("damping") not in RULES):
                seconds = preparing[size].seconds + took.seconds
                costs.append([seconds, max(peak, peak_mib())])
                dampings.append(damping)
                serving.append([*astuple(preparing[size]), *astuple(took), kept[size]])
                yield point_name({"size": size.written} | point), array
            progress()
        if not costs:
            grid = f"methods.{settings['method']}.damping"
            raise ValueError(f"no rule chose a damping, {job.input('selection')} says why; give {grid} a number, too")
        yield "costs", np.array(costs)  # seconds and peak MiB of every array above
        yield "dampings", np.array(dampings)  # that it was made with, NaN where there is none
        yield "serving", np.array(serving, float)  # (arrays above, price.SERVING)

    save_arrays(job.outputs["scores"], arrays())


def measured(
    every: Iterator[tuple[EnsembleSize, np.ndarray, float]], *, one_pass: bool
) -> Iterator[tuple[EnsembleSize, np.ndarray, float, flops.Spent]]:
    """What `scored` yields, with what it took: of an ensemble that came out of a pass, all of that pass so far.

    one_pass: whether sizes with as many members of each model come from one pass, and not each from its own.
    """
    whole, last = flops.Spent(), None
    while True:
        with flops.spending() as took:
            found = next(every, None)
            array = None if found is None else np.asarray(found[1])
        if found is None:
            return
        size, _, damping = found
        whole = whole + took if one_pass and size.per_model == last else took
        last = size.per_model
        yield size, array, damping, whole


if __name__ == "__main__":
    run(main)
