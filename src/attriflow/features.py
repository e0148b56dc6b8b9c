"""What a model's last layer sees."""

import numpy as np
import torch
from torch import Tensor, nn

from attriflow.device import inputs

_BATCH = 500


def last_layer(model: nn.Module, x: np.ndarray) -> nn.Linear:
    """The linear layer whose output is the model's. Raises ValueError where another operation comes last."""
    used: list[tuple[nn.Linear, Tensor]] = []
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear]
    handles = [layer.register_forward_hook(lambda layer, _, result: used.append((layer, result))) for layer in layers]
    with torch.no_grad():
        logits = model(inputs(model, x[:1]))
    for handle in handles:
        handle.remove()
    if not used or used[-1][1] is not logits or logits.ndim != 2:
        raise ValueError("the model does not end with a linear layer on one vector an example; this method needs one")
    return used[-1][0]


def penultimate(model: nn.Module, x: np.ndarray) -> Tensor:
    """The inputs (n, width) of the last layer at x (n, ...), in the model's dtype."""
    found: list[Tensor] = []
    handle = last_layer(model, x).register_forward_pre_hook(lambda _, given: found.append(given[0]))
    with torch.no_grad():
        for start in range(0, len(x), _BATCH):
            model(inputs(model, x[start : start + _BATCH]))
    handle.remove()
    return torch.cat(found)
