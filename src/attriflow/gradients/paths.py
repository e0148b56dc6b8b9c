"""Which way the gradients of each parameter are taken, and the checks that this way is right.

A layer with a rule (`layers.py`) is factored; all others take the general path (`general.py`). No rule is trusted for
what a layer is: before the first gradients of a model at some data are handed out, a few of their examples take one
plain backward pass each, and every way is compared with these. What differs is taken another way, and the log says so;
a model whose outputs for an example depend on the other examples has no gradients of single examples, and is refused.
"""

import contextlib
import functools
import logging
import time
import weakref
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from attriflow.gradients import capture, general
from attriflow.gradients.layers import names_of, rule
from attriflow.gradients.parts import Part
from attriflow.streams import stream

log = logging.getLogger(__name__)

# Relative to the length of a layer's gradient. Rounding in batches of another size is some 1e-15 of it in float64 and
# 1e-6 in float32; models that compute a part in float32 whatever they are given (some normalisations) differ by 1e-7.
# Wrong ways differ by .01 to 1, as a rule. What is found in float32 is looked at again in float64.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}
_ROUGH = 5e-3  # of what a model returns in half precision
_OUTPUTS = 10  # times the tolerance, of outputs: a layer that differs takes another way, a model is refused
_FLOOR = 1e-3  # of the tolerance, of the length of the whole gradient: gradients that are zero but for rounding
_ALWAYS = 8  # data that are looked at in any case; then every time that the number of them has doubled
_DRAWN = 1  # examples besides the first and the last

# what a module may raise that cannot go through vmap, or that takes no batch of one example
FAILURES = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError)


class LayersLeft(ValueError):
    """A layer whose gradients were handed out in factors turns out to have no rule."""


class Uneven(Exception):
    """Layers that cannot be factored at these data, name -> why."""

    def __init__(self, layers: dict[str, str]):
        super().__init__(layers)
        self.layers = layers


@dataclass
class Paths:
    """layers: the names of those that are factored. one_by_one: the others take a backward pass for every example.

    handed_out: gradients were made so, and others must fit them. known: data that were looked at.
    """

    signature: tuple
    layers: list[str]
    one_by_one: bool = False
    handed_out: bool = False
    known: set[tuple] = field(default_factory=set)

    def rest(self, model: nn.Module) -> tuple[str, ...]:
        """The trainable parameters that no factored layer holds."""
        held = {id(p) for name in self.layers for p in model.get_submodule(name).parameters()}
        return tuple(name for name, p in general.trainable(model).items() if id(p) not in held)

    def leave(self, layers: dict[str, str]):
        """Take the general path for some layers from now on. Raises LayersLeft where others would not fit any more."""
        if not layers:
            return
        self.layers = [name for name in self.layers if name not in layers]
        for name, why in layers.items():
            log.warning("layer '%s' takes the general path: %s", name, why)
        if self.handed_out:
            self.handed_out, name = False, next(iter(layers))
            raise LayersLeft(
                f"layer '{name}': {layers[name]}, unlike in the data before, whose gradients are in factors; set its "
                f"attribute `factored` to False in the model's `build`, so that it takes the general path in all"
            )

    def check(self, model: nn.Module, x: Tensor) -> dict[int, Tensor]:
        """Look at a few examples of data that are new; their outputs alone, by place.

        Data count as known once their gradients were handed out (`accept`): what was refused is refused again. Raises
        ValueError for outputs that depend on other examples, on chance, or on no parameter, and for a model that cannot
        take one example alone.
        """
        if not self._due(x):
            return {}
        rows = list(chosen(len(x)))
        together = rows * 2 if len(rows) == 1 else rows  # a batch of one would be the same as the example alone
        some = torch.cat([x[row : row + 1] for row in together])
        found = _looked(model, some, self)
        self.leave(found.layers)
        if found.loop and not self.one_by_one:
            self.take_one_by_one(model, found.loop, len(x), found.seconds)
        return dict(zip(rows, found.alone, strict=False))

    def accept(self, x: Tensor):
        """Gradients at these data were right, and are handed out."""
        self.known.add(_fingerprint(x))
        self.handed_out = True

    def take_one_by_one(self, model: nn.Module, why: str, count: int, seconds: float | None = None):
        """From now on, one backward pass per example. seconds: that one of them takes, where it is known."""
        self.one_by_one, names = True, self.rest(model)
        log.warning(
            "per-example gradients of %s take one backward pass per example, since torch.func.vmap cannot go through "
            "the model (%s)%s",
            ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else ""),
            why,
            f": about {seconds * count:.2g} s for {count} examples" if seconds else "",
        )

    def _due(self, x: Tensor) -> bool:
        count = len(self.known) + 1
        often = count <= _ALWAYS or count & (count - 1) == 0
        return len(x) > 0 and _fingerprint(x) not in self.known and often


