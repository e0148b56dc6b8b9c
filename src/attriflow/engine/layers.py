"""The fast path: perceptrons as batched matrix products with a backward pass written out.

Every layer works on stacked runs. Activations and gradients live in buffers that are made once; a gradient is added
to its momentum by the product that computes it. Half the time of the same steps under automatic differentiation
(benchmarks/retraining.py).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attriflow.engine.dropout import Site
from attriflow.engine.stacking import Flat, aligned
from attriflow.outputs import only

NARROW = 16  # inputs of a layer, of tabular data mostly


def supports(module: nn.Module) -> bool:
    """Whether the module is a perceptron: Flatten first, then Linear, ReLU and Dropout, a Linear last."""
    if type(module) is not nn.Sequential or len(module) < 2:
        return False
    first, *rest = module
    return (
        type(first) is nn.Flatten
        and all(type(layer) in (nn.Linear, nn.ReLU, nn.Dropout) for layer in rest)
        and type(rest[0]) is nn.Linear
        and type(rest[-1]) is nn.Linear
        and all(parameter.requires_grad for parameter in module.parameters())
        and not module._forward_hooks
    )


@dataclass
class _Linear:
    """Weights (runs, out, in), biases (runs, 1, out) or None, and the buffers of their gradients."""

    weight: Tensor
    bias: Tensor | None
    weight_gradient: Tensor
    bias_gradient: Tensor | None

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        if self.bias is None:
            return torch.bmm(x, self.weight.mT, out=out)
        return torch.baddbmm(self.bias, x, self.weight.mT, out=out)

    def backward(self, x: Tensor, gradient: Tensor, decay: float):
        if x.shape[2] <= NARROW:
            # a product with so few columns takes four times as long as with so few rows; `aligned`, or bits would
            # depend on the stack
            product = aligned(len(x), x.shape[2], gradient.shape[2], like=x)
            torch.bmm(x.mT, gradient, out=product)
            self.weight_gradient.mul_(decay).add_(product.mT)
        else:
            self.weight_gradient.baddbmm_(gradient.mT, x, beta=decay)
        if self.bias is not None:
            self.bias_gradient.mul_(decay).add_(gradient.sum(1, keepdim=True))


class Stack:
    """Runs of one perceptron: parameters, gradient buffers (`flat`), and one step's forward and backward pass."""

    def __init__(self, modules: list[nn.Module], x: Tensor):
        self.flat = Flat(modules, x.device)
        self._x = x.flatten(1).to(self.flat.values.dtype)
        self._layers: list[_Linear | str] = []
        self.dropouts: list[Site] = []
        for name, layer in modules[0].named_children():
            if type(layer) is nn.Linear:
                self._layers.append(self._linear(name, layer))
            elif type(layer) is nn.ReLU:
                self._layers.append("relu")
            elif type(layer) is nn.Dropout and layer.p:
                self._layers.append("dropout")
                self.dropouts.append(Site(layer.p, (self._linears[-1].weight.shape[1],)))
        self._buffers: dict[int, tuple[list[Tensor], list[Tensor]]] = {}

    def _linear(self, name: str, layer: nn.Linear) -> _Linear:
        values, gradients = self.flat.parameters, self.flat.gradients
        weight, bias = f"{name}.weight", f"{name}.bias"
        if layer.bias is None:
            return _Linear(values[weight], None, gradients[weight], None)
        return _Linear(values[weight], values[bias][:, None], gradients[weight], gradients[bias][:, None])

    @property
    def _linears(self) -> list[_Linear]:
        return [layer for layer in self._layers if isinstance(layer, _Linear)]

    def state(self) -> dict[str, Tensor]:
        """A copy of the weights, name -> (runs, ...), as the module's state dict names them."""
        return self.flat.state()

    def backward(self, y: Tensor, places: Tensor, shares: Tensor | None, noise: list[Tensor], decay: float) -> Tensor:
        """gradients <- decay * gradients + the gradient of each run's weighted loss; returns these losses (runs,).

        places: rows of the examples, (runs, batch). shares: what the loss of each counts, or None for 1 / batch. noise:
        a mask per dropout.
        """
        runs, batch = places.shape
        values, gradients = self._buffers_for(runs, batch)
        if values[0].is_contiguous():
            torch.index_select(self._x, 0, places.flatten(), out=values[0].view(-1, self._x.shape[1]))
        else:
            for out, rows in zip(values[0], places, strict=True):
                torch.index_select(self._x, 0, rows, out=out)
        depth, masks = 0, iter(noise)
        for layer in self._layers:
            if layer == "relu":
                values[depth].relu_()
            elif layer == "dropout":
                values[depth].mul_(next(masks))
            else:
                layer.forward(values[depth], values[depth + 1])
                depth += 1
        mean_loss = _squared_error if y.is_floating_point() else _cross_entropy
        losses = mean_loss(values[-1], y[places][..., None], _weights(values[-1], shares), gradients[-1])
        masks = reversed(noise)
        for layer in reversed(self._layers):
            if layer == "relu":
                # positive after ReLU, and after any dropout that follows it, whose gradient is 0 where it dropped
                torch.ops.aten.threshold_backward(gradients[depth], values[depth], 0, grad_input=gradients[depth])
            elif layer == "dropout":
                gradients[depth].mul_(next(masks))
            else:
                layer.backward(values[depth - 1], gradients[depth], decay)
                depth -= 1
                if depth:
                    torch.bmm(gradients[depth + 1], layer.weight, out=gradients[depth])
        return losses

    def _buffers_for(self, runs: int, batch: int) -> tuple[list[Tensor], list[Tensor]]:
        """Values and their gradients at the input and behind every linear layer; the input needs no gradient."""
        if batch not in self._buffers:
            widths = [self._x.shape[1], *(layer.weight.shape[1] for layer in self._linears)]
            values = [aligned(runs, batch, width, like=self.flat.values) for width in widths]
            gradients = [aligned(runs, batch, width, like=self.flat.values) for width in widths[1:]]
            self._buffers[batch] = values, [values[0], *gradients]
        return self._buffers[batch]


def _weights(outputs: Tensor, shares: Tensor | None) -> Tensor:
    """What every example of a batch, with outputs (runs, batch, c), counts in its run's loss, (runs, batch, 1)."""
    if shares is None:
        return outputs.new_full((*outputs.shape[:2], 1), 1 / outputs.shape[1])
    return shares[..., None]


def _cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, gradient: Tensor) -> Tensor:
    """Weighted losses (runs,) of logits (runs, batch, c) and labels (runs, batch, 1), their gradient to `gradient`."""
    torch.log_softmax(logits, -1, out=gradient)
    losses = -(gradient.gather(-1, labels) * weights).sum((1, 2))
    gradient.exp_().mul_(weights).scatter_add_(-1, labels, -weights)
    return losses


def _squared_error(outputs: Tensor, labels: Tensor, weights: Tensor, gradient: Tensor) -> Tensor:
    """Weighted losses (runs,) of outputs and labels (runs, batch, 1); their gradient goes to `gradient`."""
    torch.sub(only(outputs), labels.squeeze(-1), out=gradient.squeeze(-1))
    losses = (gradient.square() * weights).sum((1, 2))
    gradient.mul_(weights).mul_(2)
    return losses
