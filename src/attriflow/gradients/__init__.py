"""Per-example gradients of a measured output, factored where a layer allows it.

The gradient of a linear layer with input a and output gradient b is b aᵀ, for each example. Inner products of such
gradients are products of two small ones, (a · a')(b · b'), so nothing of size n × p is ever made for them; layers that
are used at many positions (convolutions, sequences) sum over pairs of positions, or hold their gradients, whichever is
smaller (`parts.py`, `layers.py`). Every other parameter takes the general path, torch.func.vmap(grad), with a row of
gradients an example.
"""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from attriflow.data import Split
from attriflow.device import inputs, labels
from attriflow.gradients.layers import rule
from attriflow.gradients.parts import MOST_BYTES, Factors, Lookups, Part, Rows, Sequences
from attriflow.outputs import OUTPUTS

__all__ = [
    "Factors",
    "Gradients",
    "Lookups",
    "Part",
    "Rows",
    "Sequences",
    "factored_layers",
    "of_split",
    "of_tests",
    "per_example",
]

log = logging.getLogger(__name__)

_ROWS = 1024  # examples whose inner products with all others are held at once


@dataclass(frozen=True)
class Gradients:
    """Per-example gradients (n, p) in parts. The order of the p coordinates is that of the parts, unit by unit."""

    parts: list[Part]

    def __len__(self) -> int:
        return len(self.parts[0])

    @property
    def size(self) -> int:
        """Parameters, p."""
        return sum(part.size for part in self.parts)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.parts[0].device

    def to(self, dtype: torch.dtype) -> "Gradients":
        """The same gradients in another precision."""
        return Gradients([part.to(dtype) for part in self.parts])

    def gram(self, other: "Gradients") -> Tensor:
        """Inner products (n, n') of every gradient here with every one of another."""
        found = torch.empty(len(self), len(other), dtype=self.parts[0].dtype, device=self.device)
        for start in range(0, len(self), _ROWS):
            rows = slice(start, start + _ROWS)
            found[rows] = sum(mine.gram(theirs, rows) for mine, theirs in zip(self.parts, other.parts, strict=True))
        return found

    def cosines(self, other: "Gradients") -> Tensor:
        """Cosines (n, n') float32 of every gradient here with every one of another; 0 where one is exactly zero.

        Gradients are brought to length 1 first: products in float32 are then as good for tiny ones.
        """
        mine, theirs = (each.scaled(each.lengths().reciprocal()).to(torch.float32) for each in (self, other))
        return mine.gram(theirs)

    def scaled(self, weights: Tensor) -> "Gradients":
        """The same gradients, each times its weight (n,); those of an infinite one become 0."""
        finite = torch.where(torch.isfinite(weights), weights, 0)
        return Gradients([part.scaled(finite) for part in self.parts])

    def lengths(self) -> Tensor:
        """(n,)"""
        return self.squared_norms().sqrt()

    def times(self, v: Tensor) -> Tensor:
        """G v: inner products (n, k) with vectors v (k, p)."""
        pieces = v.split([part.size for part in self.parts], 1)
        return sum(part.times(piece) for part, piece in zip(self.parts, pieces, strict=True))

    def combine(self, weights: Tensor) -> Tensor:
        """Sums (k, p) of the gradients, weighted by (n, k)."""
        return torch.cat([part.combine(weights) for part in self.parts], 1)

    def take(self, rows: slice | Tensor) -> "Gradients":
        """The gradients of some of the examples."""
        return Gradients([part.take(rows) for part in self.parts])

    def squared_norms(self) -> Tensor:
        """(n,)"""
        return sum(part.squared_norms() for part in self.parts)

    def mean_square(self) -> Tensor:
        """The mean squared entry of all gradients, a number: the unit of a relative damping."""
        return self.squared_norms().mean() / self.size

    def dense(self) -> Tensor:
        """All gradients, (n, p). Raises MemoryError where they are too large to hold."""
        needed = len(self) * self.size * 8
        if needed > MOST_BYTES:
            raise MemoryError(
                f"{len(self)} gradients of {self.size} parameters take {needed / 2**30:.1f} GiB, more than "
                f"{MOST_BYTES / 2**30:.0f}; use a method that projects them (trak) or fewer parameters"
            )
        return torch.cat([part.dense() for part in self.parts], 1)

    def order(self, state: dict[str, Tensor]) -> Tensor:
        """Where each coordinate lies among the flattened parameters of a state dict, (p,)."""
        places, end = {}, 0
        for name, value in state.items():
            places[name] = torch.arange(end, end + value.numel(), device=value.device).reshape(value.shape)
            end += value.numel()
        return torch.cat([part.order(places) for part in self.parts])


