"""Where tensors live, and in what precision gradients are taken.

A device decides where numbers are computed, not which: random numbers are drawn on the processor and moved, so results
on two devices differ by rounding alone. It is part of no spec, as the number of threads is not. The precision is.
"""

import torch
from torch import nn

CPU = torch.device("cpu")
DTYPES = {"float64": torch.float64, "float32": torch.float32}


def choose(name: str) -> torch.device:
    """The device of a name: 'cpu', 'cuda', or 'auto' for the second where there is one.

    Raises ValueError for a device that is asked for and not there: nothing moves to the processor silently.
    """
    there = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda") if there else CPU
    if torch.device(name).type == "cuda" and not there:
        raise ValueError(f"device: '{name}' asked for, but torch {torch.__version__} finds none; use 'cpu' or 'auto'")
    return torch.device(name)


def of(model: nn.Module) -> torch.device:
    """The device of a model's parameters."""
    return next(model.parameters()).device
