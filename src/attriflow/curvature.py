"""Curvature of the mean training loss: products with vectors for any model, matrices for up to 10,000 parameters.

Both are in the coordinates of the training gradients (`Gradients.order`), and in the precision of the model.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import scipy.linalg
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vjp, vmap

from attriflow import flops
from attriflow.device import inputs, labels
from attriflow.gradients import Factors, Gradients, per_example
from attriflow.outputs import loss

MOST_PARAMETERS = 10_000  # p × p in float64 is then 763 MiB
_CHUNK_BYTES = 128 * 2**20  # of the activations of vectors × examples at once; all derivatives hold 8 times as much
_EXAMPLES = 256  # to carry before a second vector is: each pass over a vector should serve many
_ROWS = 512  # of an exact matrix, made at once

# vectors v (k, p) and, unless they are all meant, the training examples of the mean -> C v (k, p)
Products = Callable[..., Tensor]


def products(kind: str, model: nn.Module, x: np.ndarray, y: np.ndarray, gradients: Gradients) -> Products:
    """Products of the curvature with vectors, v (k, p) -> C v (k, p), by a function that never makes C.

    kind: 'fisher', GᵀG / n from the factors of `gradients` G (n, p), those of the training loss; 'ggn', the
    Gauss-Newton matrix, and 'hessian', both by forward and backward differentiation. The function takes, after v, the
    indices of the examples to average over, all of them without. Beside a few arrays of the size of v it needs about
    1 GiB (fisher: 256 MiB) however many examples and vectors there are, more only where a single example does.
    """
    if kind == "fisher":
        return partial(_fisher_product, gradients)
    state = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
    x, y = inputs(model, x), labels(model, y)
    order, room = gradients.order(state), _CHUNK_BYTES // (8 * activations(model, x))
    one = partial({"ggn": _gauss_newton_product, "hessian": _hessian_product}[kind], model, state)

    def product(v: Tensor, rows: Tensor | None = None) -> Tensor:
        some_x, some_y = (x, y) if rows is None else (x[rows], y[rows])
        flat = torch.empty_like(v).index_copy_(1, order, v)
        found = torch.zeros_like(v)
        for vectors, examples in _blocks(len(v), len(some_x), room):
            found[vectors] += vmap(partial(one, some_x[examples], some_y[examples]))(flat[vectors])
        return found[:, order] / len(some_x)

    return product


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


def _hessian_product(model: nn.Module, state: dict[str, Tensor], x: Tensor, y: Tensor, vector: Tensor) -> Tensor:
    """The second derivative of the summed loss times a vector, both (p,) in the order of the state."""

    def total(state):
        return loss(functional_call(model, state, (x,)), y).sum()

    return _flat(jvp(grad(total), (state,), (_like(state, vector),))[1])


def _gauss_newton_product(model: nn.Module, state: dict[str, Tensor], x: Tensor, y: Tensor, vector: Tensor) -> Tensor:
    """The Gauss-Newton matrix of the summed loss times a vector, both (p,) in the order of the state."""

    def logits(state):
        return functional_call(model, state, (x,))

    values, change = jvp(logits, (state,), (_like(state, vector),))
    if y.is_floating_point():
        change = 2 * change  # the second derivative of a squared error
    else:
        p = torch.softmax(values, -1)
        change = p * (change - (p * change).sum(-1, keepdim=True))
    positions = values.shape[1:-1].numel()  # of a sequence, over which its loss is a mean
    return _flat(vjp(logits, state)[1](change / positions)[0])


def example_products(
    model: nn.Module, x: np.ndarray, y: np.ndarray, gradients: Gradients, v: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """The Hessian of every example's loss times one vector v (p,): some examples and their rows (k, p), in turn.

    No more rows at a time than 128 MiB hold, and than there is room for as in `products`.
    """
    state = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
    x, y = inputs(model, x), labels(model, y)
    order = gradients.order(state)
    direction = _like(state, torch.empty_like(v).index_copy_(0, order, v))

    def one(x: Tensor, y: Tensor) -> Tensor:
        def own(state):
            return loss(functional_call(model, state, (x[None],)), y[None])[0]

        return _flat(jvp(grad(own), (state,), (direction,))[1])

    step = max(1, _CHUNK_BYTES // (8 * (activations(model, x) + 4 * len(v))))  # 4: the state's, both derivatives', ours
    for start in range(0, len(x), step):
        some = slice(start, start + step)
        yield some, vmap(one)(x[some], y[some])[:, order]


def _like(state: dict[str, Tensor], vector: Tensor) -> dict[str, Tensor]:
    """A vector (p,) as a state dict."""
    pieces = vector.split([value.numel() for value in state.values()])
    return {name: piece.view(value.shape) for (name, value), piece in zip(state.items(), pieces, strict=True)}


def _flat(state: dict[str, Tensor]) -> Tensor:
    """A state dict as a vector (p,)."""
    return torch.cat([value.flatten() for value in state.values()])


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
    where there are any. An a that overflows, p_y near 0, is not finite.

    Source: Tanabe and Sagae 1992, J. R. Statist. Soc. B 54, the Cholesky decomposition of a multinomial's covariance.
    """
    positions = logits.shape[1:-1].numel() ** 0.5
    if y.is_floating_point():
        root = torch.full_like(logits, 2**0.5)[..., None]
        return root / positions, 2**0.5 * (logits - y[..., None].to(logits.dtype)) / positions
    p = torch.softmax(logits, -1)
    tail = p.flip(-1).cumsum(-1).flip(-1)  # from each class on
    behind = tail[..., 1:]  # q_j, j < c - 1
    diagonal = torch.where(behind > 0, p[..., :-1] * behind / tail[..., :-1], 0).sqrt()
    below = torch.where(behind[..., None, :] > 0, p[..., :, None] / behind[..., None, :], 0).tril(-1)  # (n, ..., c, r)
    root = diagonal[..., None, :] * (torch.eye(p.shape[-1], dtype=p.dtype, device=p.device)[:, :-1] - below)
    own = y[..., None]
    picked = root.take_along_dim(own[..., None], -2).squeeze(-2)
    return root / positions, -picked / p.take_along_dim(own, -1) / positions


