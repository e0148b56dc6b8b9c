"""Random projections of per-example gradients, drawn by block so that nothing of size p × k is ever held.

The entries of a projection belong to named streams, one for each part of the gradients, unit of it and block of
columns. The first k' columns are therefore the same whatever k is: one pass at the largest k serves every smaller one.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from attriflow.gradients import Gradients, Part
from attriflow.sketch import add_sketch

_COLUMNS = 256  # drawn from one stream
_MOST_BYTES = 64 * 2**20  # of the gradients, and of the projection, that meet in one product


def _gaussian(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return random.standard_normal(shape, np.float32)


def _rademacher(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return random.integers(0, 2, shape, np.int8).astype(np.float32) * 2 - 1


# of the dense projections; the sparse one is made from factors (`sketch`)
DRAWS = {"gaussian": _gaussian, "rademacher": _rademacher}


def project(
    gradients: list[Gradients], stream: Callable[..., np.random.Generator], *, dimension: int, kind: str
) -> list[Tensor]:
    """Projections (n, k) float32 of several sets of gradients (n, p) by one matrix with entries of variance 1.

    Inner products of projections are, in expectation, k times those of the gradients: divide by sqrt(k') after taking
    the first k' columns. stream: names to a generator. kind 'none' takes the gradients as they are, times sqrt(p); it
    raises ValueError for another dimension than p.
    """
    if kind == "none" and dimension != gradients[0].size:
        raise ValueError(f"proj_dim {dimension}: without a projection it must be p = {gradients[0].size}")
    singles = [each.to(torch.float32) for each in gradients]
    if kind == "none":
        return [dimension**0.5 * each.dense() for each in singles]
    projected = [torch.zeros(len(each), dimension, device=each.device) for each in singles]
    if kind == "sjlt":
        for each, out in zip(singles, projected, strict=True):
            for part in each.parts:
                add_sketch(part, out, stream)
        return projected
    most = max(len(each) for each in singles)
    for place, part in enumerate(singles[0].parts):
        for units in _blocks(part, max(most, dimension)):
            matrix = _matrix(part, units, dimension, stream, DRAWS[kind]).to(part.device)
            for each, out in zip(singles, projected, strict=True):
                rows = each.parts[place].dense(units)
                out.addmm_(rows, matrix[: rows.shape[1]])
    return projected


def _blocks(part: Part, height: int) -> Iterator[slice]:
    units = -(-part.size // part.grain)
    step = max(1, _MOST_BYTES // (4 * part.grain * height))
    for start in range(0, units, step):
        yield slice(start, min(start + step, units))


def _matrix(part: Part, units: slice, dimension: int, stream, draw) -> Tensor:
    """The rows of the projection that belong to some units of a part, (units * grain, k)."""
    matrix = np.empty((units.stop - units.start, part.grain, dimension), np.float32)
    for row, unit in zip(matrix, range(units.start, units.stop), strict=True):
        for start in range(0, dimension, _COLUMNS):
            drawn = draw(stream("projection", part.name, unit, start // _COLUMNS), (part.grain, _COLUMNS))
            row[:, start : start + _COLUMNS] = drawn[:, : dimension - start]
    return torch.from_numpy(matrix.reshape(-1, dimension))
