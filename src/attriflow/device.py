"""Where tensors live, and in what precision gradients are taken.

A device decides where numbers are computed, not which: random numbers are drawn on the processor and moved, so results
on two devices differ by rounding alone. It is part of no spec, as the number of threads is not. The precision is.
"""

import numpy as np
import torch
from torch import Tensor, nn

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


def inputs(model: nn.Module, x: np.ndarray) -> Tensor:
    """Inputs as the model takes them: on its device, in its dtype, or whole numbers where they are indices."""
    parameter = next(model.parameters())
    x = torch.from_numpy(np.ascontiguousarray(x)).to(parameter.device)
    return x.to(parameter.dtype) if x.is_floating_point() else x


def labels(model: nn.Module, y: np.ndarray) -> Tensor:
    """Labels on the model's device, in its dtype where they are numbers of a regression."""
    return inputs(model, y)