def root_size(model: nn.Module, x: np.ndarray, y: np.ndarray) -> int:
    """Columns of the root of the loss's Hessian of one example, r, all positions of a sequence counted."""
    with torch.no_grad():
        root, _ = roots(model(inputs(model, x[:1])), labels(model, y[:1]))
    return root[0].numel() // root.shape[-2]


def columns(model: nn.Module, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[Gradients, Tensor]]:
    r"""The rows $B_i = R_i^\top J_i$ of which the Gauss-Newton matrix is $\frac{1}{n} \sum_i B_i^\top B_i$.

    Column by column of the roots R_i of `roots`: a row (p,) of every example as Gradients (n, p), and a (n,), its part
    in the example's gradient of the loss, $g_i = B_i^\top a_i$. Logit Jacobians J_i (c, p).
    """
    with torch.no_grad():
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
    _check_size(gradients)
    if _is_linear(model, inputs(model, x[:1]), gradients):
        return _blockwise_gauss_newton(model, x, y, gradients)
    return _matrix(products("hessian", model, x, y, gradients), model, gradients.size)


def gauss_newton(model: nn.Module, x: np.ndarray, y: np.ndarray, gradients: Gradients) -> Tensor:
    """Generalised Gauss-Newton matrix (p, p) of the mean loss.

    (1/n) sum_i J_iᵀ S_i J_i with logit Jacobians J_i (c, p) and the second derivative S_i of the loss by the logits:
    diag(p_i) - p_i p_iᵀ of cross-entropy, with probabilities p_i (c,), and 2 of the squared error.
    Source: Martens 2020, arXiv:1412.1193, eq. (12).
    """
    _check_size(gradients)
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
    """Whether the logits are the output of the only layer that has parameters."""
    if len(gradients.parts) != 1 or not isinstance(gradients.parts[0], Factors):
        return False
    outputs = []
    handle = model.get_submodule(gradients.parts[0].name).register_forward_hook(
        lambda _layer, _inputs, result: outputs.append(result)
    )
    logits = model(x)
    handle.remove()
    return logits is outputs[0]


def _check_size(gradients: Gradients):
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
