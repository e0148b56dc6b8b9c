"""Exact curvature matrices of the mean training loss, for models of up to 10,000 parameters."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vjp, vmap

from attriflow.gradients import Factors, Gradients
from attriflow.outputs import loss

MOST_PARAMETERS = 10_000  # p × p in float64 is then 763 MiB
_CHUNK_BYTES = 128 * 2**20  # of activations that one chunk of basis vectors carries


def fisher(gradients: Gradients) -> Tensor:
    """Empirical Fisher GᵀG / n (p, p) of training-loss gradients G (n, p)."""
    rows = gradients.dense()
    return rows.T @ rows / len(rows)


def hessian(model: nn.Module, x: np.ndarray, y: np.ndarray, gradients: Gradients) -> Tensor:
    """Hessian (p, p) of the mean loss, in the coordinates of `gradients`."""
    state, x, y = _prepare(model, x, y)

    def mean_loss(state):
        return loss(functional_call(model, state, (x,)), y).mean()

    def product(tangent):
        return jvp(grad(mean_loss), (state,), (tangent,))[1]

    return _matrix(product, state, _order(model, state, gradients), _chunk(model, x))


def gauss_newton(model: nn.Module, x: np.ndarray, y: np.ndarray, gradients: Gradients) -> Tensor:
    """Generalised Gauss-Newton matrix (p, p) of the mean cross-entropy, in the coordinates of `gradients`.

    (1/n) sum_i J_iᵀ (diag(p_i) - p_i p_iᵀ) J_i with logit Jacobians J_i (c, p) and probabilities p_i (c,).
    Source: Martens 2020, arXiv:1412.1193, eq. (12).
    """
    state, x, y = _prepare(model, x, y)

    def logits(state):
        return functional_call(model, state, (x,))

    def product(tangent):
        values, change = jvp(logits, (state,), (tangent,))
        p = torch.softmax(values, -1)
        change = p * (change - (p * change).sum(-1, keepdim=True)) / len(x)
        return vjp(logits, state)[1](change)[0]

    return _matrix(product, state, _order(model, state, gradients), _chunk(model, x))


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
            name: piece.reshape(rows, *value.shape)
            for (name, value), piece in zip(state.items(), pieces, strict=True)
        }
        found = vmap(product)(tangents)
        matrix[start : start + rows] = torch.cat([found[name].flatten(1) for name in state], 1)
    return matrix[order][:, order]


def _order(model: nn.Module, state: dict[str, Tensor], gradients: Gradients) -> Tensor:
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
        layer.register_forward_hook(lambda _layer, _inputs, result: widths.append(result[0].numel()))
        for layer in model.modules()
        if not list(layer.children())
    ]
    with torch.no_grad():
        model(x[:1])
    for handle in handles:
        handle.remove()
    return max(1, _CHUNK_BYTES // (8 * len(x) * sum(widths)))
