"""Measured outputs of a classifier, one number an example: what attribution explains and retraining measures."""

import torch
from torch import Tensor


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, logits (..., c) and labels (...) to (...)."""
    return -torch.log_softmax(logits, -1).gather(-1, labels[..., None]).squeeze(-1)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-odds of the right class, log(p / (1 - p)), logits (..., c) and labels (...) to (...).

    Park et al. 2023, arXiv:2303.14186, the model output function for classification.
    """
    right = logits.gather(-1, labels[..., None]).squeeze(-1)
    others = torch.full_like(logits, 0.0).scatter(-1, labels[..., None], -torch.inf)
    return right - torch.logsumexp(logits + others, -1)


OUTPUTS = {"loss": loss, "margin": margin}
