r"""Influence functions with an exact inverse: $g_{test}^\top (C + \lambda I)^{-1} g_i$.

Koh and Liang 2017, arXiv:1703.04730, eq. (2), with the sign such that positive = helpful. Damping is absolute and
belongs to the *mean* curvature: C is a mean over the n training examples, so $\lambda$ has the unit of a mean squared
gradient (fisher) or of a second derivative of the mean loss (ggn, hessian).
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from attriflow.curvature import decompose, exact
from attriflow.data import Split
from attriflow.gradients import of_split
from attriflow.hyperparameters import Epoch, NonNegative, Parameters, Target
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.scores import running_mean
from attriflow.spectrum import Spectrum


def prepare(
    member: Trained,
    split: Split,
    *,
    curvature: Literal["fisher", "ggn", "hessian"] = "fisher",
    epoch: Epoch = "last",
    parameters: Parameters = "all",
    target: Target = "loss",
) -> dict[str, np.ndarray]:
    r"""The spectrum of C and both gradients in its basis: values (q,), left (n, q), right (q, m), squares (q,),
    and p, `parameters`.

    fisher: $C = G^\top G / n$ of the training-loss gradients G (n, p). Where p > n it is decomposed as
    $K = G G^\top / n$ (n, n), which gives the same scores:
    $G (C + \lambda I)^{-1} T^\top = (K + \lambda I)^{-1} G T^\top$.
    ggn, hessian: p × p, for models of up to 10,000 parameters; ValueError above.

    Everything is computed in float64. Modes whose eigenvalue is below q × 2⁻⁵² of the largest are rounding error and
    are dropped, so damping 0 means the pseudo-inverse. left and right are stored in float32. A training gradient's
    squared coordinate in mode j is left² times squares_j: 1, or n σ_j where left are the eigenvectors of K.
    """
    model = member.model(epoch, parameters)
    train, test = of_split(model, split, target)
    n = len(train)
    dual = curvature == "fisher" and n < train.size
    if dual:
        values, vectors = _modes(train.gram(train) / n)
        left, right = vectors, vectors.T @ train.gram(test)
    else:
        values, vectors = _modes(exact(curvature, model, split.train_x, split.train_y, train))
        left, right = train.dense() @ vectors, (test.dense() @ vectors).T
    return {
        "values": values.numpy(force=True),
        "left": left.to(torch.float32).numpy(force=True),
        "right": right.to(torch.float32).contiguous().numpy(force=True),
        "squares": (n * values if dual else torch.ones_like(values)).numpy(force=True),
        "parameters": np.array(train.size),
    }


def _modes(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of a symmetric matrix, without the modes that are rounding error."""
    values, vectors = decompose(matrix)
    kept = values != 0
    if not kept.any():
        raise ValueError("the curvature is zero everywhere: every training gradient vanishes")
    return values[kept], vectors[:, kept].contiguous()


def memory(size: Size, *, curvature: str = "fisher") -> int:
    """Bytes that `prepare` takes at work."""
    if curvature == "fisher" and size.n < size.p:
        return size.gradients + 48 * size.n**2 + 24 * size.n * size.m
    work = 0 if curvature == "fisher" else size.products(size.p, size.n)
    return size.gradients + work + 48 * size.p**2 + 16 * (size.n + size.m) * size.p


def score(
    members: Iterable[dict[str, np.ndarray]],
    *,
    damping: NonNegative,
    relatif: Literal["none", "loss", "parameters"] = "none",
) -> Iterator[np.ndarray]:
    r"""$g_{test}^\top (C + \lambda I)^{-1} g_i$ (n, m), mean over members.

    relatif: divided by what i does globally, so that no example helps everywhere by its size alone (RelatIF, Barshan
    et al. 2020, arXiv:2003.11630): by the root of its self-influence $g_i^\top (C + \lambda I)^{-1} g_i$ (loss), or by
    the length of the change of the parameters $|(C + \lambda I)^{-1} g_i|$. 0 for an example without a gradient.

    An indefinite Hessian is taken by the absolute values of its eigenvalues, $1 / (|\sigma| + \lambda)$: a direction of
    negative curvature is no reason to count an example as harmful, and no damping can meet a pole.
    """
    power = {"none": 0, "loss": 1, "parameters": 2}[relatif]
    return running_mean(_solve(member, damping, power) for member in members)


def _solve(member: dict[str, np.ndarray], damping: float, power: int) -> np.ndarray:
    inverse = _inverse(member, damping)
    left, right = torch.from_numpy(np.asarray(member["left"])), torch.from_numpy(np.asarray(member["right"]))
    found = left @ (torch.from_numpy(inverse)[:, None] * right)
    if power:
        sizes = _squared_sizes(member, damping, power).sqrt()[:, None]
        found = torch.where(sizes > 0, found / sizes, 0)
    return found.numpy()


def _inverse(member: dict[str, np.ndarray], damping: float) -> np.ndarray:
    # ASSUME: an indefinite Hessian is taken by the absolute values of its eigenvalues; Koh and Liang add a damping that
    # makes it positive and leave its size open.
    return (1 / (np.abs(member["values"]) + damping)).astype(np.float32)


def powers(member: dict[str, np.ndarray], masks: np.ndarray, *, damping: NonNegative) -> tuple[np.ndarray, np.ndarray]:
    r"""Group scores: $g_{test}^\top (C + \lambda I)^{-k} g_i$ of one member, summed over the training examples of each
    subset, masks (s, n); k = 1 and 2, (s, m) each. See `attriflow.mechanism`.
    """
    left, right = torch.from_numpy(np.asarray(member["left"])), torch.from_numpy(np.asarray(member["right"]))
    groups = torch.from_numpy(masks.astype(np.float32)) @ left  # (s, q)
    inverse = torch.from_numpy(_inverse(member, damping))
    return ((groups * inverse) @ right).numpy(), ((groups * inverse.square()) @ right).numpy()


def spectrum(member: dict[str, np.ndarray]) -> Spectrum:
    """Of C, with absolute eigenvalues as in `score`.

    The weights are those of C as the covariance of the training gradients, which the Fisher is. Where p > n the modes
    and weights are those of the n × n form: the part of a test gradient outside of all training gradients drops out.
    """
    # ASSUME: the indicator is derived for the Fisher; a Gauss-Newton matrix or Hessian stands for the covariance of the
    # training gradients, too.
    squares = np.square(np.asarray(member["right"], np.float64)) / np.asarray(member["squares"])[:, None]
    return Spectrum.of(np.abs(member["values"]), squares, dimension=int(member["parameters"]))


def self_influence(members: Iterable[dict[str, np.ndarray]], *, damping: NonNegative) -> Iterator[np.ndarray]:
    r"""$g_i^\top (C + \lambda I)^{-1} g_i$ (n,), mean over members."""
    return running_mean(_squared_sizes(member, damping, 1).numpy() for member in members)


def _squared_sizes(member: dict[str, np.ndarray], damping: float, power: int) -> Tensor:
    r"""$g_i^\top (C + \lambda I)^{-power} g_i$ (n,)."""
    weights = (_inverse(member, damping) ** power * member["squares"]).astype(np.float32)
    return torch.from_numpy(np.asarray(member["left"])).square() @ torch.from_numpy(weights)
