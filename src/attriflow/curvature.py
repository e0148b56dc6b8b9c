"""Curvature of the mean training loss: products with vectors for any model, matrices for up to 10,000 parameters.

Both are in the coordinates of the training gradients (`Gradients.order`), and in the precision of the model.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import scipy.linalg
import torch
from torch import Tensor, nn

from attriflow import flops
from attriflow.device import inputs, labels
from attriflow.gradients import Factors, Gradients, per_example
from attriflow.outputs import IGNORED
from attriflow.products import (
    Problem,
    differentiable,
    of_examples,
    right_way,
    shares,
)

MOST_PARAMETERS = 10_000  # p × p in float64 is then 763 MiB
_CHUNK_BYTES = 128 * 2**20  # of the activations of vectors × examples at once; all derivatives hold 8 times as much
_EXAMPLES = 256  # to carry before a second vector is: each pass over a vector should serve many
_ROWS = 512  # of an exact matrix, made at once

# vectors v (k, p) and, unless they are all meant, the training examples of the mean -> C v (k, p)
Products = Callable[..., Tensor]


def products(kind: str, model: nn.Module, x: np.ndarray, y: np.ndarray, gradients: Gradients) -> Products:
    """Products of the curvature with vectors, v (k, p) -> C v (k, p), by a function that never makes C.

    kind: 'fisher', GᵀG / n from the factors of `gradients` G (n, p), those of the training loss; 'ggn', the
    Gauss-Newton matrix, and 'hessian', both by a way that `attriflow.products` finds right on these examples, a
    Gauss-Newton matrix otherwise by its rows. The function takes, after v, the indices of the examples to average over,
    all of them without. Beside a few arrays of the size of v it needs about 1 GiB (fisher: 256 MiB) however many
    examples and vectors there are, more only where a single example does. Raises ValueError where no way is right.
    """
    if kind == "fisher":
        return partial(_fisher_product, gradients)
    _expect_one_precision(model, gradients)
    problem = Problem.of(model, inputs(model, x), labels(model, y))
    room = _room(problem)
    way = right_way(kind, problem, max(1, room // 2))
    if way is None:
        return partial(_product_by_rows, model, x, y, problem.state, gradients)
    order = gradients.order(problem.state)

    def product(v: Tensor, rows: Tensor | None = None) -> Tensor:
        some = problem if rows is None else problem.take(rows)
        flat = torch.empty_like(v).index_copy_(1, order, v)
        found = torch.zeros_like(v)
        with differentiable():
            for vectors, examples in _blocks(len(v), len(some.x), room):
                found[vectors] += way(some.take(examples), flat[vectors])
        return found[:, order] / len(some.x)

    return product


def _expect_one_precision(model: nn.Module, gradients: Gradients):
    """Raise ValueError where gradients were widened (`precision.widened`), and derivatives of the model are not."""
    own, theirs = next(model.parameters()).dtype, gradients.parts[0].dtype
    if own != theirs:
        raise ValueError(
            f"gradients are too small or too large for the model's {own}: its second derivatives would be lost; use "
            f"`dtype: float64`, or curvature 'fisher'"
        )


def _room(problem: Problem) -> int:
    """Pairs of vectors and examples that may meet at once."""
    return _CHUNK_BYTES // (8 * activations(problem.model, problem.x))


def _product_by_rows(
    model: nn.Module, x: np.ndarray, y: np.ndarray, state: dict, gradients: Gradients, v: Tensor, rows=None
) -> Tensor:
    """Products of the Gauss-Newton matrix BᵀB / n by its rows, made anew for every call and 256 examples at once."""
    some = np.arange(len(x)) if rows is None else rows.numpy(force=True)
    order, found = gradients.order(state), torch.zeros_like(v)
    flat = torch.empty_like(v).index_copy_(1, order, v)
    for start in range(0, len(some), _EXAMPLES):
        examples = some[start : start + _EXAMPLES]
        for column, _ in columns(model, x[examples], y[examples]):
            own = column.order(state)  # layers may take other forms than in the gradients
            found.index_add_(1, own, column.combine(column.times(flat[:, own])))
    return found[:, order] / len(some)


def many_products(
    kind: str, model: nn.Module, x: np.ndarray, y: np.ndarray, gradients: Gradients, count: int
) -> Products:
    """`products` over all examples for `count` vectors in all: by the matrix, where making it takes fewer."""
    if gradients.size > min(count, MOST_PARAMETERS):
        return products(kind, model, x, y, gradients)
    made = exact(kind, model, x, y, gradients)
    return lambda v: v @ made


def _fisher_product(gradients: Gradients, v: Tensor, rows: Tensor | None = None) -> Tensor:
    some = gradients if rows is None else gradients.take(rows)
    weights = some.times(v) / len(some)  # (n, k)
    return some.combine(weights)


def example_products(
    model: nn.Module, x: np.ndarray, y: np.ndarray, gradients: Gradients, v: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """The Hessian of every example's loss times one vector v (p,): some examples and their rows (k, p), in turn.

    No more rows at a time than 128 MiB hold, and than there is room for as in `products`, by the way that is right.
    """
    _expect_one_precision(model, gradients)
    problem = Problem.of(model, inputs(model, x), labels(model, y))
    way = right_way("hessian", problem, max(1, _room(problem) // 2))
    one = of_examples(way, problem)
    order = gradients.order(problem.state)
    direction = torch.empty_like(v).index_copy_(0, order, v)
    step = max(1, _CHUNK_BYTES // (8 * (activations(model, problem.x) + 4 * len(v))))  # 4: the state's, ours, both
    for start in range(0, len(x), step):  # derivatives'
        some = slice(start, start + step)
        with differentiable():
            rows = one(problem.take(some), direction)
        yield some, rows[:, order]


def _blocks(vectors: int, examples: int, room: int) -> Iterator[tuple[slice, slice]]:
    """Vectors and examples that meet at once, no more pairs than there is room for."""
    height = min(vectors, max(1, room // min(examples, _EXAMPLES)))
    width = max(1, room // height)
    for first in range(0, vectors, height):
        for start in range(0, examples, width):
            yield slice(first, first + height), slice(start, start + width)


def activations(model: nn.Module, x: Tensor) -> int:
    """Numbers that an example makes a forward pass keep for its derivative."""

    def kept(count: int) -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda value: sizes.append(value.numel()), lambda _: None):
            model(torch.cat([x[:1]] * count))
        return sum(sizes)

    return max(1, kept(2) - kept(1))  # what does not depend on the example drops out


# --- the loss's own Hessian --------------------------------------------------------------------------------


def roots(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    r"""R (n, ..., c, r), $R R^\top$ the Hessian of a loss by its logits, and a (n, ..., r), R a its derivative.

    Of logits (n, ..., c) and labels y (n, ...), whole numbers for cross-entropy, others for the squared error, of which
    R = √2. Cross-entropy has $R R^\top = diag(p) - p p^\top$, of rank r = c - 1, and R is its Cholesky factor: with
    $q_j = \sum_{i > j} p_i$, $R_{jj} = \sqrt{p_j q_j / q_{j-1}}$ and $R_{ij} = -R_{jj} p_i / q_j$ below, without a
    difference that could cancel. Its derivative is $p - e_y = R a$, $a = -R_y / p_y$. Both are of a mean over positions
    where there are any, without those whose label is -100. An a that overflows, p_y near 0, is not finite. Raises
    ValueError for classes and a single output: its probability is 1, and nothing can be learned of it.

    Source: Tanabe and Sagae 1992, J. R. Statist. Soc. B 54, the Cholesky decomposition of a multinomial's covariance.
    """
    if y.is_floating_point():
        root = torch.full_like(logits, 2**0.5)[..., None]
        return root, 2**0.5 * (logits - y[..., None].to(logits.dtype))
    if logits.shape[-1] == 1:
        raise ValueError(
            "the model has 1 output and the labels are classes: its softmax is 1 everywhere, and every gradient 0; "
            "use an output for every class, two for two, or labels of a floating dtype for a regression"
        )
    share = shares(y).sqrt().to(logits.dtype)[..., None]
    p = torch.softmax(logits, -1)
    tail = p.flip(-1).cumsum(-1).flip(-1)  # from each class on
    behind = tail[..., 1:]  # q_j, j < c - 1
    diagonal = torch.where(behind > 0, p[..., :-1] * behind / tail[..., :-1], 0).sqrt()
    below = torch.where(behind[..., None, :] > 0, p[..., :, None] / behind[..., None, :], 0).tril(-1)  # (n, ..., c, r)
    root = diagonal[..., None, :] * (torch.eye(p.shape[-1], dtype=p.dtype, device=p.device)[:, :-1] - below)
    own = torch.where(y == IGNORED, 0, y)[..., None]
    picked = root.take_along_dim(own[..., None], -2).squeeze(-2)
    return root * share[..., None], -picked / p.take_along_dim(own, -1) * share


def root_size(model: nn.Module, x: np.ndarray, y: np.ndarray) -> int:
    """Columns of the root of the loss's Hessian of one example, r, all positions of a sequence counted."""
    with torch.no_grad():
        outputs = model(inputs(model, x[:1]))
    return outputs[0].numel() if labels(model, y[:1]).is_floating_point() else outputs[0, ..., 1:].numel()


