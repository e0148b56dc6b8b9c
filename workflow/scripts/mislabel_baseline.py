"""Find flipped training labels by the training loss, at every size and kept epoch of one ensemble."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd

from attriflow import mislabel, sizes
from attriflow.data import load_split
from attriflow.io import save_table
from attriflow.job import Job, run
from attriflow.models import Trained, builder, load_trained
from attriflow.scores import running_mean
from attriflow.scoring import scored
from attriflow.sizes import EnsembleSize


def main(job: Job):
    settings, split = job.settings, load_split(job.input("data"))
    wrong = mislabel.flipped(split)
    build = builder(job.registry, settings["model"], split.shape, split.classes, split.tokens)
    models = zip(job.inputs("models"), job.adapters(), settings["members"], strict=True)
    every = [
        (load_trained(path, each["name"], job.seed, build, adapters=adapters), each["changes"])
        for path, adapters, each in models
    ]
    wanted = sizes.read(settings["sizes"])
    named = {"setting": settings["setting"], "ensemble": settings["ensemble"], "method": "loss", "damping_rule": ""}
    rows = []
    for epoch in settings["epochs"]:
        losses = partial(mislabel.losses, split=split, epoch=epoch)
        for size, suspicion, _ in scored(running_mean, partial(of_members, losses, every), {}, wanted, {}):
            described = named | size.columns | {"epoch": epoch}
            rows.append(described | mislabel.detection(suspicion, wrong, settings["confidence"]))
    save_table(job.outputs["table"], pd.DataFrame(rows))


def of_members(losses: Callable, every: list[tuple[Trained, list[dict]]], size: EnsembleSize) -> Iterator[np.ndarray]:
    """The losses (n,) of the members of an ensemble of a size, from its models and their changes."""
    for trained, changes in every[: size.models]:
        yield from (losses(trained.changed(change)) for change in changes[: size.per_model])


if __name__ == "__main__":
    run(main)
