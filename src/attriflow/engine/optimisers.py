"""Optimisers on stacked parameters. Every operation is elementwise, so no run sees another.

An optimiser says how gradients enter its buffer, buffer <- decay * buffer + gradient: momentum so costs no pass of
its own over the parameters, it is part of the matrix product that makes the gradient.
"""

import math

import torch
from torch import Tensor


class Sgd:
    """Stochastic gradient descent with momentum and an L2 penalty, as torch.optim.SGD defines them."""

    def __init__(self, recipe: dict, values: Tensor, buffer: Tensor):
        self.decay = recipe["momentum"]
        self._penalty = recipe["weight_decay"]
        self._values, self._buffer = values, buffer

    def step(self, rate: float):
        """Move the parameters against the buffer."""
        if self._penalty:
            self._buffer.add_(self._values, alpha=self._penalty)
        self._values.add_(self._buffer, alpha=-rate)


class Adam:
    """Adam (Kingma and Ba 2015) by torch.optim, with its defaults for the moments."""

    decay = 0.0
    _kind = torch.optim.Adam

    def __init__(self, recipe: dict, values: Tensor, buffer: Tensor):
        values.grad = buffer
        self._inner = self._kind([values], lr=recipe["learning_rate"], weight_decay=recipe["weight_decay"])

    def step(self, rate: float):
        """Move the parameters by the gradients in the buffer."""
        self._inner.param_groups[0]["lr"] = rate
        self._inner.step()


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    _kind = torch.optim.AdamW


OPTIMISERS = {"sgd": Sgd, "adam": Adam, "adamw": AdamW}


def learning_rate(recipe: dict, step: int, steps: int) -> float:
    """The learning rate of step 0 .. steps - 1. Linear and cosine schedules start at full size and end near 0."""
    done = step / steps
    factor = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    return recipe["learning_rate"] * factor[recipe["schedule"]]


def rates(recipe: dict, steps_per_epoch: int, epochs: list[int]) -> dict[int, float]:
    """The learning rate of the last step of each of these epochs."""
    total = steps_per_epoch * recipe["epochs"]
    return {epoch: learning_rate(recipe, steps_per_epoch * epoch - 1, total) for epoch in epochs}
