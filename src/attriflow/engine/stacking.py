"""Stacked memory: what many runs hold in one buffer, a row a run.

Rows are padded to whole vector registers and cache lines. An elementwise operation then treats an element of a run
alike, and a matrix product takes the same path through its kernels, wherever the run stands and however many there
are: results do not depend on the stack, to the bit.
"""

import math

import torch
from torch import Tensor, nn

_ALIGNMENT = 64  # elements


def aligned(runs: int, *shape: int, like: Tensor) -> Tensor:
    """An uninitialised (runs, *shape) whose rows begin at aligned addresses, of the device and dtype of a tensor."""
    size = math.prod(shape)
    return like.new_empty(runs, _padded(size))[:, :size].unflatten(1, shape)


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


class Flat:
    """Trainable parameters and their gradient buffers, (runs, p padded), and views of both by the module's names.

    Tied parameters are one, under the first of their names. idle: names that do not train either.
    """

    def __init__(self, modules: list[nn.Module], device: torch.device, idle: frozenset[str] = frozenset()):
        places, end = {}, 0
        for name, parameter in modules[0].named_parameters():
            if parameter.requires_grad and name not in idle:
                places[name] = (end, parameter.shape)
                end += _padded(parameter.numel())
        dtype = next(modules[0].parameters()).dtype
        self.values = torch.zeros(len(modules), end, device=device, dtype=dtype)
        self.buffer = torch.zeros(len(modules), end, device=device, dtype=dtype)
        self.parameters = _views(self.values, places)
        self.gradients = _views(self.buffer, places)
        for name, stacked in self.parameters.items():
            for row, module in zip(stacked, modules, strict=True):
                row.copy_(module.get_parameter(name).detach())

    def state(self) -> dict[str, Tensor]:
        """A copy of the parameters, name -> (runs, ...)."""
        return {name: values.clone() for name, values in self.parameters.items()}


def _views(rows: Tensor, places: dict[str, tuple[int, torch.Size]]) -> dict[str, Tensor]:
    return {name: rows[:, start : start + shape.numel()].unflatten(1, shape) for name, (start, shape) in places.items()}
