r"""Influence of a final model that is no minimum: the second-order formula with its correction term.

Wei et al. 2025, arXiv:2412.03906, proposition 1 (with ggn: corollary 2). Further training is modelled by the minimum of
a damped Taylor model of the mean loss R at the final model $\theta$, on all examples or with one weighted anew,
$$\delta = -(C + \lambda I)^{-1} \nabla R(\theta), \quad
  s_i = g_{test}^\top (C + \lambda I)^{-1} [g_i + C_i \delta],$$
with C the curvature of R and $C_i$ that of example i: $n C = \sum_i C_i$. $s_i$ is the derivative of
$-g_{test}^\top \delta$ by the weight of i, exact for the model; no stationarity is asked of $\theta$, no convexity of
R beyond $C + \lambda I > 0$. Positive = helpful; where $\nabla R = 0$ it is `influence`. Near a minimum the bracket is
the gradient at the end of the further training, $\nabla \ell_i(\theta + \delta)$, which can be taken instead.

The paper's authors do not compute it in their code.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from attriflow.curvature import Products, columns, example_products, products
from attriflow.data import Split
from attriflow.gradients import Gradients, Rows, of_split, per_example
from attriflow.hyperparameters import Epoch, NonNegative, Parameters, Target
from attriflow.krylov import conjugate_gradients, expect_resolved
from attriflow.layerwise import absolute
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.modes import MOST_ROWS, Modes, beyond, bytes_at_work, gauss_newton_fits, modes
from attriflow.precision import stored, widened
from attriflow.scores import running_mean

_TOLERANCE = 1e-6  # of conjugate gradients: |residual| / |right side|
_STEPS = 1000  # of conjugate gradients, at most
_BLOCK_BYTES = 256 * 2**20  # of test gradients that are solved for together


def prepare(
    member: Trained,
    split: Split,
    *,
    damping: NonNegative,
    relative: bool = False,
    curvature: Literal["ggn", "fisher", "hessian"] = "ggn",
    gradients: Literal["corrected", "displaced"] = "corrected",
    epoch: Epoch = "last",
    parameters: Parameters = "all",
    target: Target = "loss",
) -> dict[str, np.ndarray]:
    r"""scores (n, m).

    A job for every damping: $\delta$ depends on it and meets the curvature of every single example, or is a point at
    which all gradients are taken anew, and no array of moderate size holds that for all dampings.

    gradients: the bracket. corrected: $g_i + C_i \delta$, $C_i$ of the same kind as C: the Hessian of $\ell_i$, its
    Gauss-Newton matrix, or $g_i g_i^\top$ (fisher). displaced: $\nabla \ell_i(\theta + \delta)$, whatever the kind.
    relative: damping in units of the mean squared entry of all training gradients.

    Solved in the modes of C as in `influence`, damping 0 meaning the pseudo-inverse, an indefinite Hessian by the
    absolute values of its eigenvalues. A Gauss-Newton matrix of more than 10,000 parameters and rows is solved by
    conjugate gradients to a residual of 1e-6 of the right side instead; ValueError where 1000 steps do not reach that,
    and for a Hessian of more than 10,000 parameters.
    """
    model, (x, y) = member.model(epoch, parameters), (split.train_x, split.train_y)
    train, test = widened(*of_split(model, split, target))
    damping = absolute(damping, relative, {"mean_square": train.mean_square()})
    if curvature != "ggn" or gauss_newton_fits(model, x, y, train.size):
        solver = _InModes(modes(curvature, model, x, y, train), train, test, damping)
    else:
        solver = _ByProducts(products(curvature, model, x, y, train), train, test, damping)
    if gradients == "displaced":
        _move(model, train, solver.displacement())
        found = solver.times(per_example(model, x, y, "loss"))
    elif curvature == "hessian":
        pieces = example_products(model, x, y, train, solver.displacement())
        found = solver.first_order() + torch.cat([solver.times_rows(rows) for _, rows in pieces])
    else:
        # ASSUME: the proposition is known to us from notes on the paper; C_i is of the kind of C, as its corollary has
        # it.
        square = [train] if curvature == "fisher" else (column for column, _ in columns(model, x, y))
        found = solver.first_order() + solver.second_order(square)
    return {"scores": stored(found).numpy(force=True)}


class _InModes:
    """u_t = (C + λI)⁻¹ g_test and δ = -(C + λI)⁻¹ ∇R by their coordinates, and products with them."""

    def __init__(self, modes: Modes, train: Gradients, test: Gradients, damping: float):
        self.modes, self.train, self.test, self.damping = modes, train, test, damping
        self.right = modes.right(test)
        expect_resolved(modes.values.numpy(force=True), damping, len(modes.values))
        # ASSUME: an indefinite Hessian is taken by the absolute values of its eigenvalues, as in `influence`, though
        # the proposition asks for C + λI > 0 alone.
        inverse = (1 / (modes.values.abs() + damping)).to(self.right.dtype)
        self.solved = inverse[:, None] * self.right  # (q, m): u_t in its right form
        self.moved = -inverse * modes.train.mean(0)  # (q,): δ in its left form

    def first_order(self) -> Tensor:
        """g_i · u_t of the training gradients, (n, m)."""
        return self._times(self.train, self.modes.train, self.test)

    def times(self, gradients: Gradients) -> Tensor:
        """Products (k, m) of any gradients (k, p) with all u_t."""
        return self._times(gradients, self.modes.left(gradients), self.test)

    def times_rows(self, rows: Tensor) -> Tensor:
        """Products (k, m) of vectors (k, p) with all u_t, where C is a matrix of its own."""
        return self._times(_whole(rows), rows @ self.modes.vectors, _whole(self.test.dense()))

    def _times(self, gradients: Gradients, left: Tensor, test: Gradients) -> Tensor:
        found = left @ self.solved
        if self.damping:
            found += beyond(self.modes, gradients, test, left, self.right) / self.damping
        return found

    def second_order(self, square: Iterable[Gradients]) -> Tensor:
        """sum (v · u_t)(v · δ), (n, m), over columns of rows v (n, p) whose squares are the curvature."""
        decomposed = self.modes.rows is not None  # these very rows
        lefts = self.modes.vectors.split(len(self.train)) if decomposed else map(self.modes.left, square)
        moved = self.modes.squares.to(self.moved.dtype) * self.moved  # δ in its right form
        return sum((left @ self.solved).mul_((left @ moved)[:, None]) for left in lefts)

    def displacement(self) -> Tensor:
        """δ (p,)."""
        found = self.modes.vector(self.moved)
        outside = self.modes.outside(self.train).nonzero().flatten()
        if self.damping and len(outside):
            some = self.train.take(outside)
            total = some.combine(self.moved.new_ones(len(some), 1))[0]
            total = total - self.modes.vector(self.modes.train[outside].sum(0))
            found -= total / (len(self.train) * self.damping)
        return found


def _whole(rows: Tensor) -> Gradients:
    return Gradients([Rows("all", (), rows)])


class _ByProducts:
    """The same by conjugate gradients: u_t (m, p) and δ (p,) themselves."""

    def __init__(self, product: Products, train: Gradients, test: Gradients, damping: float):
        solve = partial(conjugate_gradients, product, damping=damping, tolerance=_TOLERANCE, most=_STEPS)
        block = max(1, _BLOCK_BYTES // (8 * train.size))
        pieces = [test.take(slice(start, start + block)).dense() for start in range(0, len(test), block)]
        self.train, self.solved = train, torch.cat([solve(piece) for piece in pieces])
        mean = train.combine(self.solved.new_full((len(train), 1), 1 / len(train)))  # (1, p)
        self.moved = -solve(mean)

    def first_order(self) -> Tensor:
        return self.times(self.train)

    def times(self, gradients: Gradients) -> Tensor:
        return gradients.times(self.solved)

    def second_order(self, square: Iterable[Gradients]) -> Tensor:
        return sum(column.times(self.solved).mul_(column.times(self.moved)) for column in square)

    def displacement(self) -> Tensor:
        return self.moved[0]


def _move(model: nn.Module, train: Gradients, displacement: Tensor):
    """Add to the parameters of a model a vector (p,) in the coordinates of its gradients."""
    state = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    flat = torch.empty_like(displacement).index_copy_(0, train.order(state), displacement)
    pieces = flat.split([parameter.numel() for parameter in state.values()])
    with torch.no_grad():
        for parameter, piece in zip(state.values(), pieces, strict=True):
            parameter += piece.view(parameter.shape)


def memory(size: Size, *, curvature: str = "ggn") -> int:
    """Bytes that `prepare` takes at work."""
    both = 2 * size.gradients + 32 * size.n * size.m
    if curvature == "ggn" and min(size.n * size.columns, size.p) > MOST_ROWS:
        block = min(size.m, max(1, _BLOCK_BYTES // (8 * size.p)))
        return both + size.products(block, size.n) + 56 * block * size.p + 16 * size.m * size.p
    q = min(size.n * (1 if curvature == "fisher" else size.columns), size.p)
    return both + bytes_at_work(size, curvature) + 24 * size.n * q + 8 * (size.n + size.m) * size.p


def passes(n: int, m: int) -> float:
    """Of the training examples, that `prepare` makes besides taking gradients: every test example meets each, often."""
    return 20 * m


def score(members: Iterable[dict[str, np.ndarray]]) -> Iterator[np.ndarray]:
    r"""$s_i$ (n, m), mean over members."""
    return running_mean(member["scores"] for member in members)
