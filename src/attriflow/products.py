r"""Products of a loss's second derivatives with vectors, by a way that was found right on the data at hand.

Two ways give the product of the Hessian of a summed loss L with a vector v, and of its Gauss-Newton matrix
$J^\top S J$, J the Jacobian of the outputs and S the loss's own Hessian:

- forward: the derivative of $\nabla L$ along v, or $J v$, by forward differentiation; many vectors at once.
- backward: the gradient of $\nabla L \cdot v$, or $J v$ as the derivative of $(J^\top u) \cdot v$ by u (Christianson
  1992, Pearlmutter 1994), by backward differentiation twice; one vector after the other.

Neither is right for every module: forward differentiation of an embedding forgets its `padding_idx`, an
`autograd.Function` may have no derivative or a wrong one, and backward differentiation of one whose backward pass keeps
detached tensors loses a term. So none is used unseen (`right_way`).
"""

import contextlib
import copy
import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import grad, jvp, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from attriflow.gradients.general import called
from attriflow.outputs import IGNORED, loss

_FEW = 8  # examples at which a product is compared with finite differences
_STEPS = (1e-5, 1e-6)  # of finite differences, in lengths of the parameters
_DIFFERENCES = 1e-3  # of the product, which finite differences that have converged may be away
_NOISE = 1e3  # times the precision: what rounding leaves of a product where its terms cancel

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Problem:
    """A model, its trainable parameters by name, and some examples: inputs x (n, ...) and labels y (n, ...)."""

    model: nn.Module
    state: dict[str, Tensor]
    x: Tensor
    y: Tensor

    @classmethod
    def of(cls, model: nn.Module, x: Tensor, y: Tensor) -> "Problem":
        """Of the parameters that require gradients."""
        return cls(model, {name: each.detach() for name, each in model.named_parameters() if each.requires_grad}, x, y)

    def take(self, rows: slice | Tensor) -> "Problem":
        """Some of the examples."""
        return replace(self, x=self.x[rows], y=self.y[rows])

    def outputs(self, state: dict[str, Tensor]) -> Tensor:
        """Logits (n, ..., c), or outputs (n, 1) of a regression, with these parameters."""
        return called(self.model, state, self.x)

    def total(self, state: dict[str, Tensor]) -> Tensor:
        """The summed loss."""
        return loss(self.outputs(state), self.y).sum()


# vectors (k, p) in the order of the state -> products (k, p), summed over the examples
Way = Callable[[Problem, Tensor], Tensor]


@contextlib.contextmanager
def differentiable() -> Iterator[None]:
    """Attention by plain products of matrices: its fused kernels have no second derivative, and no forward one."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def shares(y: Tensor) -> Tensor:
    """The share of every label (n, ...) in the loss of its example: of a sequence the mean over its positions.

    Positions whose label is -100 have none.
    """
    counted = (y != IGNORED).flatten(1).to(torch.float64) if y.ndim > 1 else (y != IGNORED)[:, None].double()
    return (counted / counted.sum(1, keepdim=True).clamp(min=1)).view(y.shape)


def like(state: dict[str, Tensor], vector: Tensor) -> dict[str, Tensor]:
    """A vector (p,) as a state dict."""
    pieces = vector.split([value.numel() for value in state.values()])
    return {name: piece.view(value.shape) for (name, value), piece in zip(state.items(), pieces, strict=True)}


def flat(state: dict[str, Tensor]) -> Tensor:
    """A state dict as a vector (p,)."""
    return torch.cat([value.flatten() for value in state.values()])


# --- forward -------------------------------------------------------------------------------------------------


def forward_hessian(some: Problem, vectors: Tensor) -> Tensor:
    """H v (k, p) by forward differentiation of the gradient."""
    return vmap(lambda v: flat(jvp(grad(some.total), (some.state,), (like(some.state, v),))[1]))(vectors)


def forward_gauss_newton(some: Problem, vectors: Tensor) -> Tensor:
    """Jᵀ S J v (k, p), J v by forward differentiation of the outputs."""
    values, pull = vjp(some.outputs, some.state)
    changes = forward_changes(some, vectors)
    return vmap(lambda change: flat(pull(_bent(values, some.y, change))[0]))(changes)


def forward_changes(some: Problem, vectors: Tensor) -> Tensor:
    """J v (k, n, ..., c)."""
    return vmap(lambda v: jvp(some.outputs, (some.state,), (like(some.state, v),))[1])(vectors)


def forward_examples(some: Problem, vector: Tensor) -> Tensor:
    """The Hessian of every example's loss times one vector (p,), by forward differentiation: (n, p)."""
    direction = like(some.state, vector)

    def one(x: Tensor, y: Tensor) -> Tensor:
        alone = replace(some, x=x[None], y=y[None])
        return flat(jvp(grad(alone.total), (some.state,), (direction,))[1])

    return vmap(one)(some.x, some.y)


