"""What a model's last layer sees."""

import numpy as np
import torch
from torch import Tensor, nn

from attriflow.device import inputs
from attriflow.models._outputs import two_logits

_BATCH = 500


def last_layer(model: nn.Module, x: np.ndarray) -> nn.Linear:
    """The linear layer whose output is the model's. Raises ValueError where another operation comes last."""
    return _seen(model, x[:1])[0]


def penultimate(model: nn.Module, x: np.ndarray) -> Tensor:
    """The inputs (n, width) of the last layer at x (n, ...), in the model's dtype.

    Raises ValueError with the indices of examples at which they are not finite, and where the model's outputs are not
    those of a linear layer at some example: changed after the layer gave them, by a hook or in place, too.
    """
    found = torch.cat([_seen(model, x[start : start + _BATCH])[1] for start in range(0, len(x), _BATCH)])
    bad = torch.nonzero(~found.isfinite().all(1)).flatten().tolist()
    if bad:
        raise ValueError(
            f"the inputs of the last layer are not finite at examples {bad[:10]}{' ...' if len(bad) > 10 else ''}; "
            f"look for inputs that are not finite, or too large for the model"
        )
    return found


def _seen(model: nn.Module, x: np.ndarray) -> tuple[nn.Linear, Tensor]:
    """The last linear layer that a pass uses, and what it is given; its product is what the model gives."""
    given: list[tuple[nn.Linear, Tensor]] = []

    def keep(layer: nn.Linear, inputs: tuple, named: dict):
        given.append((layer, (inputs[0] if inputs else named["input"]).clone()))  # before anything can change it

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    handles = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in layers]
    try:
        with torch.no_grad():
            logits = model(inputs(model, x))
            logits = logits[..., 1:] if two_logits in model._forward_hooks.values() else logits  # the layer gave one
            made = nn.functional.linear(given[-1][1], given[-1][0].weight, given[-1][0].bias) if given else None
    finally:
        for handle in handles:
            handle.remove()
    if made is None or logits.ndim != 2 or made.shape != logits.shape or not _equal(made, logits):
        raise ValueError("the model does not end with a linear layer on one vector an example; this method needs one")
    return given[-1]


def _equal(made: Tensor, logits: Tensor) -> bool:
    """Up to rounding."""
    tolerance = torch.finfo(logits.dtype).eps ** 0.5
    scale = logits.abs().amax(1, keepdim=True)
    return bool(((made - logits).abs() <= tolerance * scale).logical_or(~logits.isfinite()).all())
