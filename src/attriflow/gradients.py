"""Per-example gradients of a measured output, factored where a layer allows it.

The gradient of a linear layer with input a and output gradient b is b aᵀ, for each example. Inner products of such
gradients are products of two small ones, (a · a')(b · b'), so nothing of size n × p is ever made for them. Every other
parameter takes the general path, torch.func.vmap(grad), with a row of gradients an example.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from attriflow.outputs import OUTPUTS

log = logging.getLogger(__name__)

_ROWS = 1024  # examples whose inner products with all others are held at once
_MOST_BYTES = 8 * 2**30  # of materialised gradients


@dataclass(frozen=True)
class Factors:
    """Gradients of one linear layer: a (n, in), with a last column of ones where it has a bias, and b (n, out)."""

    name: str
    a: Tensor
    b: Tensor

    @property
    def size(self) -> int:
        """Parameters, the bias counted in."""
        return self.a.shape[1] * self.b.shape[1]

    def to(self, dtype: torch.dtype) -> "Factors":
        """The same in another precision."""
        return Factors(self.name, self.a.to(dtype), self.b.to(dtype))

    def gram(self, other: "Factors", rows: slice) -> Tensor:
        """Inner products of some rows with all of another's, (rows, n')."""
        return (self.a[rows] @ other.a.T).mul_(self.b[rows] @ other.b.T)

    def squared_norms(self) -> Tensor:
        """(n,)"""
        return self.a.square().sum(1) * self.b.square().sum(1)

    @property
    def grain(self) -> int:
        """Parameters of one output unit: coordinates are taken unit by unit."""
        return self.a.shape[1]

    def dense(self, units: slice = slice(None)) -> Tensor:
        """Gradients with respect to some output units, (n, units * grain)."""
        return (self.b[:, units, None] * self.a[:, None, :]).flatten(1)


@dataclass(frozen=True)
class Rows:
    """Gradients of all parameters that no linear layer holds (`names`), a row of values (n, size) an example."""

    name: str
    values: Tensor
    names: tuple[str, ...]

    @property
    def size(self) -> int:
        """Parameters."""
        return self.values.shape[1]

    def to(self, dtype: torch.dtype) -> "Rows":
        """The same in another precision."""
        return Rows(self.name, self.values.to(dtype), self.names)

    def gram(self, other: "Rows", rows: slice) -> Tensor:
        """Inner products of some rows with all of another's, (rows, n')."""
        return self.values[rows] @ other.values.T

    def squared_norms(self) -> Tensor:
        """(n,)"""
        return self.values.square().sum(1)

    @property
    def grain(self) -> int:
        """Coordinates are taken so many at a time."""
        return 1024

    def dense(self, units: slice = slice(None)) -> Tensor:
        """Some columns, (n, units * grain)."""
        start, stop, _ = units.indices(-(-self.size // self.grain))
        return self.values[:, start * self.grain : stop * self.grain]


@dataclass(frozen=True)
class Gradients:
    """Per-example gradients (n, p) in parts. The order of the p coordinates is that of the parts, unit by unit."""

    parts: list[Factors | Rows]

    def __len__(self) -> int:
        part = self.parts[0]
        return len(part.b if isinstance(part, Factors) else part.values)

    @property
    def size(self) -> int:
        """Parameters, p."""
        return sum(part.size for part in self.parts)

    def to(self, dtype: torch.dtype) -> "Gradients":
        """The same gradients in another precision."""
        return Gradients([part.to(dtype) for part in self.parts])

    def gram(self, other: "Gradients") -> Tensor:
        """Inner products (n, n') of every gradient here with every one of another."""
        found = torch.empty(len(self), len(other), dtype=torch.float64)
        for start in range(0, len(self), _ROWS):
            rows = slice(start, start + _ROWS)
            found[rows] = sum(mine.gram(theirs, rows) for mine, theirs in zip(self.parts, other.parts, strict=True))
        return found

    def squared_norms(self) -> Tensor:
        """(n,)"""
        return sum(part.squared_norms() for part in self.parts)

    def dense(self) -> Tensor:
        """All gradients, (n, p). Raises MemoryError where they are too large to hold."""
        needed = len(self) * self.size * 8
        if needed > _MOST_BYTES:
            raise MemoryError(
                f"{len(self)} gradients of {self.size} parameters take {needed / 2**30:.1f} GiB, more than "
                f"{_MOST_BYTES / 2**30:.0f}; use a method that projects them (trak) or fewer parameters"
            )
        return torch.cat([part.dense() for part in self.parts], 1)


def per_example(
    model: nn.Module,
    x: np.ndarray,
    y: np.ndarray,
    output: str | Callable[[Tensor, Tensor], Tensor],
    *,
    batch: int = 500,
) -> Gradients:
    """Gradients of a measured output ('loss', 'margin' or a function of logits and labels) at every example.

    model: in evaluation mode; its dtype is that of the gradients. x (n, ...), y (n,). batch changes only the memory.
    Raises ValueError with the indices of examples whose gradients are not finite.
    """
    output = OUTPUTS[output] if isinstance(output, str) else output
    dtype = next(model.parameters()).dtype
    x, y = torch.from_numpy(np.ascontiguousarray(x)).to(dtype), torch.from_numpy(np.ascontiguousarray(y))
    linears = factored_layers(model, x[:2])
    rest = _rest(model, linears)
    pieces = [_batch(model, x[rows], y[rows], output, linears, rest) for rows in _slices(len(x), batch)]
    parts = [_join(pieces, place) for place in range(len(pieces[0]))]
    gradients = Gradients(parts)
    bad = torch.nonzero(~torch.isfinite(gradients.squared_norms())).flatten().tolist()
    if bad:
        raise ValueError(f"gradients are not finite at examples {bad[:10]}{' ...' if len(bad) > 10 else ''}")
    return gradients


def factored_layers(model: nn.Module, x: Tensor) -> dict[str, nn.Linear]:
    """The linear layers that a forward pass uses once, on one vector an example, with nothing shared or frozen."""
    uses: dict[str, list[int]] = {}
    candidates = {name: layer for name, layer in model.named_modules() if type(layer) is nn.Linear}
    handles = [
        layer.register_forward_pre_hook(
            lambda _layer, inputs, name=name: uses.setdefault(name, []).append(inputs[0].ndim)
        )
        for name, layer in candidates.items()
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    owners: dict[int, int] = {}
    for _, module in model.named_modules(remove_duplicate=False):
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    return {
        name: layer
        for name, layer in candidates.items()
        if uses.get(name) == [2]
        and all(parameter.requires_grad and owners[id(parameter)] == 1 for parameter in layer.parameters())
    }


def _rest(model: nn.Module, linears: dict[str, nn.Linear]) -> dict[str, Tensor]:
    """The trainable parameters that no factored layer holds."""
    held = {id(parameter) for layer in linears.values() for parameter in layer.parameters()}
    rest = {
        name: parameter.detach()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and id(parameter) not in held
    }
    if rest:
        log.info("per-example gradients of %s take the general path", sorted(rest))
    return rest


def _batch(model, x, y, output, linears, rest) -> list[Factors | Rows]:
    inputs, outputs = {}, {}

    def keep(name):
        def hook(_layer, given, result):
            inputs[name], outputs[name] = given[0].detach(), result

        return hook

    handles = [layer.register_forward_hook(keep(name)) for name, layer in linears.items()]
    try:
        values = output(model(x), y)
    finally:
        for handle in handles:
            handle.remove()
    found = torch.autograd.grad(values.sum(), [outputs[name] for name in linears]) if linears else []
    parts: list[Factors | Rows] = []
    for (name, layer), b in zip(linears.items(), found, strict=True):
        a = inputs[name]
        a = a if layer.bias is None else torch.cat([a, a.new_ones(len(a), 1)], 1)
        parts.append(Factors(name, a, b))
    if rest:
        one = lambda state, x, y: output(functional_call(model, state, (x[None],)), y[None])[0]  # noqa: E731
        rows = vmap(grad(one), in_dims=(None, 0, 0))(rest, x, y)
        parts.append(Rows("rest", torch.cat([row.flatten(1) for row in rows.values()], 1), tuple(rest)))
    return parts


def _join(pieces: list[list[Factors | Rows]], place: int) -> Factors | Rows:
    every = [piece[place] for piece in pieces]
    if isinstance(every[0], Factors):
        return Factors(every[0].name, torch.cat([each.a for each in every]), torch.cat([each.b for each in every]))
    needed = sum(each.values.numel() for each in every) * 8
    if needed > _MOST_BYTES:
        raise MemoryError(f"materialised gradients would take {needed / 2**30:.1f} GiB; use fewer parameters")
    return Rows(every[0].name, torch.cat([each.values for each in every]), every[0].names)


def _slices(n: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, n, size)]
