"""Measured outputs of a model, one number an example: what attribution explains and retraining measures.

A classifier has logits (n, ..., c) and labels (n, ...) of whole numbers; the positions of a sequence, where there are
any, are averaged. A regression has outputs (n, 1) and labels (n,) of a floating dtype: that is what tells them apart.
"""

import torch
from torch import Tensor


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, or the squared error (f - y)² of a regression, (n,).

    Raises ValueError for a regression with more than one output.
    """
    if labels.is_floating_point():
        return (only(logits) - labels).square()
    return _mean(-torch.log_softmax(logits, -1).gather(-1, labels[..., None]).squeeze(-1))


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-odds of the right class, log(p / (1 - p)), (n,).

    Park et al. 2023, arXiv:2303.14186, the model output function for classification.
    Raises ValueError for a regression.
    """
    if labels.is_floating_point():
        raise ValueError("margin: labels are numbers, so there is no right class; a regression has the output 'loss'")
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


def measured(logits: Tensor, labels: Tensor) -> list[str]:
    """The outputs that exist: the loss alone of a regression, those of positions only where there are positions."""
    if labels.is_floating_point():
        return ["loss"]
    return [name for name in OUTPUTS if logits.ndim > 2 or name != "last_token_loss"]


def quality(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Mean loss, and the accuracy of a classifier over all positions, or R² of a regression.

    R² is 1 - mean squared error / variance of these labels; there is none where they are all the same.
    """
    found = {"loss": float(loss(logits, labels).mean())}
    if not labels.is_floating_point():
        return found | {"accuracy": float((logits.argmax(-1) == labels).double().mean())}
    spread = float(labels.var(correction=0))
    return found | ({"r2": 1 - found["loss"] / spread} if spread > 0 else {})


def only(outputs: Tensor) -> Tensor:
    """The output (n,) of a regression (n, 1). Raises ValueError where there are several."""
    if outputs.ndim == 0 or outputs.shape[-1] != 1:
        found = outputs.shape[-1] if outputs.ndim else "a number without an axis"
        raise ValueError(f"loss: labels are numbers, so the model must have 1 output an example, not {found}")
    return outputs.squeeze(-1)