def per_example(
    model: nn.Module,
    x: np.ndarray,
    y: np.ndarray,
    output: str | Callable[[Tensor, Tensor], Tensor],
    *,
    batch: int = 500,
) -> Gradients:
    """Gradients of a measured output ('loss', 'margin' or a function of logits and labels) at every example.

    model: in evaluation mode; its dtype is that of the gradients. x (n, ...), y (n, ...). batch changes only the
    memory. Raises ValueError with the indices of examples whose gradients are not finite.
    """
    output = OUTPUTS[output] if isinstance(output, str) else output
    x, y = inputs(model, x), labels(model, y)
    factored = factored_layers(model, x)
    rest = _rest(model, factored)
    pieces = [
        _batch(model, x[start : start + batch], y[start : start + batch], output, factored, rest)
        for start in range(0, len(x), batch)
    ]
    parts = [type(same[0]).join(list(same)) for same in zip(*pieces, strict=True)]
    gradients = Gradients(parts)
    bad = torch.nonzero(~torch.isfinite(gradients.squared_norms())).flatten().tolist()
    if bad:
        raise ValueError(f"gradients are not finite at examples {bad[:10]}{' ...' if len(bad) > 10 else ''}")
    return gradients


def of_split(model: nn.Module, split: Split, target: str = "loss") -> tuple[Gradients, Gradients]:
    """Gradients of the loss at every training example, and `of_tests`."""
    return per_example(model, split.train_x, split.train_y, "loss"), of_tests(model, split, target)


def of_tests(model: nn.Module, split: Split, target: str = "loss") -> Gradients:
    """Gradients at every test example of the target that scores explain.

    target: 'loss', 'last_token_loss' of sequences, or 'margin', of which the negative is taken: training on a helpful
    example lowers losses and raises margins.
    """
    explained = (lambda logits, labels: -OUTPUTS["margin"](logits, labels)) if target == "margin" else target
    return per_example(model, split.test_x, split.test_y, explained)


def factored_layers(model: nn.Module, x: Tensor) -> dict[str, nn.Module]:
    """The layers with a rule that a forward pass uses once, on its examples first, with nothing shared or frozen."""
    owners: dict[int, int] = {}
    for _, module in model.named_modules(remove_duplicate=False):
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    candidates = {
        name: layer
        for name, layer in model.named_modules()
        if rule(layer)
        and all(parameter.requires_grad and owners[id(parameter)] == 1 for parameter in layer.parameters())
    }
    # two batch sizes: a layer that is fed positions instead of examples has one first dimension for both
    sizes = (1, 2)
    uses = [_first_dimensions(model, candidates, torch.cat([x[:1]] * size)) for size in sizes]
    return {
        name: layer
        for name, layer in candidates.items()
        if all(each.get(name) == [size] for each, size in zip(uses, sizes, strict=True))
    }


def _first_dimensions(model: nn.Module, layers: dict[str, nn.Module], x: Tensor) -> dict[str, list[int]]:
    """The first dimension of what each layer is given, every time that a forward pass uses it."""
    uses: dict[str, list[int]] = {}

    def note(name):
        return lambda _layer, given: uses.setdefault(name, []).append(given[0].shape[0] if given[0].ndim > 1 else -1)

    handles = [layer.register_forward_pre_hook(note(name)) for name, layer in layers.items()]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return uses


def _rest(model: nn.Module, factored: dict[str, nn.Module]) -> dict[str, Tensor]:
    """The trainable parameters that no factored layer holds."""
    held = {id(parameter) for layer in factored.values() for parameter in layer.parameters()}
    rest = {
        name: parameter.detach()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and id(parameter) not in held
    }
    if rest:
        _say_once(tuple(rest))
    return rest


@functools.cache
def _say_once(names: tuple[str, ...]):
    log.warning("per-example gradients of %s take the general path: a row of gradients an example", ", ".join(names))


def _batch(model, x, y, output, factored, rest) -> list[Part]:
    given, results = {}, {}

    def keep(name):
        def hook(_layer, inputs, result):
            given[name], results[name] = inputs[0].detach(), result

        return hook

    handles = [layer.register_forward_hook(keep(name)) for name, layer in factored.items()]
    try:
        values = output(model(x), y)
    finally:
        for handle in handles:
            handle.remove()
    wanted = [results[name] for name in factored]
    found = torch.autograd.grad(values.sum(), wanted, materialize_grads=True, allow_unused=True) if wanted else []
    parts = [rule(layer)(layer, name, given[name], b) for (name, layer), b in zip(factored.items(), found, strict=True)]
    if rest:
        one = lambda state, x, y: output(functional_call(model, state, (x[None],)), y[None])[0]  # noqa: E731
        with torch.no_grad():  # the factored layers' own weights require gradients: nobody asks for these here
            rows = vmap(grad(one), in_dims=(None, 0, 0))(rest, x, y)
        parts.append(Rows("rest", tuple(rest), torch.cat([row.flatten(1) for row in rows.values()], 1)))
    return parts
