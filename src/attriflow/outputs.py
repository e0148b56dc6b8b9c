"""Measured outputs of a classifier, one number an example: what attribution explains and retraining measures.

logits (n, ..., c) and labels (n, ...); the positions of a sequence, where there are any, are averaged.
"""

import torch
from torch import Tensor


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, (n,); of numbers as labels the squared error of the single output."""
    if labels.is_floating_point():
        return (logits.squeeze(-1) - labels).square()
    return _mean(-torch.log_softmax(logits, -1).gather(-1, labels[..., None]).squeeze(-1))


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-odds of the right class, log(p / (1 - p)), (n,).

    Park et al. 2023, arXiv:2303.14186, the model output function for classification.
    """
    right = logits.gather(-1, labels[..., None]).squeeze(-1)
    others = torch.full_like(logits, 0.0).scatter(-1, labels[..., None], -torch.inf)
    return _mean(right - torch.logsumexp(logits + others, -1))


def _mean(values: Tensor) -> Tensor:
    return values if values.ndim == 1 else values.flatten(1).mean(1)


def last_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy at the last position of each sequence, (n,); logits (n, t, c).

    Raises ValueError for logits without positions.
    """
    if logits.ndim < 3:
        raise ValueError("last_token_loss: the model gives one vector of logits an example, not one a position")
    return loss(logits[:, -1], labels[:, -1])


OUTPUTS = {"loss": loss, "margin": margin, "last_token_loss": last_token_loss}


def measured(logits: Tensor) -> list[str]:
    """The outputs that exist for such logits: those of positions only where there are positions."""
    return [name for name in OUTPUTS if logits.ndim > 2 or name != "last_token_loss"]
