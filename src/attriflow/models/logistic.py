"""Multinomial logistic regression; linear regression where labels are numbers."""

import math

from torch import nn


def build(shape: tuple[int, ...], classes: int) -> nn.Module:
    """One linear layer with bias on the flattened input."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))
