"""Single precision where its range is enough: numbers are brought near 1 by a power of two, which rounds nothing.

float32 has 8 digits of numbers from 1e-38 to 3e38, and gradients of 1e-20 or 1e20 have squares beyond that. What is
stored is kept in float64 where float32 would lose it (`stored`); what is multiplied is scaled first (`near_one`), and
the units are multiplied in float64.
"""

import math

import numpy as np
import torch
from torch import Tensor

from attriflow.gradients import Gradients

# powers of two within which numbers stay in float32: a product of two still has all of its digits
_SMALLEST, _LARGEST = 2.0**-50, 2.0**50
_FAINTEST = 2.0**-96  # largest entry of a column (of a test example) that keeps its digits in float32


def unit(array: Tensor) -> float:
    """The power of two at the largest size in an array; 1 where all is zero, or not finite."""
    largest = float(array.abs().max()) if array.numel() else 0.0
    return 2.0 ** (math.frexp(largest)[1]) if 0 < largest < math.inf else 1.0


def near_one(array: Tensor) -> tuple[Tensor, float]:
    """An array in float32 with its largest size between 1/2 and 1, and the unit that it is in."""
    scale = unit(array)
    if array.dtype == torch.float32 and 2.0**-126 < scale < 2.0**126:
        return array * (1 / scale), scale
    return (array.double() * (1 / scale)).float(), scale


def columns_near_one(array: Tensor) -> tuple[Tensor, Tensor]:
    """The same of every column of (q, m): the array, and units (m,) float64."""
    largest = array.abs().amax(0).double() if len(array) else array.new_zeros(array.shape[1]).double()
    exponents = torch.frexp(torch.where(largest.isfinite(), largest, 0)).exponent
    scales = torch.ldexp(torch.ones_like(largest), torch.where(largest > 0, exponents, 0))
    return (array.double() / scales).float(), scales


def stored(array: Tensor) -> Tensor:
    """An array in float32, or in float64 where float32 would lose digits of a column (of its last axis), or all."""
    if array.numel() == 0 or array.dtype == torch.float32:
        return array
    largest = array.abs().flatten(0, -2).amax(0) if array.ndim > 1 else array.abs()
    seen = largest[largest > 0]
    if len(seen) == 0:
        return array.to(torch.float32)
    inside = _SMALLEST <= float(seen.max()) <= _LARGEST and float(seen.min()) >= _FAINTEST
    return array.to(torch.float32) if inside else array


def written(scores: np.ndarray) -> np.ndarray:
    """Scores (n, m) or (n,) as they are saved, see `stored`."""
    return stored(torch.from_numpy(np.ascontiguousarray(scores))).numpy()


def weighted_product(left: Tensor, weights: np.ndarray, right: Tensor) -> np.ndarray:
    r"""$\sum_j l_{ij} w_j r_{jk}$ (n, m) float64 of left (n, q), w (q,) and right (q, m), multiplied in float32."""
    (left, unit_left), (right, units) = near_one(left), columns_near_one(right)
    scaled, unit_weights = near_one(torch.from_numpy(np.asarray(weights, np.float64)).to(left.device))
    found = (left @ (scaled[:, None] * right)).double()
    return found.mul_(unit_left * unit_weights * units).numpy(force=True)


def weighted_squares(left: Tensor, weights: np.ndarray) -> np.ndarray:
    r"""$\sum_j l_{ij}^2 w_j$ (n,) float64: the squares of a faint row would leave float32."""
    return np.square(left.numpy(force=True), dtype=np.float64) @ np.asarray(weights, np.float64)


def widened(*sets: Gradients) -> list[Gradients]:
    """Gradients in float64 where any is so small or large that its products would leave float32; as they are else."""
    single = any(each.parts[0].dtype == torch.float32 for each in sets)
    inside = all(_SMALLEST**0.5 <= size <= _LARGEST**0.5 for each in sets if (size := _largest(each)))
    return [each.to(torch.float64) for each in sets] if single and not inside else list(sets)


def _largest(gradients: Gradients) -> float:
    """The size of the largest entry, or above it; 0 where all are zero."""
    arrays = ([getattr(part, name) for name in ("a", "b", "values") if hasattr(part, name)] for part in gradients.parts)
    return max(math.prod(float(array.abs().max()) for array in some) for some in arrays)
