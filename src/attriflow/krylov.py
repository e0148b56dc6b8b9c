"""Krylov spaces of a symmetric matrix that is known by its products alone.

The space of C and a vector b is that of C + λI and b, for every λ, and the space of s steps begins with that of fewer:
one basis serves every damping and every smaller number of steps.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Krylov:
    """Spaces of k start vectors after s steps, C = V T Vᵀ within each of them.

    norms (k,): of the start vectors. basis (k, s, p): V, orthonormal rows, zeros once a space is exhausted.
    diagonal (k, s), beside (k, s - 1): the tridiagonal T.
    """

    norms: Tensor
    basis: Tensor
    diagonal: Tensor
    beside: Tensor


def lanczos(product: Callable[[Tensor], Tensor], starts: Tensor, steps: int) -> Krylov:
    """Lanczos with full reorthogonalisation for every row of starts (k, p) at once: `steps` products (k, p) -> (k, p).

    Lanczos 1950; orthogonalised twice against all earlier vectors, the memory of which is 8 k p `steps` bytes. A
    residual that is rounding error, below p times the precision of the largest entry of T, ends a space: it has no
    further vectors, and zeros stand in T. A zero start vector has no space at all.
    """
    k, p = starts.shape
    basis, diagonal, beside = starts.new_zeros(k, steps, p), starts.new_zeros(k, steps), starts.new_zeros(k, steps)
    norms = lengths = starts.norm(dim=1)
    residual, largest, epsilon = starts, torch.zeros_like(norms), torch.finfo(starts.dtype).eps
    for step in range(steps):
        lengths = torch.where(lengths > p * epsilon * largest, lengths, 0)
        if step:
            beside[:, step - 1] = lengths
        if not lengths.any():
            break
        basis[:, step] = torch.where(lengths > 0, 1 / lengths, 0)[:, None] * residual
        residual = product(basis[:, step])
        diagonal[:, step] = (residual * basis[:, step]).sum(1)
        for _ in range(2):
            found = basis[:, : step + 1]
            residual = residual - ((found @ residual[:, :, None]).mT @ found).squeeze(1)
        lengths = residual.norm(dim=1)
        largest = torch.maximum(largest, diagonal[:, step].abs() + lengths)
    return Krylov(norms, basis, diagonal, beside[:, : steps - 1])


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], b: Tensor, damping: float, *, tolerance: float, most: int
) -> Tensor:
    """x (k, p) with (C + λI) x = b for every row of b (k, p), C positive semi-definite, to |residual| <= tolerance |b|.

    Hestenes and Stiefel 1952. A row that is solved takes no further products; memory is 5 arrays of the size of b. For
    a few accurate solutions: `lanczos` serves many dampings at once. Raises ValueError where `most` steps are too few.
    """
    x, residual, direction = torch.zeros_like(b), b.clone(), b.clone()
    squares, least = b.square().sum(1), (tolerance * b.norm(dim=1)).square()
    for _ in range(most):
        open_ = (squares > least).nonzero().flatten()
        if not len(open_):
            return x
        along, before = direction[open_], squares[open_]
        image = product(along) + damping * along
        size = before / (along * image).sum(1)
        x[open_] += size[:, None] * along
        residual[open_] -= size[:, None] * image
        squares[open_] = residual[open_].square().sum(1)
        direction[open_] = residual[open_] + (squares[open_] / before)[:, None] * along
    left = squares > least
    if left.any():
        worst = float((squares[left] / b[left].square().sum(1)).max()) ** 0.5
        raise ValueError(
            f"conjugate gradients: {int(left.sum())} of {len(b)} systems have a residual of up to {worst:.1e} of their "
            f"right side after {most} steps, expected {tolerance:.0e}; use a larger damping than {damping:.3g}"
        )
    return x


def ritz(diagonal: np.ndarray, beside: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Ritz values (k, s) and their vectors in the Lanczos basis, columns of (k, s, s), after the first `steps` s.

    Raises ValueError where fewer were made.
    """
    made = diagonal.shape[-1]
    if steps > made:
        raise ValueError(f"iterations: {steps} asked for, {made} were prepared")
    matrices = np.zeros((*diagonal.shape[:-1], steps, steps), diagonal.dtype)
    places = np.arange(steps)
    matrices[..., places, places] = diagonal[..., :steps]
    matrices[..., places[1:], places[:-1]] = beside[..., : steps - 1]  # the lower triangle is what eigh reads
    return np.linalg.eigh(matrices)


def expect_resolved(values: np.ndarray, damping: float, size: int):
    """What eigenvalues of a curvature of this size have of rounding error must be below a tenth of the damping.

    It is about 4 times the size and the precision of the largest eigenvalue; scores are off by that over the damping,
    which the log says from a thousandth on. Damping 0 is the pseudo-inverse, and passes. Raises ValueError with a
    damping that would do.
    """
    values = np.asarray(values)
    largest = float(np.abs(values).max(initial=0))
    error = 4 * size * np.finfo(values.dtype).eps * largest
    if not damping or damping >= 1000 * error:
        return
    what = (
        f"damping {damping:.3g} is {damping / error:.2g} times what the eigenvalues of the curvature have of rounding "
        f"error (the largest is {largest:.3g})"
    )
    if damping < 10 * error:
        raise ValueError(
            f"{what}, so scores would be noise; use at least {10 * error:.2g}, or 0 for the pseudo-inverse"
        )
    log.warning(
        "%s: scores are right to about %.0e of their size; from %.2g on to 1e-3", what, error / damping, 1000 * error
    )


def inverse(values: np.ndarray, damping: float, size: int) -> np.ndarray:
    """1 / (|θ| + damping) of Ritz values (..., s); 0 for those that are rounding error.

    These are below size times the precision of the largest. Raises ValueError as `expect_resolved` does.
    """
    expect_resolved(values, damping, size)
    sizes = np.abs(values)
    kept = sizes > size * np.finfo(sizes.dtype).eps * sizes.max(-1, keepdims=True)
    return np.divide(1, sizes + damping, out=np.zeros_like(sizes), where=kept)
