"""The general path: any module, its runs stacked under torch.func.vmap, gradients by automatic differentiation."""

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from attriflow.engine.dropout import Site
from attriflow.engine.stacking import Flat
from attriflow.models import default_generator
from attriflow.outputs import loss


class _Masked(nn.Module):
    """Stands in for a dropout layer: multiplies by a mask that comes from outside, as a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask


class Stack:
    """Runs of one module: parameters, gradient buffers (`flat`), and one step's forward and backward pass.

    Raises ValueError for a module whose training mode mixes examples (batch normalisation) or draws random numbers
    other than by nn.Dropout: no run could then be reproduced alone.
    """

    def __init__(self, modules: list[nn.Module], x: Tensor):
        for name, module in modules[0].named_modules():
            if isinstance(module, _BatchNorm) and module.training:
                raise ValueError(
                    f"layer '{name}' is batch normalisation in training mode, which mixes the examples of a batch; "
                    f"use group or layer normalisation"
                )
        self.flat = Flat(modules, x.device)
        self._x = x.to(self.flat.values.dtype) if x.is_floating_point() else x
        self.dropouts, self._masks = _sites(modules[0], self._x[:2].cpu())
        skeleton = copy.deepcopy(modules[0]).to("meta")
        for name in self._masks:
            skeleton.set_submodule(name, _Masked())
        self._stacked, self._shared = _frozen(modules, x.device)
        self._kept = modules[0].state_dict().keys()  # a module may make other buffers anew

        def weighted_loss(free, stacked, shared, x, y, shares):
            return (loss(functional_call(skeleton, free | stacked | shared, (x,)), y) * shares).sum()

        self._losses = vmap(weighted_loss, in_dims=(0, 0, None, 0, 0, 0), randomness="error")

    def state(self) -> dict[str, Tensor]:
        """A copy of the weights, name -> (runs, ...), as the module's state dict names them; what is shared, a view."""
        runs = len(self.flat.values)
        shared = {name: values.expand(runs, *values.shape) for name, values in self._shared.items()}
        stacked = {name: values.clone() for name, values in self._stacked.items()}
        held = self.flat.state() | stacked | shared
        return {name: held[name] for name in self._kept if name in held}

    def backward(self, y: Tensor, places: Tensor, shares: Tensor | None, noise: list[Tensor], decay: float) -> Tensor:
        """gradients <- decay * gradients + the gradient of each run's weighted loss; returns these losses (runs,).

        places: rows of the examples, (runs, batch). shares: what the loss of each counts, or None for 1 / batch. noise:
        a mask per dropout.
        """
        shares = self.flat.values.new_full(places.shape, 1 / places.shape[1]) if shares is None else shares
        free = {name: values.detach().requires_grad_() for name, values in self.flat.parameters.items()}
        stacked = self._stacked | {f"{name}.mask": mask for name, mask in zip(self._masks, noise, strict=True)}
        try:
            losses = self._losses(free, stacked, self._shared, self._x[places], y[places], shares)
        except RuntimeError as error:
            if "random" not in str(error):
                raise
            raise ValueError(
                "the model draws random numbers other than by nn.Dropout; "
                "the engine can give only nn.Dropout a stream of its own"
            ) from error
        found = torch.autograd.grad(losses.sum(), list(free.values()))
        for gradient, new in zip(self.flat.gradients.values(), found, strict=True):
            gradient.mul_(decay).add_(new)
        return losses.detach()


def _frozen(modules: list[nn.Module], device: torch.device) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What does not train: of each run, (runs, ...), with buffers, which a module may change; and what all share."""
    every = [dict(module.named_parameters()) for module in modules]
    names = [name for name, parameter in every[0].items() if not parameter.requires_grad]
    shared = {name for name in names if all(torch.equal(every[0][name], each[name]) for each in every)}
    own = {name: [each[name].detach() for each in every] for name in names if name not in shared}
    own |= {name: [module.get_buffer(name) for module in modules] for name, _ in modules[0].named_buffers()}
    stacked = {name: torch.stack(values).to(device) for name, values in own.items()}
    return stacked, {name: every[0][name].detach().to(device) for name in names if name in shared}


def _sites(module: nn.Module, x: Tensor) -> tuple[list[Site], list[str]]:
    """The dropout layers of a module in the order in which a forward pass reaches them, and their names."""
    sites: list[Site] = []
    names: list[str] = []

    def note(name: str, layer: nn.Dropout):
        def hook(_module, inputs):
            if name in names:
                raise ValueError(f"dropout layer '{name}' is used twice in a forward pass; give each use its own")
            sites.append(Site(layer.p, tuple(inputs[0].shape[1:])))
            names.append(name)

        return hook

    handles = [
        layer.register_forward_pre_hook(note(name, layer))
        for name, layer in module.named_modules()
        if type(layer) is nn.Dropout and layer.p
    ]
    with default_generator(), torch.no_grad():
        module(x)
    for handle in handles:
        handle.remove()
    return sites, names
