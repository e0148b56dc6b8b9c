r"""TRAK: attribution with a linearised model on randomly projected gradients.

Park et al. 2023, arXiv:2303.14186, eq. (13) and (14). Conventions: the projection has entries of variance 1/k, the
kernel is a mean over the n training examples and damping is added to it, so damping has the unit of a mean squared
gradient of the margin, as in `influence`. (TRAK and dattri divide gradients by sqrt(p) and leave the kernel a sum:
their damping is ours times n / p.) TRAK's published recipe has damping 0.

TRAK linearises a model output f and attributes it; the loss enters through $Q = -d \ell / d f$ at the training
examples. Of a classifier f is the margin, so $Q = 1 - p$. Of a regression f is its only output, so $Q = 2 (y - f)$; a
larger f is no better one, so the test example's output is minus its squared error, with the gradient
$2 (y - f) \nabla f$.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import tee
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from attriflow.curvature import decompose
from attriflow.data import Split
from attriflow.device import inputs, labels
from attriflow.gradients import of_several
from attriflow.hyperparameters import Epoch, NonNegative, Parameters, PositiveInt
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.outputs import check_labels, loss, mean, of_labels, only
from attriflow.precision import columns_near_one, near_one
from attriflow.projection import project
from attriflow.scores import of_gradients, running_mean
from attriflow.spectrum import Spectrum

_SINGULAR = 2.0**-52  # times k and the largest pivot of a kernel: what a pivot has of rounding error
_ROWS = 4096  # of projected gradients that are held in float64 at once


def prepare(
    member: Trained,
    split: Split,
    *,
    proj_dim: PositiveInt,
    projection: Literal["gaussian", "rademacher", "sjlt", "none"] = "gaussian",
    epoch: Epoch = "last",
    parameters: Parameters = "all",
) -> dict[str, np.ndarray]:
    r"""Projected gradients of the output, train (n, k) and test (m, k), the mean kernel (k, k), and residuals Q (n,).

    explained (n,): what a gradient of the output is times, to be one of what the test examples explain: 1 for margins,
    Q for squared errors. Each member has its own projection; 'none' keeps all gradients, proj_dim is then the number of
    parameters. p is the model's probability of the training label; of a sequence the mean of 1 - p over its positions.
    """
    # ASSUME: the paper has no regression; its residuals are signed there, and their mean over members is that of signed
    # numbers, as the paper's is of 1 - p.
    found = residuals(member, split, epoch=epoch, parameters=parameters)
    model = member.model(epoch, parameters)
    modelled, explained = (_value, _minus_loss) if split.regression else ("margin", "margin")
    sets = of_several(model, (split.train_x, split.train_y, modelled), (split.test_x, split.test_y, explained))
    train, test = project(sets, member.stream, dimension=proj_dim, kind=projection)
    kernel = sum(part.double().T @ part.double() for part in train.split(_ROWS)) / len(train)
    ones = np.ones_like(found["residuals"])
    return found | {
        "train": train.numpy(force=True),
        "test": test.numpy(force=True),
        "kernel": kernel.numpy(force=True),
        "explained": _residuals(model, split).numpy(force=True) if split.regression else ones,
        "whole": np.array(projection == "none"),
    }


def residuals(
    member: Trained, split: Split, *, epoch: Epoch = "last", parameters: Parameters = "all"
) -> dict[str, np.ndarray]:
    """Residuals Q (n,), by one pass forward over the training examples."""
    return {"residuals": _residuals(member.model(epoch, parameters, "residuals"), split).numpy(force=True)}


def _value(outputs: Tensor, _: Tensor) -> Tensor:
    return only(outputs)


def _minus_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return -loss(outputs, targets)


def _residuals(model: nn.Module, split: Split) -> Tensor:
    """Q (n,), minus the derivative of the training loss by the output."""
    y = labels(model, split.train_y)
    with torch.no_grad():
        outputs = model(inputs(model, split.train_x))
    if split.regression:
        return 2 * (y - only(outputs))
    check_labels(outputs, y)
    return mean(1 - of_labels(torch.softmax(outputs, -1), y), y)


def memory(size: Size, *, proj_dim: int) -> int:
    """Bytes that `prepare` takes at work."""
    held = 4 * (size.n + size.m + 2 * _ROWS) * proj_dim + 16 * proj_dim**2
    return 2 * size.gradients + held + 2**28 + 8 * size.activations * size.n  # the last: logits of all examples


def score(
    members: Iterable[dict[str, np.ndarray]], *, damping: NonNegative, proj_dim: PositiveInt
) -> Iterator[np.ndarray]:
    r"""$\overline{\phi_{test} (\Phi^\top \Phi / n + \lambda I)^{-1} \phi_i} \cdot \overline{Q_i}$ (n, m).

    A product of two means over members, not a mean of products. Raises ValueError where the kernel is singular.
    """
    for kernel, residual in _means(members, lambda member: _kernel(member, damping, proj_dim)):
        yield kernel * residual[:, None]


def _means(
    members: Iterable[dict[str, np.ndarray]], kernel: Callable[[dict[str, np.ndarray]], np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The means of what `kernel` makes of the members so far, and of their residuals (n,)."""
    for_kernels, for_residuals = tee(members)
    kernels = running_mean(of_gradients(kernel, for_kernels))
    return zip(kernels, running_mean(member["residuals"] for member in for_residuals), strict=True)


