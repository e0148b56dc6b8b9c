r"""TRAK: attribution with a linearised model on randomly projected gradients.

Park et al. 2023, arXiv:2303.14186, eq. (13) and (14). Conventions: the projection has entries of variance 1/k, the
kernel is a mean over the n training examples and damping is added to it, so damping has the unit of a mean squared
gradient of the margin, as in `influence`. (TRAK and dattri divide gradients by sqrt(p) and leave the kernel a sum:
their damping is ours times n / p.) TRAK's published recipe has damping 0.
"""

from collections.abc import Iterable, Iterator
from itertools import tee
from typing import Literal

import numpy as np
import torch

from attriflow.data import Split
from attriflow.gradients import per_example
from attriflow.hyperparameters import Epoch, NonNegative, Parameters, PositiveInt
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.projection import project
from attriflow.scores import running_mean

_ROWS = 4096  # of projected gradients that are held in float64 at once


def prepare(
    member: Trained,
    split: Split,
    *,
    proj_dim: PositiveInt,
    projection: Literal["gaussian", "rademacher", "sjlt"] = "gaussian",
    epoch: Epoch = "last",
    parameters: Parameters = "all",
) -> dict[str, np.ndarray]:
    r"""Projected gradients of the margin, train (n, k) and test (m, k), the mean kernel (k, k), and $Q = 1 - p$ (n,).

    Each member has its own projection. p is the model's probability of the training label.
    """
    model = member.model(epoch, parameters)
    sets = [
        per_example(model, split.train_x, split.train_y, "margin"),
        per_example(model, split.test_x, split.test_y, "margin"),
    ]
    train, test = project(sets, member.stream, dimension=proj_dim, kind=projection)
    with torch.no_grad():
        logits = model(torch.from_numpy(split.train_x).double())
    right = torch.softmax(logits, -1)[torch.arange(len(logits)), torch.from_numpy(split.train_y)]
    kernel = sum(part.double().T @ part.double() for part in train.split(_ROWS)) / len(train)
    return {
        "train": train.numpy(),
        "test": test.numpy(),
        "kernel": kernel.numpy(),
        "residuals": (1 - right).numpy(),
    }


def memory(size: Size, *, proj_dim: int) -> int:
    """Bytes that `prepare` takes at work."""
    held = 4 * (size.n + size.m + 2 * _ROWS) * proj_dim + 16 * proj_dim**2
    return 2 * size.gradients + held + 2**28 + 8 * size.activations * size.n  # the last: logits of all examples


def score(
    members: Iterable[dict[str, np.ndarray]], *, damping: NonNegative, proj_dim: PositiveInt
) -> Iterator[np.ndarray]:
    r"""$\overline{\phi_{test} (\Phi^\top \Phi / n + \lambda I)^{-1} \phi_i} \cdot \overline{1 - p_i}$ (n, m).

    A product of two means over members, not a mean of products. Raises ValueError where the kernel is singular.
    """
    for_kernels, for_residuals = tee(members)
    kernels = running_mean(_kernel(member, damping, proj_dim) for member in for_kernels)
    residuals = running_mean(member["residuals"] for member in for_residuals)
    for kernel, residual in zip(kernels, residuals, strict=True):
        yield kernel * residual[:, None]


def _kernel(member: dict[str, np.ndarray], damping: float, k: int) -> np.ndarray:
    train, test, kernel = (torch.from_numpy(np.asarray(member[name])) for name in ("train", "test", "kernel"))
    # ASSUME: papers that sweep a damping of TRAK do not all say where it enters; it is added to the mean kernel of
    # unit-variance projections divided by k.
    damped = kernel[:k, :k] / k + damping * torch.eye(k, dtype=torch.float64)
    factor, failed = torch.linalg.cholesky_ex(damped)
    if failed:
        raise ValueError(
            f"damping {damping}: the kernel of {len(train)} training examples in {k} dimensions is singular; "
            f"use a positive damping or fewer dimensions"
        )
    solved = torch.cholesky_solve(test[:, :k].double().T / k, factor)  # (k, m)
    return (train[:, :k] @ solved.float()).numpy()