def _bent(values: Tensor, y: Tensor, change: Tensor) -> Tensor:
    """The second derivative of the summed loss by the outputs, times a change of these."""
    if y.is_floating_point():
        return 2 * change  # of a squared error
    p = torch.softmax(values, -1)
    return p * (change - (p * change).sum(-1, keepdim=True)) * shares(y)[..., None].to(p.dtype)


# --- backward ------------------------------------------------------------------------------------------------


def backward_hessian(some: Problem, vectors: Tensor) -> Tensor:
    """H v (k, p) by backward differentiation of ∇L · v."""
    state = _leaves(some.state)
    slope = _slopes(some.total(state), state, create_graph=True)
    if not slope.requires_grad:
        return torch.zeros_like(vectors)
    return torch.stack([_slopes(slope, state, v, retain_graph=True) for v in vectors])


def backward_gauss_newton(some: Problem, vectors: Tensor) -> Tensor:
    """Jᵀ S J v (k, p), J v by backward differentiation of (Jᵀ u) · v by u."""
    state = _leaves(some.state)
    values = some.outputs(state)
    changes = _changes(values, state, vectors)
    bent = [_bent(values.detach(), some.y, change) for change in changes]
    return torch.stack([_slopes(values, state, each, retain_graph=True) for each in bent])


def backward_changes(some: Problem, vectors: Tensor) -> Tensor:
    """J v (k, n, ..., c)."""
    state = _leaves(some.state)
    return _changes(some.outputs(state), state, vectors)


def one_by_one(way: Way, some: Problem, vector: Tensor) -> Tensor:
    """The Hessian of every example's loss times one vector (p,) by a way, one example after the other: (n, p)."""
    return torch.cat([way(some.take(slice(i, i + 1)), vector[None]) for i in range(len(some.x))])


def _leaves(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone().requires_grad_() for name, value in state.items()}


def _slopes(values: Tensor, state: dict[str, Tensor], weights: Tensor | None = None, **options) -> Tensor:
    """The gradient (p,) of the sum of values, weighted."""
    found = torch.autograd.grad(
        values, list(state.values()), weights, allow_unused=True, materialize_grads=True, **options
    )
    return torch.cat([(each.to_dense() if each.is_sparse else each).flatten() for each in found])


def _changes(values: Tensor, state: dict[str, Tensor], vectors: Tensor) -> Tensor:
    probe = torch.zeros_like(values, requires_grad=True)
    pulled = _slopes(values, state, probe, create_graph=True)  # linear in the probe
    return torch.stack([
        torch.autograd.grad(pulled, probe, v, retain_graph=True, materialize_grads=True)[0] for v in vectors
    ])  # fmt: skip


def of_examples(way: Way, problem: Problem) -> Callable[[Problem, Tensor], Tensor]:
    """The Hessian of every example's loss times one vector, by a way that is right: of some examples, and a vector.

    All examples at once where that can be done, and gives two of them what the way gives each alone.
    """
    alone = functools.partial(one_by_one, way)
    if way is not forward_hessian:
        return alone
    few, vector = problem.take(slice(0, 2)), _probes(problem)[0]
    with differentiable():
        expected = alone(few, vector)
        try:
            apart = (forward_examples(few, vector) - expected).norm()
        except (RuntimeError, TypeError, ValueError) as error:
            _say(f"products of the hessian of single examples one after the other: at once {_first_sentence(error)}")
            return alone
    return forward_examples if apart <= _tolerance(expected) * expected.norm() + _rounding(few) else alone


# --- the right one -------------------------------------------------------------------------------------------

