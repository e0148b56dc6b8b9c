r"""The spectrum of a curvature and where the test gradients lie in it: what choosing a damping asks of a method.

For a curvature C with eigenvalues $\sigma_j$ and test gradients g with coordinates $a_j$ in its modes,
$$t_k(\lambda) = g^\top C (C + \lambda I)^{-k} g = \sum_j \sigma_j a_j^2 (\sigma_j + \lambda)^{-k}.$$
Modes of several blocks of a block-diagonal C stand one after the other: t_k is a sum over blocks. A damping relative to
a unit of each block, $\lambda_l = c \, u_l$, is an absolute damping c of gradients divided by $\sqrt{u_l}$: such
spectra are made in that unit.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import scipy.sparse

from attriflow.io import expect_finite, expect_shape

_DECADES = 60  # of eigenvalues: their fourth powers still fit into float64
_POINTS = 200  # a decade of eigenvalues that a condensed spectrum keeps


@dataclass(frozen=True)
class Spectrum:
    r"""Modes of a positive semi-definite curvature and the weights of m test examples in them.

    values (q,): eigenvalues $\sigma_j > 0$; a mode without curvature has no weight and is left out. weights (q, m):
    $\sigma_j a_j^2$. counts (q,): how many modes each stands for. dimension: of the space of C, with the modes that
    have no curvature.

    Raises ValueError where there is no mode, for shapes that do not fit, numbers that are not finite, eigenvalues that
    are not positive or lie more than 60 decades apart, and negative weights.
    """

    values: np.ndarray
    weights: np.ndarray
    counts: np.ndarray
    dimension: int

    def __post_init__(self):
        q = len(self.values)
        if q == 0:
            raise ValueError("the curvature is zero everywhere: its spectrum has no mode")
        expect_shape("eigenvalues", self.values, (q,), "modes")
        expect_shape("counts of modes", self.counts, (q,), "modes")
        if self.weights.ndim != 2 or len(self.weights) != q:
            raise ValueError(f"weights have shape {self.weights.shape}, expected ({q}, m): modes, test examples")
        expect_finite("eigenvalues", self.values)
        expect_finite("weights", self.weights)
        smallest, largest = self.values.min(), self.values.max()
        if smallest <= 0:
            raise ValueError(f"eigenvalue {smallest} of mode {self.values.argmin()}; expected positive ones")
        if np.log10(largest) - np.log10(smallest) > _DECADES:
            raise ValueError(
                f"eigenvalues from {smallest} to {largest} lie more than {_DECADES} decades apart; "
                f"the smallest are rounding error and have to be left out"
            )
        if (self.weights < 0).any():
            place = tuple(np.argwhere(self.weights < 0)[0].tolist())
            raise ValueError(f"weight {self.weights[place]} at index {place}; expected none below 0")

    @classmethod
    def of(cls, values: np.ndarray, squares: np.ndarray, *, dimension: int, unit: float = 1.0) -> "Spectrum":
        r"""From eigenvalues (q,) of at least 0 and squared coordinates $a_j^2$ (q, m), for dampings in a unit.

        >>> Spectrum.of(np.array([4.0, 0.0]), np.ones((2, 1)), dimension=2, unit=2.0).weights
        array([[1.]])
        """
        values, squares = np.asarray(values, np.float64), np.asarray(squares, np.float64)
        kept = values != 0
        values = values[kept] / unit
        weights = values[:, None] * squares[kept] / unit
        return cls(values, weights, np.ones(len(values)), dimension)

    @property
    def seen(self) -> np.ndarray:
        """Which test examples have a part in some mode, (m,)."""
        return self.weights.any(0)

    @property
    def rank(self) -> float:
        """How many modes have a curvature."""
        return float(self.counts.sum())


def join(spectra: Iterable[Spectrum]) -> Spectrum:
    """The spectrum of a block-diagonal curvature, of those of its blocks."""
    spectra = list(spectra)
    return Spectrum(
        np.concatenate([each.values for each in spectra]),
        np.concatenate([each.weights for each in spectra]),
        np.concatenate([each.counts for each in spectra]),
        sum(each.dimension for each in spectra),
    )


def condensed(spectra: Iterable[Spectrum]) -> Spectrum:
    r"""Blocks, one after the other, as one spectrum on a logarithmic grid of 200 eigenvalues a decade.

    For curvatures of more modes than can be held times m. A mode is shared by its two neighbours on the grid, linearly
    in the logarithm, so $t_k$ becomes a sum of linearly interpolated $(\sigma + \lambda)^{-k}$: at most
    $k^2 h^2 / 8$ of it, h = ln(10) / 200, is gained, 3e-4 for k = 4.
    """
    small = map(_condense, spectra)
    return reduce(lambda total, block: _condense(join([total, block])), small)


def _condense(spectrum: Spectrum) -> Spectrum:
    places = np.log10(spectrum.values) * _POINTS
    below = np.floor(places)
    grid, rows = np.unique(np.concatenate([below, below + 1]), return_inverse=True)
    shares = np.concatenate([1 - (places - below), places - below])
    modes = np.tile(np.arange(len(places)), 2)
    sums = scipy.sparse.csr_array((shares, (rows, modes)), shape=(len(grid), len(places)))
    kept = sums @ spectrum.counts > 0
    return Spectrum(
        10 ** (grid[kept] / _POINTS),
        (sums @ spectrum.weights)[kept],
        (sums @ spectrum.counts)[kept],
        spectrum.dimension,
    )
