"""Exact curvature matrices of the mean training loss, for models of up to 10,000 parameters."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vjp, vmap

from attriflow.gradients import Factors, Gradients, per_example
from attriflow.outputs import loss

MOST_PARAMETERS = 10_000  # p × p in float64 is then 763 MiB
_CHUNK_BYTES = 128 * 2**20  # of activations that one chunk of basis vectors carries


def fisher(gradients: Gradients) -> Tensor:
    """Empirical Fisher GᵀG / n (p, p) of training-loss gradients G (n, p)."""
    rows = gradients.dense()
    return rows.T @ rows / len(rows)


def hessian(model: nn.Module, x: np.ndarray, y: np.ndarray, gradients: Gradients) -> Tensor:
    """Hessian (p, p) of the mean loss, in the coordinates of `gradients`.

    Where the logits are linear in the parameters it is the Gauss-Newton matrix, and made as that.
    """
    state, x, y = _prepare(model, x, y)
    if _is_linear(model, x[:1], gradients):
        return _blockwise_gauss_newton(model, x, gradients)

    def mean_loss(state):
        return loss(functional_call(model, state, (x,)), y).mean()

    def product(tangent):
        return jvp(grad(mean_loss), (state,), (tangent,))[1]

    return _matrix(product, state, _order(state, gradients), _chunk(model, x))


def gauss_newton(model: nn.Module, x: np.ndarray, y: np.ndarray, gradients: Gradients) -> Tensor:
    """Generalised Gauss-Newton matrix (p, p) of the mean cross-entropy, in the coordinates of `gradients`.

    (1/n) sum_i J_iᵀ (diag(p_i) - p_i p_iᵀ) J_i with logit Jacobians J_i (c, p) and probabilities p_i (c,).
    Source: Martens 2020, arXiv:1412.1193, eq. (12).
    """
    state, x, _ = _prepare(model, x, y)
    if all(isinstance(part, Factors) for part in gradients.parts):
        return _blockwise_gauss_newton(model, x, gradients)

    def logits(state):
        return functional_call(model, state, (x,))

    def product(tangent):
        values, change = jvp(logits, (state,), (tangent,))
        p = torch.softmax(values, -1)
        change = p * (change - (p * change).sum(-1, keepdim=True)) / len(x)
        return vjp(logits, state)[1](change)[0]

    return _matrix(product, state, _order(state, gradients), _chunk(model, x))


def _blockwise_gauss_newton(model: nn.Module, x: Tensor, gradients: Gradients) -> Tensor:
    """The Gauss-Newton matrix from factors: c times less work than from Jacobians.

    With S_i = R_i R_iᵀ and the layers' backpropagated columns b_ic of J_iᵀ R_i, the block of units u of one layer and v
    of another is (1/n) sum_i (sum_c b_icu b_icv) a_i a_iᵀ: a product of the layers' inputs, weighted per example.
    """
    with torch.no_grad():
        p = torch.softmax(model(x), -1)
    columns = []
    for c in range(p.shape[1]):
        # column c of R = diag(sqrt p) - p sqrt(p)ᵀ, for which R Rᵀ = diag(p) - p pᵀ
        root = p[:, c, None].sqrt() * (torch.eye(p.shape[1], dtype=p.dtype)[c] - p)
        columns.append(
            per_example(model, x.numpy(), np.arange(len(x)), lambda z, rows, root=root: (z * root[rows]).sum(-1))
        )
    starts = np.cumsum([0, *(part.size for part in gradients.parts)])
    matrix = torch.empty(gradients.size, gradients.size, dtype=p.dtype)
    for first, left in enumerate(gradients.parts):
        for second, right in enumerate(gradients.parts[: first + 1]):
            mine = torch.stack([each.parts[first].b for each in columns])  # (c, n, out)
            theirs = torch.stack([each.parts[second].b for each in columns])
            for unit in range(mine.shape[2]):
                weights = (mine[:, :, unit, None] * theirs).sum(0) / len(x)  # (n, out of the other)
                spread = (weights[:, :, None] * right.a[:, None, :]).flatten(1)  # (n, size of the other)
                rows = slice(starts[first] + unit * left.grain, starts[first] + (unit + 1) * left.grain)
                others = slice(starts[second], starts[second + 1])
                matrix[rows, others] = left.a.T @ spread
                matrix[others, rows] = matrix[rows, others].T
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


def _prepare(model: nn.Module, x: np.ndarray, y: np.ndarray):
    state = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
    size = sum(parameter.numel() for parameter in state.values())
    if size > MOST_PARAMETERS:
        raise ValueError(
            f"the model has {size} parameters; an exact Hessian or Gauss-Newton matrix is made for up to "
            f"{MOST_PARAMETERS}; use curvature 'fisher', which needs n × n instead of p × p"
        )
    dtype = next(iter(state.values())).dtype
    return state, torch.from_numpy(np.ascontiguousarray(x)).to(dtype), torch.from_numpy(np.ascontiguousarray(y))


def _matrix(product, state: dict[str, Tensor], order: Tensor, chunk: int) -> Tensor:
    """The symmetric matrix whose product with a tangent is given, rows and columns in `order`."""
    sizes = [value.numel() for value in state.values()]
    total = sum(sizes)
    dtype = next(iter(state.values())).dtype
    matrix = torch.empty(total, total, dtype=dtype)
    for start in range(0, total, chunk):
        rows = min(chunk, total - start)
        basis = torch.zeros(rows, total, dtype=dtype)
        basis[torch.arange(rows), torch.arange(start, start + rows)] = 1
        pieces = basis.split(sizes, 1)
        tangents = {
            name: piece.reshape(rows, *value.shape) for (name, value), piece in zip(state.items(), pieces, strict=True)
        }
        found = vmap(product)(tangents)
        matrix[start : start + rows] = torch.cat([found[name].flatten(1) for name in state], 1)
    return matrix[order][:, order]


def _order(state: dict[str, Tensor], gradients: Gradients) -> Tensor:
    """Where each coordinate of the gradients lies among the flattened parameters, (p,)."""
    places, end = {}, 0
    for name, value in state.items():
        places[name] = torch.arange(end, end + value.numel()).reshape(value.shape)
        end += value.numel()
    found = []
    for part in gradients.parts:
        if isinstance(part, Factors):
            prefix = f"{part.name}." if part.name else ""
            rows = [places[f"{prefix}weight"]]
            if f"{prefix}bias" in places:
                rows.append(places[f"{prefix}bias"][:, None])
            found.append(torch.cat(rows, 1).flatten())
        else:
            found += [places[name].flatten() for name in part.names]
    return torch.cat(found)


def _chunk(model: nn.Module, x: Tensor) -> int:
    """Basis vectors to carry at once: their activations at every layer should fit the bytes set aside."""
    widths: list[int] = []
    handles = [
        layer.register_forward_hook(
            lambda _layer, _inputs, result: widths.append(result[0].numel() if result.requires_grad else 0)
        )
        for layer in model.modules()
        if not list(layer.children())
    ]
    model(x[:1])
    for handle in handles:
        handle.remove()
    return max(1, _CHUNK_BYTES // (8 * len(x) * sum(widths)))
