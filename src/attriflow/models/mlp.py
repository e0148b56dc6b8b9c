"""Multilayer perceptron with ReLU, dropout after each hidden layer."""

import math

from torch import nn

from attriflow.hyperparameters import PositiveInt, Probability


def build(
    shape: tuple[int, ...], classes: int, *, hidden: list[PositiveInt] = (128, 64), dropout: Probability = 0.1
) -> nn.Module:
    """Hidden layers of the given widths. Default widths and rate: SOURCE: dattri's MNIST benchmark, 784-128-64-10."""
    layers: list[nn.Module] = [nn.Flatten()]
    width = math.prod(shape)
    for units in hidden:
        # ASSUME: dropout follows every hidden layer and is off when gradients and outputs are taken.
        layers += [nn.Linear(width, units), nn.ReLU()] + ([nn.Dropout(dropout)] if dropout else [])
        width = units
    return nn.Sequential(*layers, nn.Linear(width, classes))
