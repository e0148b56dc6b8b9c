"""The general path: gradients that no layer's rule gives, a row of numbers for every example.

`torch.func.vmap` goes over all examples at once. Where it cannot go (control flow or masks that look into the data,
`.item()`, recurrent layers), the model as it is takes one backward pass per example.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from attriflow.models import slots

Output = Callable[[Tensor, Tensor], Tensor]


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that require gradients; one that has several names is there once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def called(model: nn.Module, state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Outputs of a model with other values for the parameters that are named as `named_parameters` names them.

    Every place that a parameter stands at gets the value. What the model changes in place is a copy of x.
    """
    held = {place: state[name] for place, name in slots(model).items() if name in state}
    return functional_call(model, held, (x.clone(),), tie_weights=False)


def by_vmap(model: nn.Module, names: Iterable[str], x: Tensor, y: Tensor, output: Output) -> Tensor:
    """Gradients (n, p) with respect to the named parameters, in that order."""
    state = {name: model.get_parameter(name).detach() for name in names}

    def one(state: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return output(called(model, state, x[None]), y[None])[0]

    with torch.no_grad():  # other parameters require gradients: nobody asks for these here
        rows = vmap(grad(one), in_dims=(None, 0, 0))(state, x, y)
    return torch.cat([row.reshape(len(x), -1) for row in rows.values()], 1)


def one_by_one(model: nn.Module, names: Iterable[str], x: Tensor, y: Tensor, output: Output) -> Tensor:
    """The same, by one backward pass per example."""
    names = tuple(names)
    rows = []
    for start in range(len(x)):
        _, found = plain(model, x[start : start + 1], y[start : start + 1], output)
        rows.append(torch.cat([found[name].flatten() for name in names]))
    return torch.stack(rows)


def plain(model: nn.Module, x: Tensor, y: Tensor, output: Output) -> tuple[Tensor, dict[str, Tensor]]:
    """The outputs of a model, and the gradients of a sum over them by a backward pass of the model as it is.

    Zeros for a parameter that no output depends on. What the model changes in place is a copy of x; gradients that
    parameters had before stay as they were.
    """
    parameters = trainable(model)
    before = {name: parameter.grad for name, parameter in parameters.items()}
    for parameter in parameters.values():
        parameter.grad = None
    try:
        outputs = model(x.clone())
        value = output(outputs, y).sum()
        if value.requires_grad:
            value.backward()  # not `autograd.grad`, which reentrant checkpoints refuse
        return outputs.detach(), {name: _dense(parameter) for name, parameter in parameters.items()}
    finally:
        for name, parameter in parameters.items():
            parameter.grad = before[name]


def _dense(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        return torch.zeros_like(parameter)
    return parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad.detach()
