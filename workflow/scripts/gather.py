"""Put the blocks of one final model's further training together, with what of its losses is rounding."""

import json

import numpy as np

from attriflow.amounts import steps
from attriflow.blocks import joined
from attriflow.data import load_split
from attriflow.device import DTYPES
from attriflow.engine import further
from attriflow.io import save_arrays
from attriflow.job import Job, run
from attriflow.models import builder, load_trained
from attriflow.runs import Run


def main(job: Job):
    settings, split = job.settings, load_split(job.input("data"))
    runs = dict(enumerate([Run.from_dict(each) for each in every] for every in settings["runs"]))
    outputs = joined(settings["repeats"], job.inputs("blocks"))
    arrays = job.registry.load("ground_truth", settings["kind"]).collect(runs, outputs, settings["n"], job.seed)
    taken = np.array(steps(settings["amounts"], settings["n"], settings["recipe"]["batch_size"]))

    build = builder(job.registry, settings["model"], split.shape, split.classes, split.tokens)
    trained = load_trained(job.input("model"), job.input("model").stem, job.seed, build)
    once = further.resolution(
        build,
        trained.final,
        split.test_x,
        split.test_y,
        job.seed,
        dtype=DTYPES[settings["precision"]],
        device=job.device,
    )
    arrays |= {
        "amounts": np.array(settings["amounts"], float),  # epochs
        "steps": taken,  # the same in steps of the full run
        "resolution": np.sqrt(taken)[:, None] * once,  # (a, m), of a score of one seed
        "runs": np.array([json.dumps(each) for every in settings["runs"] for each in every]),
    }
    save_arrays(job.outputs["truth"], arrays)


if __name__ == "__main__":
    run(main)
