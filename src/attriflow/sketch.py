"""Sparse projections of per-example gradients, from their factors.

A sparse Johnson-Lindenstrauss projection (Kane and Nelson 2014) gives every coordinate one entry of random sign in each
block of columns. For a gradient b aᵀ the column of coordinate (o, i) is (h(o) + h'(i)) modulo the block's width, its
sign s(o) s'(i): the sketch of the product is then the circular convolution of the sketches of b and of a, a product of
their Fourier transforms (Pham and Pagh 2013). It takes n (in + out) k + n k log(width) operations instead of
n in out k, and no gradient is ever made.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from attriflow.gradients import Factors, Lookups, Part, Rows, Sequences

WIDTH = 64  # columns of a block: every coordinate has an entry in each block
_ROWS = 512  # examples that are transformed at once


def add_sketch(part: Part, projected: Tensor, stream: Callable[..., np.random.Generator]):
    """Add a part's projections to `projected` (n, k) float32: a matrix of an entry ± sqrt(WIDTH) a row and block.

    The columns of a block depend on its number alone, so a smaller dimension is a prefix of a larger one.
    """
    dimension = projected.shape[1]
    blocks = -(-dimension // WIDTH)
    draws = [stream("projection", part.name, "sjlt", block) for block in range(blocks)]
    if isinstance(part, Rows):
        for block, random in enumerate(draws):
            columns = projected[:, block * WIDTH : (block + 1) * WIDTH]
            columns += (
                WIDTH**0.5
                * _count(part.values.T, *(each.to(part.device) for each in hashes(random, part.size))).T[
                    :, : columns.shape[1]
                ]
            )
        return
    rows = part.rows if isinstance(part, Lookups) else part.a.shape[-1]
    left, right = (
        torch.zeros(rows, blocks, WIDTH),
        torch.zeros(part.b.shape[-1], blocks, WIDTH),
    )  # drawn on the processor
    for block, random in enumerate(draws):
        for matrix in (left, right):
            places, signs = hashes(random, len(matrix))
            matrix[torch.arange(len(matrix)), block, places] = signs
    left, right = left.to(part.device), right.to(part.device)
    for start in range(0, len(part), _ROWS):
        some = slice(start, start + _ROWS)
        projected[some] += WIDTH**0.5 * _convolve(part, some, left, right)[:, :dimension]


def hashes(random: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
    """A column of a block (count,) and a sign (count,) for each coordinate."""
    places, signs = random.integers(0, WIDTH, count), random.integers(0, 2, count) * 2.0 - 1
    return torch.from_numpy(places), torch.from_numpy(signs.astype(np.float32))


def _count(columns: Tensor, places: Tensor, signs: Tensor) -> Tensor:
    """Signed sums (WIDTH, n) of the coordinates (size, n) that share a place."""
    return columns.new_zeros(WIDTH, columns.shape[1]).index_add_(0, places, columns * signs[:, None])


def _convolve(part: Factors | Sequences | Lookups, rows: slice, left: Tensor, right: Tensor) -> Tensor:
    """Sketches (rows, blocks * WIDTH) of the outer products of some examples, summed over positions."""
    if isinstance(part, Lookups):
        first = torch.fft.rfft(left)[part.index[rows]]
    else:
        first = torch.fft.rfft((part.a[rows] @ left.flatten(1)).unflatten(-1, left.shape[1:]))
    second = torch.fft.rfft((part.b[rows] @ right.flatten(1)).unflatten(-1, right.shape[1:]))
    products = first.mul_(second)  # (rows, [positions,] blocks, frequencies)
    products = products if isinstance(part, Factors) else products.sum(1)
    return torch.fft.irfft(products, n=WIDTH).flatten(1)
