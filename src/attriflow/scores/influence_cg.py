r"""Influence functions by conjugate gradients: $g_{test}^\top (C + \lambda I)^{-1} g_i$ for any number of parameters.

Koh and Liang 2017, arXiv:1703.04730, section 3; conjugate gradients: Hestenes and Stiefel 1952. Damping is absolute and
belongs to the *mean* curvature, as in `influence`.

The iterate of conjugate gradients after s steps from 0 is the Galerkin solution in the Krylov space of C and g_test,
$x = |g_{test}| V (T + \lambda I)^{-1} e_1$ with the Lanczos vectors V (p, s) and $T = V^\top C V$ (s, s). The space is
the same for all dampings and begins with those of fewer steps, so one pass of Lanczos replaces (number of dampings ×
number of iteration counts) runs of conjugate gradients. Fully reorthogonalised, it gives what they give in exact
arithmetic, and does not go astray once they have converged.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import torch

from attriflow.curvature import MOST_PARAMETERS, many_products
from attriflow.data import Split
from attriflow.gradients import of_split
from attriflow.gradients.parts import MOST_BYTES
from attriflow.hyperparameters import Epoch, NonNegative, Parameters, PositiveInt, Target
from attriflow.krylov import inverse, lanczos, ritz
from attriflow.layerwise import absolute
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.precision import unit, widened
from attriflow.scores import running_mean

_BASIS_BYTES = 2**30  # of the Lanczos vectors held at once


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
    r"""The Krylov space of every test gradient after s = `iterations` steps, and the training gradients in its basis.

    norms (m,), diagonal (m, s), beside (m, s - 1): |g_test| and the tridiagonal T, float64; products (s, n, m) float32:
    g_i · v_j of the j-th Lanczos vector of each test example, in units of `unit`; parameters: p; mean_square: of the
    training gradients.

    Cost: s products with C per test example, or with a matrix made once where p is no more than that. Memory: the
    larger of 1 GiB and 8 p s bytes for Lanczos vectors, 4 s n m bytes for products, and what `curvature.products` and
    the factored gradients take. Raises MemoryError where the products take more than 8 GiB.
    """
    found = _empty(iterations, len(split.train_y), len(split.test_y))
    model = member.model(epoch, parameters)
    train, test = widened(*of_split(model, split, target))
    count = iterations * len(test)
    product = many_products(curvature, model, split.train_x, split.train_y, train, count)
    spaces, size = [], unit(train.lengths())
    block = max(1, _BASIS_BYTES // (8 * train.size * iterations))
    for start in range(0, len(test), block):
        rows = slice(start, start + block)
        space = lanczos(product, test.take(rows).dense(), iterations)
        for step in range(iterations):
            found[step, :, rows] = train.times(space.basis[:, step]) / size
        spaces.append((space.norms, space.diagonal, space.beside))
    small = (torch.cat(pieces).numpy(force=True) for pieces in zip(*spaces, strict=True))
    arrays = dict(zip(("norms", "diagonal", "beside"), small, strict=True))
    return arrays | {
        "products": found.numpy(),
        "unit": np.array(size),
        "parameters": np.array(train.size),
        "mean_square": np.array(float(train.mean_square())),
    }


def _empty(iterations: int, n: int, m: int) -> torch.Tensor:
    needed = 4 * iterations * n * m
    if needed > MOST_BYTES:
        raise MemoryError(
            f"{iterations} iterations for {n} training and {m} test examples take {needed / 2**30:.1f} GiB, more than "
            f"{MOST_BYTES / 2**30:.0f}; use fewer iterations or test examples, or influence_arnoldi"
        )
    return torch.empty(iterations, n, m)


def memory(size: Size, *, iterations: int) -> int:
    """Bytes that `prepare` takes at work."""
    block = min(size.m, max(1, _BASIS_BYTES // (8 * size.p * iterations)))
    basis = 8 * size.p * iterations * block
    matrix = 24 * size.p**2 if size.p <= min(iterations * size.m, MOST_PARAMETERS) else 0
    return size.gradients + 2 * basis + size.products(block, size.n) + matrix + 4 * iterations * size.n * size.m


def passes(n: int, m: int, *, iterations: int) -> float:
    """Of the training examples, that `prepare` makes besides taking gradients: a product with C is two."""
    return 2 * iterations * m


def score(
    members: Iterable[dict[str, np.ndarray]], *, damping: NonNegative, iterations: PositiveInt, relative: bool = False
) -> Iterator[np.ndarray]:
    r"""$x_{test} \cdot g_i$ (n, m), x_test after so many steps of conjugate gradients, mean over members.

    relative: damping in units of the mean squared entry of all training gradients.

    The eigenvalues of T enter by their absolute values, $1 / (|\theta| + \lambda)$, as those of an indefinite Hessian
    do in `influence`; those that are rounding error are dropped. Raises ValueError for more iterations than prepared.
    """
    return running_mean(_solve(member, absolute(damping, relative, member), iterations) for member in members)


def _solve(member: dict[str, np.ndarray], damping: float, steps: int) -> np.ndarray:
    # ASSUME: where the Hessian is indefinite conjugate gradients are undefined; the Ritz values of each Krylov space
    # enter by their absolute values.
    values, vectors = ritz(member["diagonal"], member["beside"], steps)
    scaled = inverse(values, damping, int(member["parameters"])) * vectors[:, 0]  # (m, s)
    lengths = member["unit"] * member["norms"]
    weights = lengths[:, None] * (vectors @ scaled[:, :, None]).squeeze(-1)  # (m, s): x in the Lanczos basis
    return sum(row * weight for row, weight in zip(member["products"][:steps], weights.T, strict=True))
