"""Train one final model on, with and without examples, in one block, and measure test losses on the way."""

import sys

import numpy as np

from attriflow.data import load_split
from attriflow.device import DTYPES
from attriflow.engine import further
from attriflow.io import save_arrays
from attriflow.job import Job, run
from attriflow.models import builder, load_trained
from attriflow.runs import Run


def main(job: Job):
    settings, split = job.settings, load_split(job.input("data"))
    build = builder(job.registry, settings["model"], split.shape, split.classes, split.tokens)
    trained = load_trained(job.input("model"), job.input("model").stem, job.seed, build)
    runs = [Run.from_dict(each) for each in settings["runs"]]
    stacks = list(
        further.train(
            build,
            trained.final,
            split.train_x,
            split.train_y,
            split.test_x,
            split.test_y,
            runs,
            settings["recipe"],
            job.seed,
            amounts=settings["amounts"],
            estimator=settings["estimator"],
            dropout=settings["dropout"],
            dtype=DTYPES[settings["precision"]],
            threads=job.threads,
            device=job.device,
            progress=job.progress(len(runs), "run"),
        )
    )
    diverged = np.concatenate([stack.diverged for stack in stacks])
    for training, step in zip(runs, diverged, strict=True):
        if step:
            without = f" without {training.left_out[0]}" if training.left_out else ""
            reason = f"{training.stream}{without} diverged at step {step}; it is dropped, the others are kept"
            print(f"[{job.spec['job']}] {reason}", file=sys.stderr)
    losses = np.concatenate([stack.losses for stack in stacks])  # (runs, amounts, m)
    save_arrays(job.outputs["outputs"], {"loss": losses, "diverged": diverged})


if __name__ == "__main__":
    run(main)
