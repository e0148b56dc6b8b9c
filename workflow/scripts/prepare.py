"""Make what one method needs of a block of members: its costly part."""

import numpy as np

from attriflow import changes, flops
from attriflow.data import load_split
from attriflow.io import save_arrays
from attriflow.job import Job, run
from attriflow.members import of_block
from attriflow.memory import Size, attributed, refuse_what_cannot_fit
from attriflow.models import builder


def main(job: Job):
    settings, split = job.settings, load_split(job.input("data"))
    build = builder(job.registry, settings["model"], split.shape, split.classes, split.tokens)
    method, hyperparameters = job.registry.load("scores", settings["kind"]), settings["hyperparameters"]
    spent, places = [], []

    def arrays():
        for place, (model, number, member) in enumerate(of_block(job, build)):
            if place == 0:
                size = Size.of(member, split, attributed(job.registry, settings["kind"], hyperparameters))
                refuse_what_cannot_fit(job.registry, settings["kind"], size, hyperparameters)
            shared = number > 0 and not changes.acts_on(member.change, "gradients")
            with flops.spending() as took:
                if shared:
                    takes = job.registry.hyperparameters("scores", settings["kind"], "residuals")
                    given = {name: value for name, value in hyperparameters.items() if name in takes}
                    prepared = method.residuals(member, split, **given)
                else:
                    prepared = method.prepare(member, split, **hyperparameters)
            spent.append(took)
            places.append((model, number, shared))
            yield from ((f"{place}/{key}", array) for key, array in prepared.items())
        for name in ("seconds", "cpu_seconds", "flops"):
            yield name, np.array([getattr(each, name) for each in spent])
        for name, column in zip(("models", "numbers", "shared"), zip(*places, strict=True), strict=True):
            yield name, np.array(column)  # see attriflow.prepared

    save_arrays(job.outputs["prepared"], arrays())


if __name__ == "__main__":
    run(main)