_FORWARD = {"hessian": forward_hessian, "ggn": forward_gauss_newton}
_BACKWARD = {"hessian": backward_hessian, "ggn": backward_gauss_newton}
_CHANGES = {forward_gauss_newton: forward_changes, backward_gauss_newton: backward_changes}


def right_way(kind: str, problem: Problem, at_once: int) -> Way | None:
    """The first way whose products with two random vectors are right over all examples, forward before backward.

    at_once: examples that may meet two vectors at once. A product is right where it is finite; where u · Mv = v · Mu;
    where both ways agree, if there are both; and where a Hessian agrees with finite differences of plain gradients at
    eight examples, J v of a Gauss-Newton matrix with plain gradients at all: r · Jv = (Jᵀr) · v. The tolerance is the
    root of the precision (1.5e-8 in float64), of finite differences 1e-3; what they cannot tell, at a kink, counts as
    right. None where no way is right for a Gauss-Newton matrix, which has another: `curvature.columns`.

    Raises ValueError where no way is right for a Hessian. The log says once where it is not the forward one, and why.
    """
    with differentiable():
        fast, slow = (_Trial.of(way, problem, at_once) for way in (_FORWARD[kind], _BACKWARD[kind]))
        wrong_slow = slow.wrong or _against_gradients(kind, slow)
        wrong_fast = fast.wrong or _away(fast, slow) or _against_gradients(kind, fast)
    if not wrong_fast:
        return _FORWARD[kind]
    if not wrong_slow:
        _say(f"products of the {kind} by double backward, one vector at a time: forward mode {wrong_fast}")
        return _BACKWARD[kind]
    reasons = f"forward mode {wrong_fast}; double backward {wrong_slow}"
    if kind == "ggn":
        _say(f"products of the ggn by one backward pass for every output, instead of two passes: {reasons}")
        return None
    raise ValueError(
        f"this model has no Hessian that can be trusted: {reasons}; use curvature 'ggn' or 'fisher', or replace the "
        f"operation by one whose gradient torch can differentiate"
    )


@dataclass(frozen=True, eq=False)
class _Trial:
    """Products (2, p) of two random vectors over all examples by one way, None where it has none.

    wrong: what they say of themselves, '' where nothing. pieces: the examples, as many as may meet two vectors at once.
    rounding: what it may leave of a product.
    """

    way: Way
    problem: Problem
    pieces: list[Problem]
    vectors: Tensor
    rounding: float
    products: Tensor | None
    wrong: str

    @classmethod
    def of(cls, way: Way, problem: Problem, at_once: int) -> "_Trial":
        pieces = [problem.take(slice(start, start + at_once)) for start in range(0, len(problem.x), at_once)]
        vectors, rounding = _probes(problem), _rounding(problem)
        try:
            products = sum(way(piece, vectors) for piece in pieces)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever torch or a user's module raises: the way does not exist
            return cls(way, problem, pieces, vectors, rounding, None, f"fails ({_first_sentence(error)})")
        return cls(way, problem, pieces, vectors, rounding, products, _asymmetry(vectors, products, rounding))


