"""Train one block of ground-truth models and measure them on the test examples."""

import numpy as np

from attriflow import engine
from attriflow.data import load_split
from attriflow.io import save_arrays
from attriflow.job import Job, run
from attriflow.models import builder
from attriflow.runs import Run


def main(job: Job):
    settings, split = job.settings, load_split(job.input("data"))
    build = builder(job.registry, settings["model"], split.shape, split.classes, split.tokens)
    runs = [Run.from_dict(each) for each in settings["runs"]]
    epochs = settings["recipe"]["epochs"]
    progress = job.progress(len(runs) * epochs, "epoch")
    stacks = engine.train(
        build,
        split.train_x,
        split.train_y,
        runs,
        settings["recipe"],
        job.seed,
        threads=job.threads,
        device=job.device,
        progress=progress,
    )
    measured = [
        engine.measure(build, stack.weights[epochs], split.test_x, split.test_y, job.device) for stack in stacks
    ]
    save_arrays(
        job.outputs["outputs"], {name: np.concatenate([each[name] for each in measured]) for name in measured[0]}
    )


if __name__ == "__main__":
    run(main)
