"""Small convolutional network."""

import math

import torch
from torch import nn

from attriflow.hyperparameters import PositiveInt


def build(shape: tuple[int, ...], classes: int, *, channels: list[PositiveInt] = (8, 16)) -> nn.Module:
    """A 3 × 3 convolution, ReLU and 2 × 2 average pooling per entry of `channels`, then one linear layer.

    shape (channels, height, width). Raises ValueError for inputs of another shape, and where pooling leaves nothing.
    """
    if len(shape) != 3:
        raise ValueError(f"cnn takes inputs (channels, height, width), not {tuple(shape)}")
    if min(shape[1:]) < 2 ** len(channels):
        raise ValueError(f"cnn: {len(channels)} poolings leave nothing of {shape[1]} × {shape[2]} inputs")
    layers: list[nn.Module] = []
    width = shape[0]
    for filters in channels:
        layers += [nn.Conv2d(width, filters, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
        width = filters
    features = nn.Sequential(*layers, nn.Flatten())
    with torch.no_grad():
        flat = math.prod(features(torch.zeros(1, *shape)).shape)
    return nn.Sequential(features, nn.Linear(flat, classes))
