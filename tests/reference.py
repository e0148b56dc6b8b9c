"""The slow, obvious way: loops over examples, explicit matrices, one model at a time."""

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from attriflow.engine import initial_weights, order
from attriflow.engine.optimisers import learning_rate
from attriflow.outputs import OUTPUTS, loss
from attriflow.runs import Run
from attriflow.streams import stream

TORCH_OPTIMISERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class Masked(nn.Module):
    """A dropout layer whose mask is set from outside."""

    mask = None

    def forward(self, x):
        return x * self.mask


def train_one(build, x, y, run: Run, recipe: dict, seed: int) -> dict[str, torch.Tensor]:
    """One model, one batch after the other, with torch.optim and the run's streams; its state dict."""
    model = initial_weights(build, seed, run)
    sites = dropout_sites(model, x)
    for name in sites:
        model.set_submodule(name, Masked())
    options = {"lr": recipe["learning_rate"], "weight_decay": recipe["weight_decay"]}
    if recipe["optimiser"] == "sgd":
        options["momentum"] = recipe["momentum"]
    optimiser = TORCH_OPTIMISERS[recipe["optimiser"]](model.parameters(), **options)
    examples = run.examples(len(x), seed)
    starts = range(0, len(examples), recipe["batch_size"])
    for epoch in range(1, recipe["epochs"] + 1):
        visited = order(seed, run, examples, epoch)
        masks = {
            name: dropout_mask(seed, run, epoch, place, rate, (len(examples), *shape))
            for place, (name, (rate, shape)) in enumerate(sites.items())
        }
        for step, start in enumerate(starts):
            rows = visited[start : start + recipe["batch_size"]]
            for name, factors in masks.items():
                model.get_submodule(name).mask = factors[start : start + recipe["batch_size"]]
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(recipe, (epoch - 1) * len(starts) + step, recipe["epochs"] * len(starts))
            optimiser.zero_grad()
            losses = loss(model(torch.from_numpy(x[rows])), torch.from_numpy(y[rows]))
            kept = torch.tensor([row not in run.left_out for row in rows.tolist()])
            (losses * kept).sum().div(max(int(kept.sum()), 1)).backward()
            optimiser.step()
    return {name: value.detach() for name, value in model.state_dict().items()}


def dropout_sites(model: nn.Module, x: np.ndarray) -> dict[str, tuple[float, tuple[int, ...]]]:
    """name -> rate and shape of what each dropout layer masks, in the order of a forward pass."""
    found = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Dropout):
            layer.register_forward_pre_hook(
                lambda layer, inputs, name=name: found.update({name: (layer.p, tuple(inputs[0].shape[1:]))})
            )
    model(torch.from_numpy(x[:1]))
    return found


def dropout_mask(seed: int, run: Run, epoch: int, place: int, rate: float, shape: tuple[int, ...]) -> torch.Tensor:
    """A dropout layer's factors for the ordered examples of an epoch: 16-bit numbers below the rate drop."""
    drawn = stream(seed, run.stream, "dropout", epoch, place).integers(0, 2**16, size=shape, dtype=np.uint16)
    return torch.from_numpy((drawn >= round(rate * 2**16)) * np.float32(1 / (1 - rate)))


def gradients(model, x, y, output: str) -> torch.Tensor:
    """Per-example gradients (n, p) in the order of the parameters, one backward pass an example."""
    rows = []
    for one, label in zip(torch.from_numpy(x).double(), torch.from_numpy(y), strict=True):
        model.zero_grad()
        OUTPUTS[output](model(one[None]), label[None]).sum().backward()
        rows.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]).clone())
    return torch.stack(rows)


def hessian(model, x, y) -> torch.Tensor:
    """Hessian (p, p) of the mean loss by double differentiation of the flattened parameters."""
    names, shapes = zip(*[(name, p.shape) for name, p in model.named_parameters()], strict=True)
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])

    def mean_loss(vector):
        pieces = vector.split([shape.numel() for shape in shapes])
        state = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
        return loss(functional_call(model, state, (torch.from_numpy(x).double(),)), torch.from_numpy(y)).mean()

    return torch.autograd.functional.hessian(mean_loss, flat)


def gauss_newton(model, x, y) -> torch.Tensor:
    """(1/n) sum of JᵀSJ, an explicit Jacobian an example."""
    total = 0
    for one in torch.from_numpy(x).double():
        model.zero_grad()
        logits = model(one[None])[0]
        rows = [torch.autograd.grad(each, list(model.parameters()), retain_graph=True) for each in logits]
        jacobian = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
        p = torch.softmax(logits, -1).detach()
        total = total + jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian
    return total / len(x)


def influence(curvature: torch.Tensor, train: torch.Tensor, test: torch.Tensor, damping: float) -> torch.Tensor:
    """(n, m), an explicit inverse; an indefinite curvature by the absolute values of its eigenvalues."""
    values, vectors = torch.linalg.eigh(curvature)
    inverse = vectors @ torch.diag(1 / (values.abs() + damping)) @ vectors.T
    return train @ inverse @ test.T


def trak(members: list[dict], damping: float) -> torch.Tensor:
    """(n, m) from explicitly projected gradients: members hold train (n, k), test (m, k), probabilities (n,)."""
    kernels, residuals = [], []
    for member in members:
        n, k = member["train"].shape
        matrix = member["train"].T @ member["train"] / n + damping * torch.eye(k, dtype=torch.float64)
        kernels.append(member["train"] @ torch.linalg.inv(matrix) @ member["test"].T)
        residuals.append(1 - member["probabilities"])
    return torch.stack(kernels).mean(0) * torch.stack(residuals).mean(0)[:, None]


def projection(gradients, random, dimension: int) -> torch.Tensor:
    """The whole Gaussian projection (p, dimension) in the order of the gradients' coordinates."""
    rows = []
    for part in gradients.parts:
        for unit in range(-(-part.size // part.grain)):
            columns = [
                random("projection", part.name, unit, block).standard_normal((part.grain, 256), np.float32)
                for block in range(-(-dimension // 256))
            ]
            rows.append(np.concatenate(columns, 1)[: part.size - unit * part.grain, :dimension])
    return torch.from_numpy(np.concatenate(rows)).double()
