"""Which path trains a module: the fastest that is seen to train what the module is, and no other.

Before a training each path is compared, on a few examples of its data, with one plain backward pass of the module;
after it the saved weights are compared, in a module that is built anew, with what the engine trained. A module that no
path represents is refused.
"""

import itertools
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from attriflow.engine import functional, layers
from attriflow.engine.dropout import Site
from attriflow.models import built, default_generator, differences
from attriflow.outputs import loss

log = logging.getLogger(__name__)

Path = Callable[[list[nn.Module], Tensor], "layers.Stack | functional.Stack"]

_EXAMPLES = 4  # of the data, on which paths and outcomes are compared
# Of the largest gradient of a parameter, and of the module. Fixed on the modules of tests/test_paths.py: right paths
# are within 2e-6 of each other in float32, and wrong ones beyond 1e-2.
_TOLERANCE = 1e-3
_OVERALL = 1e-5
# Of the largest number among the outputs: losses are differences of these. On an accelerator convolutions round their
# inputs to 10 bits, as plain ones do, but not in the same order.
_OUTCOME = {"cpu": 1e-4}
_OUTCOME_ELSEWHERE = 1e-2
_MOVED = 0.1  # weights are moved by so much of themselves: a layer that begins at 0 would hide what lies before it


def choose(fresh: Callable[[], nn.Module], x: Tensor, y: Tensor) -> Path:
    """The path that trains a module on x (n, ...) and y (n, ...): a function of modules and x that makes their stack.

    fresh: the module before its training, the same at every call. Says in the log what a general path is taken for.
    Raises ValueError for a module that no run could reproduce alone, for one that has nothing to train, and where no
    path trains what the module is.
    """
    rows, one_label = _rows(x, y), y.ndim == 1 and (y.is_floating_point() or bool((y >= 0).all()))
    x, y = x[rows].cpu(), y[rows].cpu()
    start = partial(_moved, fresh, _MOVED)
    module = start()
    functional.refuse_batch_normalisation(module)
    _refuse_overlaps(module)
    perceptron = one_label and layers.supports(module)
    x = x.to(next(module.parameters()).dtype) if x.is_floating_point() else x
    _refuse_what_no_run_reproduces(module, x)
    plain = _plain(start(), x, y)
    if not plain.loss.isfinite():
        start, plain = fresh, _plain(fresh(), x, y)
    idle = frozenset(name for name, gradient in plain.gradients.items() if gradient is None)
    if len(idle) == len(plain.gradients):
        raise ValueError("no output of the model uses a parameter that requires gradients: there is nothing to train")
    if idle:
        log.warning("no output uses the parameters %s: they stay as they are, weight decay included", sorted(idle))
    for name, path in _paths(perceptron, idle):
        if (different := _difference(path, start(), plain, x, y)) is None:
            return path
        log.warning("%s does not train this model (%s); a slower one is tried", name, different)
    raise ValueError(
        f"the engine does not train what this model is: {different}; its outputs and gradients must come from its "
        f"parameters and buffers alone: no hooks on gradients, no weights outside of the module, no buffers that a "
        f"forward pass replaces"
    )


def _paths(perceptron: bool, idle: frozenset[str]) -> Iterator[tuple[str, Path]]:
    """Every path that may train a module, by name, the fastest first."""
    if perceptron:
        yield "the fast path of perceptrons", layers.Stack
    yield "the general path, all runs at once,", partial(functional.Stack, idle=idle)
    yield "the general path, one run after the other,", partial(functional.Stack, idle=idle, together=False)


def _rows(x: Tensor, y: Tensor) -> Tensor:
    """A few examples with finite numbers, spread over all."""
    rows = torch.linspace(0, len(x) - 1, min(3 * _EXAMPLES, len(x)), device=x.device).long()
    finite = torch.stack([each[rows].flatten(1).isfinite().all(1) for each in (x, y.reshape(len(y), -1))]).all(0)
    kept = rows[finite] if finite.any() else rows
    return kept[torch.linspace(0, len(kept) - 1, min(_EXAMPLES, len(kept)), device=x.device).long()].unique()


