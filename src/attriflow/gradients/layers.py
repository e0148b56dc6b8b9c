"""Layers whose per-example gradients follow from their input and the gradient of their output.

A rule makes a layer's part from the layer, what it was given and the gradient of what it gave back, both with the
examples first. A layer without a rule, and parameters outside of any layer, take the general path.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from attriflow.gradients.parts import Factors, Lookups, Part, Rows, Sequences, smaller


def rule(layer: nn.Module) -> Callable[[nn.Module, str, Tensor, Tensor], Part] | None:
    """The rule of a layer, None where it takes the general path."""
    return RULES.get(type(layer)) if _SUPPORTED.get(type(layer), lambda _: True)(layer) else None


def names_of(layer: nn.Module) -> tuple[str, ...]:
    """The parameters that a rule gives the gradients of, by their names within the layer."""
    return tuple(each for each in ("weight", "bias") if getattr(layer, each, None) is not None)


def _names(layer: nn.Module, name: str) -> tuple[str, ...]:
    return tuple(f"{name}.{each}" if name else each for each in names_of(layer))


def _with_ones(a: Tensor, layer: nn.Module) -> Tensor:
    return a if layer.bias is None else torch.cat([a, a.new_ones(*a.shape[:-1], 1)], -1)


def _linear(layer: nn.Linear, name: str, x: Tensor, b: Tensor) -> Part:
    names = _names(layer, name)
    if x.ndim == 2:
        return Factors(name, names, _with_ones(x, layer), b)
    return smaller(Sequences(name, names, _with_ones(x.flatten(1, -2), layer), b.flatten(1, -2)))


def _convolution(layer: nn.Conv2d, name: str, x: Tensor, b: Tensor) -> Part:
    patches = functional.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride).mT  # (n, t, in)
    return smaller(Sequences(name, _names(layer, name), _with_ones(patches, layer), b.flatten(2).mT))


def _layer_norm(layer: nn.LayerNorm, name: str, x: Tensor, b: Tensor) -> Part:
    dims = len(layer.normalized_shape)
    return _scales(layer, name, functional.layer_norm(x, layer.normalized_shape, eps=layer.eps), b, dims)


def _batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, name: str, x: Tensor, b: Tensor) -> Part:
    scaled = functional.batch_norm(x, layer.running_mean, layer.running_var, eps=layer.eps)
    return _scales(layer, name, scaled.movedim(1, -1), b.movedim(1, -1), 1)


def _scales(layer: nn.Module, name: str, scaled: Tensor, b: Tensor, dims: int) -> Rows:
    """An elementwise weight and bias on the last `dims` dimensions, the same at all positions."""
    sums = []
    for each in ((b * scaled), b)[: 1 if layer.bias is None else 2]:
        each = each.flatten(each.ndim - dims)  # (n, ..., size)
        sums.append(each.flatten(1, -2).sum(1) if each.ndim > 2 else each)
    return Rows(name, _names(layer, name), torch.cat(sums, 1))


def _embedding(layer: nn.Embedding, name: str, index: Tensor, b: Tensor) -> Part:
    index, b = index.flatten(1), b.flatten(1, -2)
    if layer.padding_idx is not None:
        b = b * (index != layer.padding_idx)[..., None]
    return Lookups(name, _names(layer, name), layer.num_embeddings, index, b)


RULES = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.LayerNorm: _layer_norm,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.Embedding: _embedding,
}

_SUPPORTED = {
    nn.Conv2d: lambda layer: layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str),
    nn.LayerNorm: lambda layer: layer.elementwise_affine,
    nn.BatchNorm1d: lambda layer: layer.affine and layer.track_running_stats and not layer.training,
    nn.BatchNorm2d: lambda layer: layer.affine and layer.track_running_stats and not layer.training,
    nn.Embedding: lambda layer: layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse,
}
