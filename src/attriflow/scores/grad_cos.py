"""Grad-Cos: cosines between training and test gradients of the loss."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from attriflow.data import Split
from attriflow.gradients import of_split
from attriflow.hyperparameters import Epoch, Parameters, Target
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.scores import running_mean


def prepare(
    member: Trained, split: Split, *, epoch: Epoch = "last", parameters: Parameters = "all", target: Target = "loss"
) -> dict[str, np.ndarray]:
    r"""cosines (n, m): $g_i \cdot g_{test} / (|g_i| |g_{test}|)$; 0 where a gradient is exactly zero.

    Charpiat et al. 2019, arXiv:2102.13624, eq. (5).
    """
    model = member.model(epoch, parameters)
    train, test = of_split(model, split, target)
    return {"cosines": cosines(train.gram(test), train.squared_norms(), test.squared_norms()).numpy(force=True)}


def cosines(products: torch.Tensor, train_squares: torch.Tensor, test_squares: torch.Tensor) -> torch.Tensor:
    """Inner products (n, m) and squared norms (n,), (m,) to cosines (n, m) float32, 0 for a zero vector."""
    lengths = torch.sqrt(train_squares)[:, None] * torch.sqrt(test_squares)
    return torch.where(lengths > 0, products / lengths, 0).to(torch.float32)


def memory(size: Size) -> int:
    """Bytes that `prepare` takes at work."""
    return size.gradients + 40 * size.n * size.m


def score(members: Iterable[dict[str, np.ndarray]]) -> Iterator[np.ndarray]:
    """Their mean over members, (n, m)."""
    return running_mean(member["cosines"] for member in members)