def columns(model: nn.Module, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[Gradients, Tensor]]:
    r"""The rows $B_i = R_i^\top J_i$ of which the Gauss-Newton matrix is $\frac{1}{n} \sum_i B_i^\top B_i$.

    Column by column of the roots R_i of `roots`: a row (p,) of every example as Gradients (n, p), and a (n,), its part
    in the example's gradient of the loss, $g_i = B_i^\top a_i$. Logit Jacobians J_i (c, p).
    """
    with torch.no_grad(), differentiable():
        logits = torch.cat([model(some) for some in inputs(model, x).split(_EXAMPLES)])
        root, weights = roots(logits, labels(model, y))
    for place in np.ndindex(*root.shape[1:-2]):
        for column in range(root.shape[-1]):
            own = root[(slice(None), *place, slice(None), column)]  # (n, c)
            found = per_example(
                model,
                x,
                np.arange(len(x)),
                lambda z, rows, own=own, place=place: (z[(slice(None), *place)] * own[rows]).sum(-1),
            )
            yield found, weights[(slice(None), *place, column)]


def decompose(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (q,), ascending, and eigenvectors (q, q) of a symmetric matrix, which is overwritten.

    Decomposed in float64. Eigenvalues that are rounding error become 0: in size below q × 2⁻⁵² of the largest, or 8
    times the precision of the matrix, whichever is more.
    """
    precision, double = torch.finfo(matrix.dtype).eps, matrix.double()
    if matrix.is_cpu:
        # scipy's divide and conquer overwrites its input: no second matrix
        found = scipy.linalg.eigh(double.numpy(), driver="evd", overwrite_a=True, check_finite=False)
        flops.note(flops.eigh(len(matrix)))
        values, vectors = (torch.from_numpy(each) for each in found)
    else:
        values, vectors = torch.linalg.eigh(double)
    sizes = values.abs()
    least = max(len(values) * torch.finfo(torch.float64).eps, 8 * precision) * sizes.max()
    return torch.where(sizes > least, values, 0), vectors.to(matrix.dtype)


# --- exact matrices ------------------------------------------------------------------------------------------


def exact(kind: str, model: nn.Module, x: np.ndarray, y: np.ndarray, gradients: Gradients) -> Tensor:
    """The matrix (p, p) of a kind: `fisher`, `gauss_newton` or `hessian`."""
    if kind == "fisher":
        return fisher(gradients)
    return {"ggn": gauss_newton, "hessian": hessian}[kind](model, x, y, gradients)


def fisher(gradients: Gradients) -> Tensor:
    """Empirical Fisher GᵀG / n (p, p) of training-loss gradients G (n, p)."""
    rows = gradients.dense()
    return rows.T @ rows / len(rows)


def hessian(model: nn.Module, x: np.ndarray, y: np.ndarray, gradients: Gradients) -> Tensor:
    """Hessian (p, p) of the mean loss.

    Where the logits are linear in the parameters it is the Gauss-Newton matrix, and made as that.
    """
    _check_size(model, gradients)
    if _is_linear(model, inputs(model, x[:1]), gradients):
        return _blockwise_gauss_newton(model, x, y, gradients)
    return _matrix(products("hessian", model, x, y, gradients), model, gradients.size)


def gauss_newton(model: nn.Module, x: np.ndarray, y: np.ndarray, gradients: Gradients) -> Tensor:
    """Generalised Gauss-Newton matrix (p, p) of the mean loss.

    (1/n) sum_i J_iᵀ S_i J_i with logit Jacobians J_i (c, p) and the second derivative S_i of the loss by the logits:
    diag(p_i) - p_i p_iᵀ of cross-entropy, with probabilities p_i (c,), and 2 of the squared error.
    Source: Martens 2020, arXiv:1412.1193, eq. (12).
    """
    _check_size(model, gradients)
    with torch.no_grad():
        one_vector = model(inputs(model, x[:1])).ndim == 2
    if one_vector and all(isinstance(part, Factors) for part in gradients.parts):
        return _blockwise_gauss_newton(model, x, y, gradients)
    return _matrix(products("ggn", model, x, y, gradients), model, gradients.size)


def _blockwise_gauss_newton(model: nn.Module, x: np.ndarray, y: np.ndarray, gradients: Gradients) -> Tensor:
    """The Gauss-Newton matrix from factors: c times less work than from Jacobians.

    With S_i = R_i R_iᵀ and the layers' backpropagated columns b_ic of J_iᵀ R_i, the block of units u of one layer and v
    of another is (1/n) sum_i (sum_c b_icu b_icv) a_i a_iᵀ: a product of the layers' inputs, weighted per example.
    """
    found = [column for column, _ in columns(model, x, y)]
    starts = np.cumsum([0, *(part.size for part in gradients.parts)])
    matrix = torch.empty(gradients.size, gradients.size, dtype=gradients.parts[0].dtype, device=gradients.device)
    for first, left in enumerate(gradients.parts):
        for second, right in enumerate(gradients.parts[: first + 1]):
            mine = torch.stack([each.parts[first].b for each in found])  # (c, n, out)
            theirs = torch.stack([each.parts[second].b for each in found])
            for unit in range(mine.shape[2]):
                weights = (mine[:, :, unit, None] * theirs).sum(0) / len(x)  # (n, out of the other)
                spread = (weights[:, :, None] * right.a[:, None, :]).flatten(1)  # (n, size of the other)
                rows = slice(starts[first] + unit * left.grain, starts[first] + (unit + 1) * left.grain)
                others = slice(starts[second], starts[second + 1])
                block = left.a.T @ spread
                matrix[rows, others], matrix[others, rows] = block, block.T
    return matrix


def _is_linear(model: nn.Module, x: Tensor, gradients: Gradients) -> bool:
    """Whether the logits are the output of the only layer that has parameters, as the layer itself made it."""
    if len(gradients.parts) != 1 or not isinstance(gradients.parts[0], Factors):
        return False
    layer, made = model.get_submodule(gradients.parts[0].name), []
    handle = layer.register_forward_hook(lambda _layer, _inputs, result: made.append((result, result._version)))
    with torch.no_grad():
        logits = model(x)
    handle.remove()
    alone = len(made) == 1 and not (layer._forward_hooks or layer._forward_pre_hooks)
    return alone and logits is made[0][0] and logits._version == made[0][1]  # not changed in place


def _check_size(model: nn.Module, gradients: Gradients):
    _expect_one_precision(model, gradients)
    if gradients.size > MOST_PARAMETERS:
        raise ValueError(
            f"the model has {gradients.size} parameters; an exact Hessian or Gauss-Newton matrix is made for up to "
            f"{MOST_PARAMETERS}; use curvature 'fisher', which needs n × n instead of p × p, or a method that needs "
            f"products only (influence_cg, influence_arnoldi, influence_lissa)"
        )


def _matrix(product: Products, model: nn.Module, size: int) -> Tensor:
    """The symmetric matrix (p, p) whose products are given."""
    parameter = next(model.parameters())
    matrix = torch.empty(size, size, dtype=parameter.dtype, device=parameter.device)
    for start in range(0, size, _ROWS):
        basis = matrix.new_zeros(min(_ROWS, size - start), size)
        basis.diagonal(start).fill_(1)
        matrix[start : start + _ROWS] = product(basis)
    return matrix
