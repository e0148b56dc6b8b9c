r"""Influence functions in the dominant directions of the curvature, by Arnoldi iteration.

Schioppa et al. 2022, arXiv:2112.03052: one Krylov space of C from a random vector serves all training and test
examples; the eigenpairs $(\theta_j, u_j)$ of C within it that are largest in absolute value replace those of C,

$$\sum_j (g_i \cdot u_j)(g_{test} \cdot u_j) / (|\theta_j| + \lambda).$$

Damping is absolute and belongs to the *mean* curvature, as in `influence`; the paper has none.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import torch

from attriflow.curvature import products
from attriflow.data import Split
from attriflow.gradients import of_split
from attriflow.hyperparameters import Epoch, NonNegative, Parameters, PositiveInt, Target
from attriflow.krylov import inverse, lanczos, ritz
from attriflow.layerwise import absolute
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.precision import stored, widened
from attriflow.scores import running_mean
from attriflow.spectrum import Spectrum


def prepare(
    member: Trained,
    split: Split,
    *,
    iterations: PositiveInt,
    curvature: Literal["fisher", "ggn", "hessian"] = "hessian",
    epoch: Epoch = "last",
    parameters: Parameters = "all",
    target: Target = "loss",
) -> dict[str, np.ndarray]:
    """All gradients in the Lanczos basis of s = `iterations` steps: train (n, s), test (m, s).

    diagonal (s,), beside (s - 1,): the curvature in that basis, tridiagonal, float64; parameters: p; mean_square: of
    the training gradients. Each member has
    its own start vector. The basis of fewer steps is the beginning of this one, so `iterations` is a prefix.

    Cost: s products with C, whatever n and m. Memory: 8 p s bytes for the basis, and what `curvature.products` and the
    factored gradients take.
    """
    model = member.model(epoch, parameters)
    train, test = widened(*of_split(model, split, target))
    # ASSUME: the distribution of the random start vector is not given; it is Gaussian.
    start = torch.from_numpy(member.stream("arnoldi").standard_normal((1, train.size)))
    start = start.to(train.device, train.parts[0].dtype)
    # ASSUME: every product takes all training examples; the paper takes a batch of them.
    space = lanczos(products(curvature, model, split.train_x, split.train_y, train), start, iterations)
    return {
        "train": stored(train.times(space.basis[0])).numpy(force=True),
        "test": stored(test.times(space.basis[0]).T).T.numpy(force=True),
        "diagonal": space.diagonal[0].numpy(force=True),
        "beside": space.beside[0].numpy(force=True),
        "parameters": np.array(train.size),
        "mean_square": np.array(float(train.mean_square())),
    }


def memory(size: Size, *, iterations: int) -> int:
    """Bytes that `prepare` takes at work."""
    basis = 16 * size.p * iterations + 8 * iterations * (size.n + size.m)
    return size.gradients + size.products(1, size.n) + basis


def passes(n: int, m: int, *, iterations: int) -> float:
    """Of the training examples, that `prepare` makes besides taking gradients: a product with C is two."""
    return 2 * iterations


def score(
    members: Iterable[dict[str, np.ndarray]],
    *,
    damping: NonNegative,
    iterations: PositiveInt,
    rank: PositiveInt | Literal["all"] = "all",
    relative: bool = False,
) -> Iterator[np.ndarray]:
    r"""$\sum_{j \le rank} (g_i u_j)(u_j g_{test}) / (|\theta_j| + \lambda)$ (n, m), mean over members.

    rank: how many Ritz pairs to keep, the largest $|\theta|$ first; those that are rounding error are dropped. Raises
    ValueError for more iterations than prepared, and for a rank above the iterations.

    relative: damping in units of the mean squared entry of all training gradients.
    """
    return running_mean(_solve(member, absolute(damping, relative, member), iterations, rank) for member in members)


def _solve(member: dict[str, np.ndarray], damping: float, steps: int, rank: int | str) -> np.ndarray:
    values, vectors = _pairs(member, steps, rank)
    # ASSUME: a negative Ritz value enters by its absolute value, as the eigenvalues of `influence` do; the paper does
    # not say.
    weights = inverse(values, damping, int(member["parameters"]))
    left, right = member["train"][:, :steps] @ vectors, member["test"][:, :steps] @ vectors
    return (left * weights) @ right.T


def spectrum(
    member: dict[str, np.ndarray],
    *,
    iterations: PositiveInt,
    rank: PositiveInt | Literal["all"] = "all",
    relative: bool = False,
) -> Spectrum:
    """Of the Ritz pairs that the scores are made from, with absolute values; they stand for the covariance of the
    training gradients, as in `influence`. In units of the mean squared gradient where relative.
    """
    values, vectors = _pairs(member, iterations, rank)
    squares = np.square(np.asarray(member["test"][:, :iterations], np.float64) @ vectors).T
    kept = inverse(values, 0.0, int(member["parameters"])) > 0  # the others are rounding error
    return Spectrum.of(
        np.abs(values[kept]),
        squares[kept],
        dimension=int(member["parameters"]),
        unit=absolute(1.0, relative, member),
    )


def _pairs(member: dict[str, np.ndarray], steps: int, rank: int | str) -> tuple[np.ndarray, np.ndarray]:
    """The Ritz pairs that are largest in absolute value, as many as the rank says: values (k,), vectors (steps, k)."""
    count = steps if rank == "all" else rank
    if count > steps:
        raise ValueError(f"rank: {rank} asked for, {steps} iterations have no more than {steps}")
    values, vectors = ritz(member["diagonal"], member["beside"], steps)
    kept = np.argsort(-np.abs(values))[:count]
    return values[kept], vectors[:, kept]
