"""The trajectory of a training: the weights before every step, from training a member once more."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from attriflow import engine
from attriflow.data import Split
from attriflow.device import choose
from attriflow.models import Trained


@dataclass(frozen=True)
class Step:
    """A step of one training: its weighted examples (b,), its learning rate and the weights (p,) before it.

    The weights are those of all parameters, frozen ones among them, flat, in the order of the module's.
    """

    examples: Tensor
    rate: float
    weights: Tensor


def backwards(member: Trained, split: Split, epochs: int | str = "all") -> Iterator[Step]:
    """The steps of the last `epochs` epochs, the last step first.

    The member is trained once more, alone and on the kind of device that trained it, to the bit. Its weights wait in a
    temporary file, 4 bytes for each trained number and step, which is gone when the iterator is. Raises ValueError
    where run or recipe are not known, where there are fewer epochs, and where training does not end at the member's
    last checkpoint; OSError where the file would not fit.
    """
    if member.run is None or member.recipe is None:
        raise ValueError(f"member {member.name}: its run and recipe are not known, so it cannot be trained once more")
    trained = member.recipe["epochs"]
    last = trained if epochs == "all" else epochs
    if last > trained:
        raise ValueError(f"epochs: {last} asked for, member {member.name} was trained for {trained}")
    p = sum(parameter.numel() for parameter in member.model().parameters() if parameter.requires_grad)
    _refuse_what_cannot_fit(member, len(split.train_y), p, last)
    return _backwards(member, split, trained - last)


def _backwards(member: Trained, split: Split, skipped: int) -> Iterator[Step]:
    with tempfile.TemporaryFile() as file:
        steps, names = _replay(member, split, skipped, file)
        parameters = {name: each.detach().float() for name, each in member.model().named_parameters()}
        moved = torch.cat([torch.full((each.numel(),), name in names) for name, each in parameters.items()])
        final = torch.cat([each.flatten() for each in parameters.values()]).cpu()  # (p,)
        for place in reversed(range(len(steps))):
            trained = np.empty(int(moved.sum()), np.float32)
            file.seek(place * trained.nbytes)
            file.readinto(trained)
            yield Step(*steps[place], final.masked_scatter(moved, torch.from_numpy(trained)))


def _replay(
    member: Trained, split: Split, skipped: int, file: BinaryIO
) -> tuple[list[tuple[Tensor, float]], frozenset[str]]:
    """Examples and learning rate of every step behind the skipped epochs, and the names of what was trained.

    The weights of these before the steps go to the file.
    """
    steps, names = [], set()

    def observe(step: engine.Step, weights: dict[str, Tensor]):
        names.update(weights)
        if step.epoch > skipped:
            examples = step.examples[0] if step.shares is None else step.examples[0, step.shares[0] > 0]
            steps.append((examples.cpu(), step.rate))
            for value in weights.values():
                file.write(np.ascontiguousarray(value[0].numpy(force=True)))

    run, recipe = member.run, member.recipe
    options = {"device": choose(member.trained_on), "observe": observe}
    (found,) = engine.train(member.build, split.train_x, split.train_y, [run], recipe, member.seed, **options)
    final = found.state(0, recipe["epochs"])
    kept = member.checkpoints[max(member.checkpoints)]
    different = [name for name, value in final.items() if not torch.equal(value, kept[name])]
    if different:
        raise ValueError(
            f"member {member.name}: training it once more does not end at its last checkpoint, {different} differ; "
            f"the checkpoint was changed or comes from another machine, data set or recipe: train it anew here"
        )
    return steps, frozenset(names)


def _refuse_what_cannot_fit(member: Trained, n: int, p: int, epochs: int):
    steps = epochs * -(-len(member.run.examples(n, member.seed)) // member.recipe["batch_size"])
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if 4 * p * steps > free:
        raise OSError(
            f"the weights of {steps} steps take {4 * p * steps / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free in "
            f"{folder}; set TMPDIR to a larger folder or walk back fewer `epochs`"
        )
