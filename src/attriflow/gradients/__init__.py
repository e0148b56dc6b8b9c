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
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from attriflow.data import Split
from attriflow.device import inputs, labels
from attriflow.gradients.capture import capturing, reads, reason
from attriflow.gradients.capture import gradients as gradients_at
from attriflow.gradients.general import by_vmap, one_by_one
from attriflow.gradients.layers import rule
from attriflow.gradients.parts import MOST_BYTES, Factors, Lookups, Part, Rows, Sequences
from attriflow.gradients.paths import (
    FAILURES,
    LayersLeft,
    Paths,
    Uneven,
    first_line,
    mixed,
    paths_of,
    refuse_mixing,
    sums,
)
from attriflow.outputs import OUTPUTS, WrongLabel

__all__ = [
    "REST",
    "Factors",
    "Gradients",
    "LayersLeft",
    "Lookups",
    "Part",
    "Rows",
    "Sequences",
    "factored_layers",
    "of_several",
    "of_split",
    "of_tests",
    "per_example",
]

log = logging.getLogger(__name__)

# the part of all parameters that take the general path; no layer can have a name that begins with a dot
REST = ".rest"
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
    memory. A few examples are compared with plain backward passes first (`paths.py`). Raises ValueError with the
    indices of examples whose gradients are not finite, and as `Paths.check` does; LayersLeft where a layer that was
    factored before cannot be at these data.
    """
    output = OUTPUTS[output] if isinstance(output, str) else output
    x, y = inputs(model, x), labels(model, y)
    paths = paths_of(model)
    with torch.enable_grad():
        alone = paths.check(model, x)
        parts = _parts(model, x, y, output, paths, alone, batch)
    paths.accept(x)
    gradients = Gradients(parts)
    bad = torch.nonzero(~torch.isfinite(gradients.squared_norms())).flatten().tolist()
    if bad:
        raise ValueError(f"gradients are not finite at examples {bad[:10]}{' ...' if len(bad) > 10 else ''}")
    return gradients


def of_several(model: nn.Module, *data: tuple[np.ndarray, np.ndarray, str | Callable]) -> list[Gradients]:
    """`per_example` of several data (x, y, output), whose parts fit each other.

    A layer that one of them allows no rule for takes the general path in all.
    """
    try:
        return [per_example(model, *each) for each in data]
    except LayersLeft:
        return of_several(model, *data)


def of_split(model: nn.Module, split: Split, target: str = "loss") -> tuple[Gradients, Gradients]:
    """Gradients of the loss at every training example, and `of_tests`."""
    train, test = of_several(
        model,
        (split.train_x, split.train_y, "loss"),
        (split.test_x, split.test_y, _explained(target)),
    )
    return train, test


def of_tests(model: nn.Module, split: Split, target: str = "loss") -> Gradients:
    """Gradients at every test example of the target that scores explain.

    target: 'loss', 'last_token_loss' of sequences, or 'margin', of which the negative is taken: training on a helpful
    example lowers losses and raises margins.
    """
    return per_example(model, split.test_x, split.test_y, _explained(target))


def _explained(target: str) -> str | Callable[[Tensor, Tensor], Tensor]:
    return (lambda logits, labels: -OUTPUTS["margin"](logits, labels)) if target == "margin" else target


def factored_layers(model: nn.Module, x: Tensor) -> dict[str, nn.Module]:
    """The layers whose gradients at these data are taken by their rule, after the checks of `paths.py`."""
    paths = paths_of(model)
    with torch.enable_grad():
        paths.check(model, x)
    return {name: model.get_submodule(name) for name in paths.layers}


def _parts(model, x, y, output, paths: Paths, alone: dict[int, Tensor], batch: int) -> list[Part]:
    try:
        pieces = [
            _batch(model, x, y, output, paths, alone, slice(start, start + batch)) for start in range(0, len(x), batch)
        ]
    except Uneven as found:
        paths.leave(found.layers)
        return _parts(model, x, y, output, paths, alone, batch)
    return [type(same[0]).join(list(same)) for same in zip(*pieces, strict=True)]


def _batch(model, x, y, output, paths: Paths, alone: dict[int, Tensor], rows: slice) -> list[Part]:
    layers, rest = {name: model.get_submodule(name) for name in paths.layers}, paths.rest(model)
    there = {row - rows.start: outputs for row, outputs in alone.items() if rows.start <= row < rows.stop}
    x, y = x[rows], y[rows]
    with capturing(layers) as uses, torch.set_grad_enabled(bool(layers)):
        outputs = model(x.clone())
        for row, expected in there.items():
            if (size := mixed(expected, outputs[row].detach())) is not None:
                refuse_mixing(rows.start + row, size)
        values = _values(output, outputs, y, rows.start)
    parts = _factored(layers, uses, values, len(x), check=bool(alone) and rows.start == 0)
    if rest:
        if not paths.one_by_one:
            _say_once(rest)
        parts.append(Rows(REST, rest, _general(model, x, y, output, paths, rest)))
    return parts


def _values(output, outputs: Tensor, y: Tensor, start: int) -> Tensor:
    try:
        return output(outputs, y)
    except WrongLabel as error:
        raise WrongLabel(start + error.example, error.reason) from None


def _factored(layers: dict[str, nn.Module], uses, values: Tensor, count: int, check: bool) -> list[Part]:
    """The parts of the factored layers. check: compare their sums with those of the same backward pass.

    Raises Uneven naming layers that are not used once, whose parameters something else reads, or whose sum is another.
    """
    uneven = {name: why for name in layers if (why := reason(uses[name], count))}
    read = reads(values)
    elsewhere = {name for name, layer in layers.items() if any(read[id(each)] > 1 for each in layer.parameters())}
    uneven |= dict.fromkeys(elsewhere - uneven.keys(), "its parameters are used outside of its own call")
    if uneven:
        raise Uneven(uneven)
    wanted = [uses[name][0].zeros for name in layers]
    own = [list(layer.parameters()) for layer in layers.values()] if check else []
    found = gradients_at(values.sum(), [*wanted, *chain(*own)])
    parts = [
        rule(layer)(layer, name, uses[name][0].given, b)
        for (name, layer), b in zip(layers.items(), found[: len(wanted)], strict=True)
    ]
    whole = iter(found[len(wanted) :])
    for part, parameters in zip(parts, own, strict=False):
        if (size := sums(part, [next(whole) for _ in parameters])) is not None:
            why = f"the sum of its gradients differs by {size:.1g} of their length from one backward pass"
            raise Uneven({part.name: why})
    return parts


def _general(model, x: Tensor, y: Tensor, output, paths: Paths, names: tuple[str, ...]) -> Tensor:
    if not paths.one_by_one:
        try:
            return by_vmap(model, names, x, y, output)
        except FAILURES as error:
            paths.take_one_by_one(model, first_line(error), len(x))
    return one_by_one(model, names, x, y, output)


@functools.cache
def _say_once(names: tuple[str, ...]):
    log.warning("per-example gradients of %s take the general path: a row of gradients an example", ", ".join(names))
