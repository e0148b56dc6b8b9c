"""Grad-Dot: inner products of training and test gradients of the loss."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from attriflow.data import Split
from attriflow.gradients import of_split
from attriflow.hyperparameters import Epoch, Parameters, Target
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.precision import stored, widened
from attriflow.scores import running_mean


def prepare(
    member: Trained, split: Split, *, epoch: Epoch = "last", parameters: Parameters = "all", target: Target = "loss"
) -> dict[str, np.ndarray]:
    r"""products (n, m): $g_i \cdot g_{test}$, gradients of the loss at one checkpoint; squares (n,): $|g_i|^2$.

    Charpiat et al. 2019, arXiv:2102.13624, eq. (4); TracIn (Pruthi et al. 2020) at a single checkpoint.
    """
    model = member.model(epoch, parameters)
    train, test = widened(*of_split(model, split, target))
    products = train.cosines(test) * torch.outer(train.lengths().double(), test.lengths().double())
    return {"products": stored(products).numpy(force=True), "squares": train.squared_norms().numpy(force=True)}


def memory(size: Size) -> int:
    """Bytes that `prepare` takes at work."""
    return size.gradients + 16 * size.n * size.m


def score(members: Iterable[dict[str, np.ndarray]]) -> Iterator[np.ndarray]:
    """Their mean over members, (n, m)."""
    return running_mean(member["products"] for member in members)


def self_influence(members: Iterable[dict[str, np.ndarray]]) -> Iterator[np.ndarray]:
    """$|g_i|^2$ (n,), mean over members."""
    return running_mean(member["squares"] for member in members)
