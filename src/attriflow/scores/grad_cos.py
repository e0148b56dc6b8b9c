"""Grad-Cos: cosines between training and test gradients of the loss."""

from collections.abc import Iterable, Iterator

import numpy as np

from attriflow.data import Split
from attriflow.gradients import of_split
from attriflow.hyperparameters import Epoch, Parameters, Target
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.precision import widened
from attriflow.scores import running_mean


def prepare(
    member: Trained, split: Split, *, epoch: Epoch = "last", parameters: Parameters = "all", target: Target = "loss"
) -> dict[str, np.ndarray]:
    r"""cosines (n, m): $g_i \cdot g_{test} / (|g_i| |g_{test}|)$; 0 where a gradient is exactly zero.

    Charpiat et al. 2019, arXiv:2102.13624, eq. (5).
    """
    model = member.model(epoch, parameters)
    train, test = widened(*of_split(model, split, target))
    return {"cosines": train.cosines(test).numpy(force=True)}


def memory(size: Size) -> int:
    """Bytes that `prepare` takes at work."""
    return size.gradients + 40 * size.n * size.m


def score(members: Iterable[dict[str, np.ndarray]]) -> Iterator[np.ndarray]:
    """Their mean over members, (n, m)."""
    return running_mean(member["cosines"] for member in members)
