"""Make what one method needs of a block of members: its costly part."""

from dataclasses import replace

import numpy as np

from attriflow import flops
from attriflow.data import load_split
from attriflow.device import DTYPES
from attriflow.io import save_arrays
from attriflow.job import Job, run
from attriflow.memory import Size, refuse_what_cannot_fit
from attriflow.models import builder, load_trained
from attriflow.runs import Run


def main(job: Job):
    settings, split = job.settings, load_split(job.input("data"))
    build = builder(job.registry, settings["model"], split.shape, split.classes, split.tokens)
    prepare = job.registry.load("scores", settings["kind"]).prepare
    spent = []

    def arrays():
        members = zip(settings["members"], job.inputs("models"), settings["runs"], strict=True)
        for place, (name, path, training) in enumerate(members):
            known = Run.from_dict(training) if training else None  # not where the final model is all there is
            member = load_trained(path, name, job.seed, build, known, settings["recipe"])
            member = replace(member, device=job.device, dtype=DTYPES[settings["dtype"]])
            if place == 0:
                size = Size.of(member, split, settings["hyperparameters"].get("parameters", "all"))
                refuse_what_cannot_fit(job.registry, settings["kind"], size, settings["hyperparameters"])
            with flops.spending() as took:
                prepared = prepare(member, split, **settings["hyperparameters"])
            spent.append(took)
            yield from ((f"{place}/{key}", array) for key, array in prepared.items())
        for name in ("seconds", "cpu_seconds", "flops"):
            yield name, np.array([getattr(each, name) for each in spent])  # (members,)

    save_arrays(job.outputs["prepared"], arrays())


if __name__ == "__main__":
    run(main)