_PATHS: weakref.WeakKeyDictionary[nn.Module, Paths] = weakref.WeakKeyDictionary()


def paths_of(model: nn.Module) -> Paths:
    """What is known of a model, anew where it was changed in what it is made of or what it trains."""
    now = _signature(model)
    if model not in _PATHS or _PATHS[model].signature != now:
        _PATHS[model] = Paths(now, list(candidates(model)))
    return _PATHS[model]


def candidates(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that have a rule, with parameters of their own that are neither shared, replaced nor frozen."""
    owners: dict[int, int] = {}
    for _, module in model.named_modules(remove_duplicate=False):
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    return {
        name: layer
        for name, layer in model.named_modules()
        if rule(layer)
        and getattr(layer, "factored", True)
        and tuple(own for own, _ in layer.named_parameters()) == names_of(layer)
        and all(parameter.requires_grad and owners[id(parameter)] == 1 for parameter in layer.parameters())
    }


@functools.cache
def chosen(count: int) -> tuple[int, ...]:
    """Places of the examples that are looked at: the first, the last, and one in between that is drawn."""
    between = stream(0, "gradients", "check", count).permutation(np.arange(1, count - 1))[:_DRAWN]
    return tuple(sorted({0, count - 1, *between.tolist()}))


def mixed(alone: Tensor, together: Tensor) -> float | None:
    """How far the outputs of one example are from those in a batch, if further than rounding explains."""
    return _difference(together, alone, alone.norm(), _OUTPUTS)


def refuse_mixing(row: int, size: float):
    """Raise the ValueError of a model whose outputs for an example depend on the other examples."""
    raise ValueError(
        f"the outputs of the model for example {row} alone differ from those in a batch by {size:.1g} of their size: "
        f"it mixes examples (a mean or softmax over the batch, batch normalisation without running statistics or in "
        f"training mode), so an example has no gradient of its own; let every output depend on its own example alone"
    )


def sums(part: Part, expected: list[Tensor]) -> float | None:
    """How far the sum of an array of gradients is from that of one backward pass, if too far.

    expected: of every parameter of the part. In units of the root of the summed squared lengths.
    """
    total = part.combine(torch.ones(len(part), 1, dtype=part.dtype, device=part.device))[0]
    length = part.squared_norms().sum().sqrt()
    (whole,) = _in_order_of(part, [dict(zip(part.names, expected, strict=True))])
    difference = (total - whole).norm()
    return float(difference / length) if difference > _TOLERANCE[part.dtype] * length else None


@dataclass(frozen=True)
class _Looked:
    """What a few examples showed: their outputs alone; layers without a rule, and why; why vmap cannot go, if so."""

    alone: list[Tensor]
    layers: dict[str, str]
    loop: str | None
    seconds: float


def _looked(model: nn.Module, x: Tensor, paths: Paths) -> _Looked:
    """Look in the model's precision, and where that finds something, in float64: rounding is then no reason."""
    try:
        found = _look(model, x, paths)
        if not found.layers and (not found.loop or paths.one_by_one):
            return found
    except ValueError:
        if not _single(model):
            raise
    if not _single(model):
        return found
    with _doubled(model):
        again = _look(model, x.double() if x.is_floating_point() else x, paths)
    dtype = next(model.parameters()).dtype
    return _Looked([each.to(dtype) for each in again.alone], again.layers, again.loop, again.seconds)


def _look(model: nn.Module, x: Tensor, paths: Paths) -> _Looked:
    layers = {name: model.get_submodule(name) for name in paths.layers}
    with capture.capturing(layers) as uses:
        together = model(x.clone())
    _refuse_shape(together, len(x))
    weights = _weights(together)
    wrong = {name: why for name in layers if (why := capture.reason(uses[name], len(x)))}
    parts = _parts(layers, uses, wrong, (together * weights).sum())
    started, alone, expected = time.monotonic(), [], []
    for row in range(len(x)):
        outputs, gradients = _alone(model, x[row : row + 1], weights[row : row + 1])
        alone.append(outputs[0])
        expected.append(gradients)
        _refuse_outputs(model, x, row, outputs[0], together[row].detach())
    seconds = (time.monotonic() - started) / len(x)
    totals = torch.stack([_length(each.values()) for each in expected])
    for name, part in parts.items():
        if (size := _differences(part.dense(), _in_order_of(part, expected), totals)) is not None:
            wrong[name] = f"its gradient differs by {size:.1g} of its length from that of a plain backward pass"
    kept = Paths((), [name for name in layers if name not in wrong])
    return _Looked(alone, wrong, _why_one_by_one(model, kept.rest(model), x, weights), seconds)


def _parts(layers: dict[str, nn.Module], uses: dict, wrong: dict[str, str], value: Tensor) -> dict[str, Part]:
    """What the rules make of the layers that have been right so far; one that cannot be made is wrong."""
    right = [name for name in layers if name not in wrong]
    try:
        found = capture.gradients(value, [uses[name][0].zeros for name in right])
    except FAILURES as error:
        wrong |= {name: f"no derivative at its output ({first_line(error)})" for name in right}
        return {}
    parts = {}
    for name, b in zip(right, found, strict=True):
        try:
            parts[name] = rule(layers[name])(layers[name], name, uses[name][0].given, b)
        except FAILURES as error:
            wrong[name] = f"its inputs do not fit its rule ({first_line(error)})"
    return parts


def _why_one_by_one(model: nn.Module, names: tuple[str, ...], x: Tensor, weights: Tensor) -> str | None:
    """Why vmap cannot take the gradients of some parameters, None where it can, and where there are none."""
    if not names:
        return None
    try:
        rows = general.by_vmap(model, names, x, weights, _weighted)
    except FAILURES as error:
        return first_line(error)
    for row, found in enumerate(rows):
        _, expected = general.plain(model, x[row : row + 1], weights[row : row + 1], _weighted)
        own = torch.cat([expected[name].flatten() for name in names])
        if (size := _difference(found, own, _length(expected.values()))) is not None:
            return f"its gradients differ by {size:.1g} of their length from those of a plain backward pass"
    return None


def _weighted(outputs: Tensor, weights: Tensor) -> Tensor:
    return (outputs * weights).flatten(1).sum(1)


def _weights(outputs: Tensor) -> Tensor:
    """Weights of all outputs, Gaussian: their weighted sum has a gradient even where that of a loss has vanished."""
    return torch.from_numpy(_drawn(outputs.shape)).to(outputs)


@functools.lru_cache(8)
def _drawn(shape: torch.Size) -> np.ndarray:
    return stream(0, "gradients", "weights").standard_normal(shape)


def _alone(model: nn.Module, x: Tensor, weights: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    try:
        outputs, gradients = general.plain(model, x, weights, lambda z, r: _weighted(z, r) if z.shape == r.shape else z)
    except FAILURES as error:
        raise ValueError(
            f"the model fails for one example alone, though not for several ({first_line(error)}): gradients of single "
            f"examples need a forward and a backward pass of one"
        ) from error
    if outputs.shape != weights.shape:
        raise ValueError(
            f"the outputs of the model for one example are of shape {tuple(outputs.shape)}, expected "
            f"{tuple(weights.shape)}; if it squeezes them, let it name the dimension"
        )
    return outputs, gradients


def _refuse_shape(outputs: Tensor, count: int):
    if outputs.shape[:1] != (count,) or outputs.ndim < 2:
        raise ValueError(
            f"the outputs of the model for {count} examples are of shape {tuple(outputs.shape)}, expected "
            f"({count}, ..., outputs)"
        )
    if not outputs.requires_grad:
        raise ValueError(
            "the outputs of the model depend on none of the parameters that are attributed: they are frozen, unused, "
            "or the forward pass is under torch.no_grad()"
        )


def _refuse_outputs(model: nn.Module, x: Tensor, row: int, alone: Tensor, together: Tensor):
    if (size := mixed(alone, together)) is None:
        return
    with torch.no_grad():
        again = model(x.clone())
        if mixed(together, again[row]) is not None:
            raise ValueError(
                f"the outputs of the model for example {row} differ from call to call: it draws random numbers or "
                f"changes its own state in evaluation mode, so gradients are of another model each time"
            )
    refuse_mixing(row, size)


def _difference(found: Tensor, expected: Tensor, total: Tensor, times: int = 1) -> float | None:
    """`_differences` of one row."""
    return _differences(found[None], expected[None], total, times)


def _differences(found: Tensor, expected: Tensor, totals: Tensor, times: int = 1) -> float | None:
    """The largest length of a difference of rows (k, ...) in units of the longer one's, if further than rounding.

    totals: lengths (k,) of the whole gradients. Rows that are not finite are left to those who look at all examples.
    """
    found, expected = found.flatten(1), expected.flatten(1)
    apart, lengths = (found - expected).norm(dim=1), expected.norm(dim=1)
    tolerance = times * _TOLERANCE.get(expected.dtype, _ROUGH)
    wrong = ~(apart <= tolerance * torch.maximum(lengths, _FLOOR * totals)) & expected.isfinite().all(1)
    if not bool(wrong.any()):
        return None
    return float((apart / torch.maximum(lengths, found.norm(dim=1)))[wrong].max())


def _in_order_of(part: Part, gradients: list[dict[str, Tensor]]) -> Tensor:
    """Gradients of parameters, by name, as rows (k, size) of a part."""
    places, end = {}, 0
    for name in part.names:
        shape = gradients[0][name].shape
        places[name] = torch.arange(end, end + shape.numel(), device=part.device).view(shape)
        end += shape.numel()
    rows = torch.stack([torch.cat([each[name].flatten() for name in part.names]) for each in gradients])
    return rows[:, part.order(places)]


def _length(gradients) -> Tensor:
    return torch.stack(torch._foreach_norm(list(gradients))).norm()


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _fingerprint(x: Tensor) -> tuple:
    return tuple(x.shape), str(x.dtype), zlib.crc32(x.contiguous().cpu().numpy())


def _signature(model: nn.Module) -> tuple:
    modules = [
        (id(module), module.training, len(module._forward_hooks), len(module._forward_pre_hooks))
        for module in model.modules()
    ]
    named = model.named_parameters(remove_duplicate=False)
    return tuple(modules), tuple((name, id(p), p.requires_grad) for name, p in named)


def _single(model: nn.Module) -> bool:
    """Whether all numbers of a model are in float32, so that nothing is lost by a visit to float64."""
    numbers = [each.dtype for each in (*model.parameters(), *model.buffers()) if each.is_floating_point()]
    return set(numbers) == {torch.float32}


@contextlib.contextmanager
def _doubled(model: nn.Module) -> Iterator[None]:
    model.double()
    try:
        yield
    finally:
        model.float()
