"""What methods share that take every layer for itself: a curvature of one block a layer, scores summed over layers.

A layer is a part of the gradients, named by its first parameter. What such a method prepares is a flat mapping of
arrays, `<layer>/<array>`; among them `mean_square`, the mean diagonal entry of the layer's block, which is the unit of
a relative damping.
"""

import numpy as np
import torch
from torch import Tensor

from attriflow.gradients import Gradients


def places(train: Gradients) -> dict[str, int]:
    """Layer -> its place among the parts, without layers whose training gradients are all zero: those add nothing.

    Raises ValueError where no layer is left.
    """
    found = {part.names[0]: place for place, part in enumerate(train.parts) if part.squared_norms().any()}
    if not found:
        raise ValueError("the curvature is zero everywhere: every training gradient vanishes")
    return found


def pack(layers: dict[str, dict[str, Tensor]]) -> dict[str, np.ndarray]:
    """The arrays of every layer in one flat mapping.

    >>> sorted(pack({"head.weight": {"values": torch.ones(2)}}))
    ['head.weight/values']
    """
    return {
        f"{layer}/{name}": array.numpy(force=True) for layer, arrays in layers.items() for name, array in arrays.items()
    }


def unpack(member: dict[str, np.ndarray]) -> dict[str, dict[str, Tensor]]:
    """The layers of a flat mapping, in their order: the reverse of `pack`."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, array in member.items():
        layer, name = key.rsplit("/", 1)
        layers.setdefault(layer, {})[name] = torch.from_numpy(np.asarray(array))
    return layers


def absolute(damping: float, relative: bool, layer: dict[str, Tensor | np.ndarray]) -> float:
    """The damping of one layer, or of all at once: as given, or in units of its `mean_square`."""
    return damping * float(layer["mean_square"]) if relative else damping
