"""TracIn: inner products of gradients summed over the checkpoints of one training."""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import torch

from attriflow.data import Split
from attriflow.gradients import of_split
from attriflow.hyperparameters import Parameters, PositiveInt, Target
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.precision import widened
from attriflow.scores import running_mean

ACCESS = "training"  # it looks at more than the final model


def prepare(
    member: Trained, split: Split, *, parameters: Parameters = "all", target: Target = "loss"
) -> dict[str, np.ndarray]:
    r"""For each kept checkpoint: cosines (t, n, m), lengths (t, n) and (t, m) of gradients, learning rates (t,).

    Raises ValueError for a model of whose training no learning rates are known.
    """
    if not member.rates:
        raise ValueError(f"tracin: the learning rates of member {member.name} are not known; use a model trained here")
    found = {"cosines": [], "train_lengths": [], "test_lengths": []}
    for epoch in member.checkpoints:
        model = member.model(epoch, parameters)
        train, test = widened(*of_split(model, split, target))
        found["cosines"].append(train.cosines(test))
        found["train_lengths"].append(train.lengths().double())
        found["test_lengths"].append(test.lengths().double())
    arrays = {name: torch.stack(values).numpy(force=True) for name, values in found.items()}
    return arrays | {"rates": np.array([member.rates[epoch] for epoch in member.checkpoints])}


def memory(size: Size) -> int:
    """Bytes that `prepare` takes at work."""
    return size.gradients + (4 * size.t + 24) * size.n * size.m


def score(
    members: Iterable[dict[str, np.ndarray]],
    *,
    normalise: bool = False,
    checkpoints: PositiveInt | Literal["all"] = "all",
) -> Iterator[np.ndarray]:
    r"""$\sum_t \eta_t \, g_i(\theta_t) \cdot g_{test}(\theta_t)$ (n, m), mean over members.

    Pruthi et al. 2020, arXiv:2002.08484, eq. (1) of TracInCP, $\eta_t$ the learning rate at checkpoint t.
    normalise: cosines instead of inner products, 0 where a gradient is zero. checkpoints: the last so many of those
    that the setting keeps. Raises ValueError if it keeps fewer.
    """
    return running_mean(_tracin(member, normalise, checkpoints) for member in members)


def _tracin(member: dict[str, np.ndarray], normalise: bool, checkpoints: int | str) -> np.ndarray:
    total = 0.0
    # ASSUME: the learning rate of a checkpoint is that of the last step before it, whatever lies between two
    # checkpoints.
    for place in _places(member, checkpoints):
        weighted = np.asarray(member["cosines"][place], np.float64) * float(member["rates"][place])
        if not normalise:
            weighted *= np.outer(member["train_lengths"][place], member["test_lengths"][place])
        total = total + weighted
    return total


def _places(member: dict[str, np.ndarray], checkpoints: int | str) -> range:
    kept = len(member["rates"])
    used = kept if checkpoints == "all" else checkpoints
    if used > kept:
        raise ValueError(f"checkpoints: {used} asked for, the setting keeps {kept}")
    return range(kept - used, kept)


def self_influence(
    members: Iterable[dict[str, np.ndarray]], *, checkpoints: PositiveInt | Literal["all"] = "all"
) -> Iterator[np.ndarray]:
    r"""$\sum_t \eta_t |g_i(\theta_t)|^2$ (n,), mean over members, by which the paper finds mislabelled examples.

    Raises ValueError as `score` does.
    """
    return running_mean(
        sum(member["rates"][place] * member["train_lengths"][place] ** 2 for place in _places(member, checkpoints))
        for member in members
    )
