"""Multilayer perceptron with ReLU, dropout after each hidden layer."""

import math
from collections import OrderedDict

from torch import nn

from attriflow.hyperparameters import PositiveInt, Probability


def build(
    shape: tuple[int, ...], classes: int, *, hidden: list[PositiveInt] = (128, 64), dropout: Probability = 0.1
) -> nn.Module:
    """Hidden layers of the given widths. Default widths and rate: SOURCE: dattri's MNIST benchmark, 784-128-64-10."""
    # ASSUME: dropout follows every hidden layer and is off when gradients and outputs are taken.
    layers, width = {"0": nn.Flatten()}, math.prod(shape)
    numbers = 3 if dropout else 2  # a rate of 0 keeps its layers, which an ensemble may mask, but takes no number
    for place, units in enumerate(hidden):
        first = 1 + numbers * place
        layers |= {str(first): nn.Linear(width, units), str(first + 1): nn.ReLU()}
        layers[str(first + 2) if dropout else f"dropout_{place}"] = nn.Dropout(dropout)
        width = units
    layers[str(1 + numbers * len(hidden))] = nn.Linear(width, classes)
    return nn.Sequential(OrderedDict(layers))
