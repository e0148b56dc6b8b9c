r"""Influence functions by a stochastic recursion, LiSSA: $g_{test}^\top (C + \lambda I)^{-1} g_i$.

Agarwal et al. 2017, arXiv:1602.03943; for influence functions Koh and Liang 2017, arXiv:1703.04730, section 3. With
$r_0 = v$, v = g_test, and $C_j$ the mean curvature over the j-th minibatch,

$$r_{j+1} = v + r_j - (C_j + \lambda I) r_j / scale,$$

whose fixed point for $C_j = C$ makes $r / scale = (C + \lambda I)^{-1} v$ exactly. Damping is absolute and belongs to
the *mean* curvature, as in `influence`. (Where $(1 - \lambda) r_j$ stands in the recursion, as in the authors' code,
$\lambda \cdot scale$ is added to the curvature: that damping is ours / scale.) The recursion converges on average where
$0 < \sigma + \lambda < 2 \, scale$ for every eigenvalue $\sigma$ of C.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from attriflow.curvature import Products, products
from attriflow.data import Split
from attriflow.gradients import of_split
from attriflow.hyperparameters import Epoch, NonNegative, Parameters, Positive, PositiveInt, Target
from attriflow.krylov import lanczos, ritz
from attriflow.layerwise import absolute
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.precision import stored, widened
from attriflow.scores import running_mean

_BLOCK_BYTES = 256 * 2**20  # of test gradients that go through the recursion together
_GROWTH = 1000  # times (j + 1) |v|, which no |r_j| exceeds where no step expands: what is larger has diverged
_STEPS = 20  # of Lanczos, to estimate the extreme eigenvalues


def prepare(
    member: Trained,
    split: Split,
    *,
    damping: NonNegative,
    scale: Positive,
    depth: PositiveInt,
    batch: PositiveInt,
    repeats: PositiveInt = 1,
    relative: bool = False,
    curvature: Literal["fisher", "ggn", "hessian"] = "hessian",
    epoch: Epoch = "last",
    parameters: Parameters = "all",
    target: Target = "loss",
) -> dict[str, np.ndarray]:
    """scores (n, m) from the mean of `repeats` recursions of `depth` steps on minibatches of `batch` examples.

    relative: damping in units of the mean squared entry of all training gradients.

    Memory: a few arrays of 256 MiB or of 8 p bytes, whichever is larger, and what `curvature.products` and the factored
    gradients take. Raises ValueError for a batch above n, and where the recursion diverges: it names the step, the
    scale given and one that would do.
    """
    model = member.model(epoch, parameters)
    train, test = widened(*of_split(model, split, target))
    if batch > len(train):
        raise ValueError(f"batch: {batch} asked for, there are {len(train)} training examples")
    damping = absolute(damping, relative, {"mean_square": train.mean_square()})
    product = products(curvature, model, split.train_x, split.train_y, train)
    start = torch.from_numpy(member.stream("lissa", "extremes").standard_normal((1, train.size)))
    start = start.to(train.device, train.parts[0].dtype)
    extremes = _extremes(product, start)
    if extremes[1] + damping > 2 * scale:
        raise ValueError(_advice("from step 1 on: the curvature", extremes, damping, scale))
    scores = []
    block = max(1, _BLOCK_BYTES // (8 * train.size))
    for first in range(0, len(test), block):
        rows, solved = slice(first, first + block), 0
        for repeat in range(repeats):
            drawn = _minibatches(member.stream("lissa", repeat), len(train), batch, depth)
            v = test.take(rows).dense()
            solved = solved + _solve(
                product, v, (each.to(member.device) for each in drawn), start, damping=damping, scale=scale
            )
        scores.append(train.times(solved / repeats))
    return {"scores": stored(torch.cat(scores, 1)).numpy(force=True)}


def _minibatches(random: np.random.Generator, n: int, batch: int, depth: int) -> Iterator[Tensor]:
    """Indices (batch,) for every step."""
    # ASSUME: a minibatch is drawn without replacement, anew for each step, and is the same for all test examples of a
    # member; Koh and Liang draw single examples, for each test example its own.
    for _ in range(depth):
        yield torch.from_numpy(random.choice(n, batch, replace=False, shuffle=False))


def _solve(
    product: Products, v: Tensor, minibatches: Iterable[Tensor], start: Tensor, *, damping: float, scale: float
) -> Tensor:
    """The recursion for every row of v (k, p). start: of Lanczos, if it diverges: ValueError."""
    # ASSUME: a negative eigenvalue of the Hessian is left to the recursion, as by Koh and Liang; its mode grows as long
    # as the recursion goes on.
    r, lengths = v, v.norm(dim=1)
    for step, rows in enumerate(minibatches, 1):
        r = v + r - (product(r, rows) + damping * r) / scale
        if not (r.norm(dim=1) <= _GROWTH * (step + 1) * lengths).all():
            extremes = _extremes(partial(product, rows=rows), start)
            raise ValueError(_advice(f"at step {step}: the curvature of its minibatch", extremes, damping, scale))
    return r / scale


def _extremes(product: Products, start: Tensor) -> tuple[float, float]:
    """The smallest and the largest eigenvalue, estimated from a few steps of Lanczos."""
    space = lanczos(product, start, _STEPS)
    values, _ = ritz(space.diagonal.numpy(force=True), space.beside.numpy(force=True), _STEPS)
    return float(values.min()), float(values.max())


def _advice(where: str, extremes: tuple[float, float], damping: float, scale: float) -> str:
    low, high = extremes
    remedy = f"use a scale of {max(high + damping, 2 * scale):.2g}"
    if low + damping < 0 and high + damping <= 2 * scale:
        remedy = f"use a damping above {-low:.2g}, or curvature 'ggn' or 'fisher'"
    return (
        f"scale {scale}: the recursion diverges {where} has eigenvalues from about {low:.2g} to {high:.2g}, which must "
        f"lie between 0 and 2 × scale with the damping of {damping} added; {remedy}"
    )


def memory(size: Size, *, batch: int) -> int:
    """Bytes that `prepare` takes at work."""
    block = min(size.m, max(1, _BLOCK_BYTES // (8 * size.p)))
    work = size.products(block, batch) + size.products(1, size.n)  # of the recursion, and of its extremes
    return size.gradients + work + 48 * size.p * block + 4 * size.n * size.m


def passes(n: int, m: int, *, depth: int, batch: int, repeats: int = 1) -> float:
    """Of the training examples, that `prepare` makes besides taking gradients: a product with C is two."""
    return 2 * depth * repeats * m * batch / n


def score(members: Iterable[dict[str, np.ndarray]]) -> Iterator[np.ndarray]:
    r"""$g_i \cdot r / scale$ (n, m), mean over members."""
    return running_mean(member["scores"] for member in members)
