"""The general path: any module, gradients by automatic differentiation.

The runs of a stack go through the module at once, stacked under torch.func.vmap, or one after the other where vmap
cannot go (`together`).
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from attriflow.engine.dropout import Site
from attriflow.engine.stacking import Flat
from attriflow.models import aliases, default_generator, slots
from attriflow.outputs import loss


class Stack:
    """Runs of one module: parameters, gradient buffers (`flat`), and one step's forward and backward pass.

    idle: names of parameters that no output uses; they stay as they are, as those do that require no gradient.
    together: whether all runs go through the module at once. The first module is taken for the forward passes.
    Raises ValueError for a module whose training mode mixes examples (batch normalisation), and for a dropout layer
    that is used twice: no run could then be reproduced alone.
    """

    def __init__(
        self, modules: list[nn.Module], x: Tensor, *, idle: frozenset[str] = frozenset(), together: bool = True
    ):
        self._module = modules[0]
        refuse_batch_normalisation(self._module)
        self.flat = Flat(modules, x.device, idle)
        self._x = x.to(self.flat.values.dtype) if x.is_floating_point() else x
        self.dropouts, self._masks = sites(self._module, self._x[:2].cpu())
        self._stacked, self._shared = _frozen(modules, x.device, idle)
        self._idle = sorted(idle)
        self._kept = self._module.state_dict().keys()  # a module may make other buffers anew
        self._first = aliases(self._module)
        for name in self._masks:
            _mask_from_outside(self._module.get_submodule(name))
        self._slots = slots(self._module)
        self._together = together
        self._losses = vmap(self._loss, in_dims=(0, 0, None, 0, 0, 0), randomness="error") if together else self._loss

    def _loss(self, free, stacked, shared, x: Tensor, y: Tensor, shares: Tensor) -> Tensor:
        """The weighted loss of one run."""
        held = free | stacked | shared
        state = {slot: held[name] for slot, name in self._slots.items()}
        return (loss(functional_call(self._module, state, (x,), tie_weights=False), y) * shares).sum()

    def state(self) -> dict[str, Tensor]:
        """A copy of the weights, name -> (runs, ...), as the module's state dict names them; what is shared, a view.

        Tied weights stand under each of their names.
        """
        runs = len(self.flat.values)
        shared = {name: values.expand(runs, *values.shape) for name, values in self._shared.items()}
        stacked = {name: values.clone() for name, values in self._stacked.items()}
        held = self.flat.state() | stacked | shared
        first = {name: self._first.get(name, name) for name in self._kept}
        return {name: held[first[name]] for name in self._kept if first[name] in held}

    def backward(self, y: Tensor, places: Tensor, shares: Tensor | None, noise: list[Tensor], decay: float) -> Tensor:
        """gradients <- decay * gradients + the gradient of each run's weighted loss; returns these losses (runs,).

        places: rows of the examples, (runs, batch). shares: what the loss of each counts, or None for 1 / batch. noise:
        a mask per dropout. Raises ValueError where a step uses other parameters than the first did.
        """
        shares = self.flat.values.new_full(places.shape, 1 / places.shape[1]) if shares is None else shares
        stacked = self._stacked | {f"{name}.mask": mask for name, mask in zip(self._masks, noise, strict=True)}
        given = (self.flat.parameters, stacked, self._x[places], y[places], shares)
        if self._together:
            losses, found = self._gradients(*given)
        else:
            passed = [self._gradients(*(_row(each, run) for each in given)) for run in range(len(places))]
            losses = torch.stack([own for own, _ in passed])
            found = [torch.stack(each) for each in zip(*(each for _, each in passed), strict=True)]
        for gradient, new in zip(self.flat.gradients.values(), found, strict=True):
            gradient.mul_(decay).add_(new)
        return losses

    def _gradients(self, free, stacked, x: Tensor, y: Tensor, shares: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Losses, of all runs or of one, and the gradients of the parameters."""
        free = {name: values.detach().requires_grad_() for name, values in free.items()}
        idle = {name: (stacked | self._shared)[name].detach().requires_grad_() for name in self._idle}
        shared = {name: idle.get(name, values) for name, values in self._shared.items()}
        stacked = {name: idle.get(name, values) for name, values in stacked.items()}
        try:
            losses = self._losses(free, stacked, shared, x, y, shares)
        except RuntimeError as error:
            if "random" not in str(error):
                raise
            raise ValueError(RANDOM) from error
        found = torch.autograd.grad(losses.sum(), [*free.values(), *idle.values()], allow_unused=True)
        _expect_used(dict(zip(free, found, strict=False)), dict(zip(idle, found[len(free) :], strict=True)))
        return losses.detach(), found[: len(free)]