# --- before a training ---------------------------------------------------------------------------------------


def _moved(fresh: Callable[[], nn.Module], by: float) -> nn.Module:
    """The module with every trained number moved by a share of itself, and what is 0 by a share of 1."""
    module, random = fresh(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                drawn = torch.randn(parameter.shape, generator=random).to(parameter)
                parameter.add_(by * drawn * torch.where(parameter == 0, 1, parameter))
    return module


def _refuse_overlaps(module: nn.Module):
    """Raise ValueError naming two weights that share memory without being one parameter.

    Plain training moves both with each; stacked, they would part.
    """
    held = [*module.named_parameters(), *module.named_buffers()]
    spans = sorted(
        (each.data_ptr(), each.data_ptr() + each.numel() * each.element_size(), name)
        for name, each in held
        if each.numel() and each.is_contiguous()
    )
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    for (_, end, first), (start, _, second) in itertools.pairwise(spans):
        if start < end and {first, second} & trained:
            raise ValueError(
                f"the weights '{first}' and '{second}' share memory but are not one parameter; tie them by giving both "
                f"places the same nn.Parameter (module.b.weight = module.a.weight)"
            )


def _refuse_what_no_run_reproduces(module: nn.Module, x: Tensor):
    """Raise ValueError for outputs that depend on random numbers, without dropout, or on the batch they are in."""
    _without_dropout(module)
    before = torch.get_rng_state()
    first, again = _outputs(module, x), _outputs(module, x)
    if not torch.equal(torch.get_rng_state(), before):
        raise ValueError(functional.RANDOM)
    if not torch.allclose(first, again, equal_nan=True):
        raise ValueError(
            "the model gives the same examples other outputs when it is called again, without dropout: it counts its "
            "calls, or draws random numbers; the engine can give only nn.Dropout a stream of its own"
        )
    try:
        alone = torch.cat([_outputs(module, each[None]) for each in x])
        same = alone.shape == first.shape and _close(alone, first)
        reason = "outputs of an example alone are not those that it has in a batch"
    except (RuntimeError, IndexError, ValueError) as error:
        same, reason = False, f"an example alone does not pass through the model ({_line(error)})"
    if not same:
        raise ValueError(
            f"the model mixes the examples of a batch: {reason}, so no example has a loss of its own; let every "
            f"operation act on each example alone (layer or group normalisation instead of means over the batch, "
            f"squeeze(-1) instead of squeeze())"
        )


def _without_dropout(module: nn.Module):
    for layer in module.modules():
        if type(layer) is nn.Dropout:
            layer.p = 0.0


def _outputs(module: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad(), functional.kept_buffers(module):
        return module(x)


def _close(first: Tensor, second: Tensor) -> bool:
    """Up to rounding of outputs (n, ...), which may lie far from 0 and close together."""
    spread, largest = (second - second.mean(0)).abs().max(), second.abs().max()
    return bool((first - second).abs().max() <= 1e-3 * spread + 1e-5 * largest) or not second.isfinite().all()


@dataclass(frozen=True)
class _Passed:
    """What one plain backward pass of a module gives, on which masks: None for parameters without a gradient."""

    loss: Tensor
    gradients: dict[str, Tensor | None]
    buffers: dict[str, Tensor]
    masks: list[Tensor]


def _plain(module: nn.Module, x: Tensor, y: Tensor) -> _Passed:
    found, names = functional.sites(module, x)
    masks = [_mask(site, len(x)) for site in found]
    for name, mask in zip(names, masks, strict=True):
        _put(module.get_submodule(name), mask)
    with default_generator():
        mean = loss(module(x), y).mean()
        if mean.requires_grad:
            mean.backward()
    gradients = {name: each.grad for name, each in module.named_parameters() if each.requires_grad}
    return _Passed(mean.detach(), gradients, dict(module.named_buffers()), masks)


def _mask(site: Site, count: int) -> Tensor:
    drawn = torch.rand(count, *site.shape, generator=torch.Generator().manual_seed(0))
    return (drawn >= site.rate) / (1 - site.rate)


def _put(layer: nn.Dropout, mask: Tensor):
    """Let a dropout layer pass its input times a mask on."""
    layer.p = 0.0
    times = Tensor.mul_ if layer.inplace else Tensor.mul
    layer.register_forward_hook(lambda _layer, _given, output: times(output, mask), prepend=True)


def _difference(path: Path, module: nn.Module, plain: _Passed, x: Tensor, y: Tensor) -> str | None:
    """What of a path differs from a plain pass of the module, in words, or why it cannot; None where nothing does."""
    try:
        stack = path([module], x)
        given = (y, torch.arange(len(x))[None], None, [mask[None] for mask in plain.masks], 0.0)
        value, state = stack.backward(*given)[0], stack.state()
        again = stack.backward(*given)[0] if not plain.buffers else value  # a pass may leave something behind
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        return _line(error)
    if not plain.loss.isfinite():
        return None  # the first step of the training will say so
    for each in (value, again):
        if not (each - plain.loss).abs() <= _TOLERANCE * (1 + plain.loss.abs()):
            return f"its loss is {each:.6g}, in a plain pass {plain.loss:.6g}"
    trained = {name: each for name, each in plain.gradients.items() if each is not None}
    least = _OVERALL * max(each.abs().max() for each in trained.values())
    for name, gradient in trained.items():
        error = (stack.flat.gradients[name][0] - gradient).abs().max()
        if not error <= _TOLERANCE * gradient.abs().max() + least:
            return f"the gradient of '{name}' is {error:.3g} from that of a plain pass"
    for name in state.keys() & plain.buffers.keys():
        if not torch.allclose(state[name][0].double(), plain.buffers[name].double(), _TOLERANCE, equal_nan=True):
            return f"the buffer '{name}' is another after a pass"
    return None


def _line(error: Exception) -> str:
    """The first line of a message."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"


# --- after a training ----------------------------------------------------------------------------------------


def refuse_other_outcome(
    build: Callable[[], nn.Module],
    stack: "layers.Stack | functional.Stack",
    runs: list[str],
    x: Tensor,
    y: Tensor,
    state: dict[str, Tensor],
):
    """Raise ValueError naming a run whose saved weights, in a module built anew, are not what the stack has trained.

    state: name -> (runs, ...). Compared are losses of a few examples without dropout; of the first run, each alone in
    the module and together in the stack. Gradients in the stack's buffers are lost. A run whose loss is no number is
    passed over.
    """
    rows = _rows(x, y)
    noise = [x.new_ones((len(runs), len(rows), *site.shape), dtype=torch.float32) for site in stack.dropouts]
    trained = stack.backward(y, rows.expand(len(runs), -1), None, noise, 0.0)
    module = built(build).to(x.device, stack.flat.values.dtype)
    _without_dropout(module)
    if wrong := differences(module, {name: values[0] for name, values in state.items()}):
        raise ValueError(f"training {runs[0]}: its weights do not fit the model again: {'; '.join(wrong)}")
    x, y = x[rows].to(stack.flat.values.dtype) if x.is_floating_point() else x[rows], y[rows]
    tolerance = _OUTCOME.get(x.device.type, _OUTCOME_ELSEWHERE)
    with default_generator():
        for place, (run, ours) in enumerate(zip(runs, trained.tolist(), strict=True)):
            module.load_state_dict({name: values[place].to(x.device) for name, values in state.items()})
            outputs = _outputs(module, x) if place else torch.cat([_outputs(module, each[None]) for each in x])
            saved, largest = float(loss(outputs, y).mean()), float(outputs.abs().max())
            different = not abs(saved - ours) <= tolerance * (1 + largest + abs(ours))
            if math.isfinite(ours) and different:
                raise ValueError(
                    f"training {run}: the saved model has a loss of {saved:.6g} on {len(x)} examples, where the engine "
                    f"has {ours:.6g}: what was trained is not what its weights say; make all that outputs depend "
                    f"on a parameter or a buffer of the module, and let no output depend on other examples"
                )