def _kernel(member: dict[str, np.ndarray], damping: float, k: int) -> np.ndarray:
    train, test = (torch.from_numpy(np.asarray(member[name])) for name in ("train", "test"))
    factor = _factor(member, damping, k)
    solved = torch.cholesky_solve(test[:, :k].double().T / k, factor)  # (k, m)
    (train, scale), (solved, scales) = near_one(train[:, :k]), columns_near_one(solved)
    return ((train @ solved).double() * (scale * scales)).numpy()


def _factor(member: dict[str, np.ndarray], damping: float, k: int) -> torch.Tensor:
    """The Cholesky factor (k, k) of the damped kernel."""
    # ASSUME: papers that sweep a damping of TRAK do not all say where it enters; it is added to the mean kernel of
    # unit-variance projections divided by k.
    damped = _mean_kernel(member, k) + damping * torch.eye(k, dtype=torch.float64)
    factor, failed = torch.linalg.cholesky_ex(damped)
    pivots = factor.diagonal().square()
    if failed or pivots.min() <= _SINGULAR * k * pivots.max():
        raise ValueError(
            f"damping {damping}: the kernel of {len(member['train'])} training examples in {k} dimensions is singular; "
            f"use a positive damping or fewer dimensions"
        )
    return factor


def _mean_kernel(member: dict[str, np.ndarray], k: int) -> torch.Tensor:
    size = len(member["kernel"])
    if member["whole"] and k != size:
        raise ValueError(f"proj_dim {k}: gradients that are not projected have no smaller dimension than p = {size}")
    return torch.from_numpy(np.asarray(member["kernel"]))[:k, :k] / k


def spectrum(member: dict[str, np.ndarray], *, proj_dim: PositiveInt) -> Spectrum:
    """Of the mean kernel: one decomposition, k³. The parameters are the k projected ones."""
    # ASSUME: the indicator of TRAK takes its Q as constant, the kernel as the covariance of the training gradients; the
    # exact variance of its scores would weigh the examples by Q².
    values, vectors = decompose(_mean_kernel(member, proj_dim))
    test = torch.from_numpy(np.asarray(member["test"]))[:, :proj_dim].double()
    squares = (test @ vectors).square().T / proj_dim
    return Spectrum.of(values.numpy(), squares.numpy(), dimension=proj_dim)


def self_influence(
    members: Iterable[dict[str, np.ndarray]], *, damping: NonNegative, proj_dim: PositiveInt
) -> Iterator[np.ndarray]:
    r"""$\overline{\phi_i (\Phi^\top \Phi / n + \lambda I)^{-1} \phi_i} \cdot \overline{Q_i}$ (n,), of a regression with
    $Q_i \phi_i$ in place of the first $\phi_i$.

    The diagonal of the scores of the training examples on each other. Raises ValueError as `score` does.
    """
    for kernel, residual in _means(members, lambda member: _own_kernel(member, damping, proj_dim)):
        yield kernel * residual


def _own_kernel(member: dict[str, np.ndarray], damping: float, k: int) -> np.ndarray:
    train, factor = torch.from_numpy(np.asarray(member["train"])), _factor(member, damping, k)
    own = torch.cat([
        torch.linalg.solve_triangular(factor, part[:, :k].double().T, upper=False).square().sum(0) / k
        for part in train.split(_ROWS)
    ])  # fmt: skip
    return own.numpy() * np.asarray(member["explained"])