RANDOM = (
    "the model draws random numbers other than by nn.Dropout; the engine can give only nn.Dropout a stream of its own: "
    "use nn.Dropout, or switch the other randomness off"
)


def refuse_batch_normalisation(module: nn.Module):
    """Raise ValueError naming a layer that mixes the examples of a batch in training mode."""
    for name, layer in module.named_modules():
        if isinstance(layer, _BatchNorm) and layer.training:
            raise ValueError(
                f"layer '{name}' is batch normalisation in training mode, which mixes the examples of a batch; "
                f"use group or layer normalisation"
            )


def _expect_used(free: dict[str, Tensor | None], idle: dict[str, Tensor | None]):
    """Raise ValueError naming a parameter that some steps use and others do not.

    torch.optim leaves it out of the latter, momentum and weight decay included.
    """
    changed = [name for name, gradient in free.items() if gradient is None]
    changed += [name for name, gradient in idle.items() if gradient is not None]
    if changed:
        raise ValueError(
            f"some steps use the parameter '{changed[0]}' as an attribute of its module and others do not, so they "
            f"cannot be stacked; let every forward pass use all parameters (0 * parameter.sum() in the output will do)"
        )


def _row(values, run: int):
    """What one run has of tensors (runs, ...), by name or alone."""
    return {name: each[run] for name, each in values.items()} if isinstance(values, dict) else values[run]


def _mask_from_outside(layer: nn.Dropout):
    """Let a dropout layer multiply by a mask that comes from outside, as a buffer; its hooks stay."""
    layer.register_buffer("mask", torch.ones(()), persistent=False)
    layer.forward = lambda x: x.mul_(layer.mask) if layer.inplace else x * layer.mask


def _frozen(
    modules: list[nn.Module], device: torch.device, idle: frozenset[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What does not train: of each run, (runs, ...), with buffers, which a module may change; and what all share."""
    every = [dict(module.named_parameters()) for module in modules]
    names = [name for name, parameter in every[0].items() if name in idle or not parameter.requires_grad]
    shared = {name for name in names if all(torch.equal(every[0][name], each[name]) for each in every)}
    own = {name: [each[name].detach() for each in every] for name in names if name not in shared}
    own |= {name: [module.get_buffer(name) for module in modules] for name, _ in modules[0].named_buffers()}
    stacked = {name: torch.stack(values).to(device) for name, values in own.items()}
    return stacked, {name: every[0][name].detach().to(device) for name in names if name in shared}


def sites(module: nn.Module, x: Tensor) -> tuple[list[Site], list[str]]:
    """The dropout layers of a module in the order in which a forward pass reaches them, and their names."""
    found: list[Site] = []
    names: list[str] = []

    def note(name: str, layer: nn.Dropout):
        def hook(_module, inputs):
            if name in names:
                raise ValueError(f"dropout layer '{name}' is used twice in a forward pass; give each use its own")
            found.append(Site(layer.p, tuple(inputs[0].shape[1:])))
            names.append(name)

        return hook

    handles = [
        layer.register_forward_pre_hook(note(name, layer))
        for name, layer in module.named_modules()
        if type(layer) is nn.Dropout and layer.p and layer.training
    ]
    with default_generator(), torch.no_grad(), kept_buffers(module):
        module(x)
    for handle in handles:
        handle.remove()
    return found, names


@contextlib.contextmanager
def kept_buffers(module: nn.Module) -> Iterator[None]:
    """Forward passes that leave buffers, such as running means, as they were."""
    before = {name: (buffer, buffer.clone()) for name, buffer in module.named_buffers()}
    try:
        yield
    finally:
        for name, (buffer, values) in before.items():
            owner, _, last = name.rpartition(".")
            module.get_submodule(owner)._buffers[last] = buffer.copy_(values)