def _probes(problem: Problem) -> Tensor:
    """Two random vectors (2, p) of length 1."""
    start = flat(problem.state)
    drawn = torch.randn(2, len(start), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (drawn / drawn.norm(dim=1, keepdim=True)).to(start)


def _asymmetry(vectors: Tensor, products: Tensor, rounding: float) -> str:
    if not products.isfinite().all():
        return "gives products that are not finite"
    (u, v), (mu, mv) = vectors, products
    apart, scale = float((u @ mv - v @ mu).abs()), float(products.norm(dim=1).max())
    if apart > _tolerance(products) * scale + rounding:
        return f"is not symmetric (u · Mv and v · Mu differ by {apart / scale:.1e} of the product)"
    return ""


def _away(fast: _Trial, slow: _Trial) -> str:
    """How far the products of two ways are apart, '' where that is rounding error or one has none."""
    if fast.products is None or slow.products is None:
        return ""
    apart = (fast.products - slow.products).norm(dim=1)
    scale = torch.maximum(fast.products.norm(dim=1), slow.products.norm(dim=1))
    if (apart <= _tolerance(apart) * scale + fast.rounding).all():
        return ""
    return f"is {float((apart / scale).max()):.1e} of the product away from double backward"


def _against_gradients(kind: str, trial: _Trial) -> str:
    """What plain backward passes say is wrong with the products."""
    if kind == "ggn":
        off = max(_off(_CHANGES[trial.way], piece, trial.vectors) for piece in trial.pieces)
        return f"is {off:.1e} away from plain gradients of the outputs" if off else ""
    off = _off_differences(trial.way, trial.problem.take(_some(len(trial.problem.x))), trial.vectors[:1])
    return f"is {off:.1e} of the product away from finite differences of plain gradients" if off else ""


def _off(changes: Callable[[Problem, Tensor], Tensor], some: Problem, vectors: Tensor) -> float:
    """How far r · Jv is from (Jᵀr) · v, over |r| |Jv|; 0 where that is rounding error."""
    found = changes(some, vectors).flatten(1)
    state = _leaves(some.state)
    values = some.outputs(state)
    r = torch.randn(values.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(values)
    pulled = _slopes(values, state, r)
    apart = (found @ r.flatten() - vectors @ pulled).abs()
    scale = found.norm(dim=1) * r.norm()
    least = _tolerance(found) * scale + _NOISE * torch.finfo(found.dtype).eps * pulled.norm() * vectors.norm(dim=1)
    return float((apart / scale).max()) if (apart > least).any() else 0.0


def _off_differences(way: Way, some: Problem, vectors: Tensor) -> float:
    """How far products are from finite differences of the gradient, over the larger; 0 where these cannot tell.

    Both in float64, along the parameters that have a gradient: what is used and has none counts as frozen, as the row
    of a `padding_idx` does. They cannot tell where two steps differ as much: a kink between them, or rounding.
    """
    try:
        some = _double(some)
        at = flat(some.state)
        v = torch.where(_gradient(some, at) != 0, vectors[0].double(), 0)
        (found,) = way(some, v[None])
    except (RuntimeError, TypeError, ValueError):
        return 0.0  # a model for float32 alone
    length = float(at.norm()) or 1.0
    slope = lambda step: _gradient(some, at + step * length * v)  # noqa: E731
    wide, narrow = ((slope(step) - slope(-step)) / (2 * step * length) for step in _STEPS)
    apart, spread = float((found - narrow).norm()), float((wide - narrow).norm())
    scale = max(float(found.norm()), float(narrow.norm()))
    wrong = apart > _DIFFERENCES * scale + 10 * spread + _rounding(some)
    return apart / scale if wrong else 0.0


def _double(some: Problem) -> Problem:
    if all(value.dtype == torch.float64 for value in some.state.values()):
        return some
    model = copy.deepcopy(some.model).double()
    x, y = (each.double() if each.is_floating_point() else each for each in (some.x, some.y))
    return Problem(model, {name: value.double() for name, value in some.state.items()}, x, y)


def _gradient(some: Problem, at: Tensor) -> Tensor:
    state = _leaves(like(some.state, at))
    return _slopes(some.total(state), state)


def _some(count: int) -> Tensor:
    """The first example, the last, and others at random."""
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(0))[: _FEW - 2]
    return torch.cat([torch.tensor([0, count - 1]), drawn]).unique()


def _tolerance(found: Tensor) -> float:
    return torch.finfo(found.dtype).eps ** 0.5


def _rounding(problem: Problem) -> float:
    """What rounding leaves of a product with a random vector of length 1: from |J|², estimated at 256 examples.

    Where the model is certain of its outputs, p (1 - p) vanishes and its rounding error does not.
    """
    some = problem.take(slice(0, 256))
    state = _leaves(some.state)
    values = some.outputs(state)
    r = torch.randn(values.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(values)
    pulled = _slopes(values, state, r)
    size = float(pulled.norm()) ** 2 / len(pulled) ** 0.5  # |J| |Jv|
    return _NOISE * torch.finfo(values.dtype).eps * size * len(problem.x) / len(some.x)


def _first_sentence(error: Exception) -> str:
    """Its first sentence."""
    return " ".join(str(error).split()).split(". ")[0].rstrip(".") or type(error).__name__


@functools.cache
def _say(message: str):
    log.warning(message)
