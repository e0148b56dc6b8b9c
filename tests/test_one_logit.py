"""A model of one logit is a classifier of two classes: binary cross-entropy, everywhere that a model is built."""

import numpy as np
import pytest
import torch
from conftest import itself, toy_split
from torch import nn

from attriflow import engine, outputs
from attriflow.engine import layers
from attriflow.models import Trained, builder, built
from attriflow.models._outputs import probabilities, two_logits
from attriflow.registry import Registry
from attriflow.runs import Run

HEAD = "from torch import nn\nimport torch\n"
MODELS = {
    "a column": (
        "def build(shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Tanh(), nn.Linear(4, 1))\n"
    ),
    "a linear layer": "def build(shape, classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(16, 1))\n",
    "squeezed": (
        "class One(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.inner = nn.Linear(16, 1)\n"
        "    def forward(self, x):\n        return self.inner(x.flatten(1)).squeeze()\n\n\n"
        "def build(shape, classes):\n    return One()\n"
    ),
}
RECIPE = {
    "optimiser": "sgd", "learning_rate": 0.1, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant",
    "batch_size": 10, "epochs": 3,
}  # fmt: skip


@pytest.fixture(params=MODELS)
def build(request, tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/one.py").write_text(HEAD + MODELS[request.param])
    monkeypatch.delitem(__import__("sys").modules, "attriflow_plugins.models.one", raising=False)
    return builder(Registry(tmp_path), {"kind": "one"}, (1, 4, 4), 2)


@pytest.fixture
def split():
    return toy_split(classes=2)


def logit(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the module says before anything is made of it."""
    module._forward_hooks.clear()
    return module(x).reshape(-1).double()


def test_loss_margin_and_accuracy_are_those_of_one_logit(build, split):
    module, other = built(build).eval(), built(build).eval()
    other.load_state_dict(module.state_dict())
    x, y = torch.from_numpy(split.test_x), torch.from_numpy(split.test_y)
    found, z = module(x).double(), logit(other, x)
    torch.testing.assert_close(
        outputs.loss(found, y), nn.functional.binary_cross_entropy_with_logits(z, y.double(), reduction="none")
    )
    torch.testing.assert_close(outputs.margin(found, y), torch.where(y == 1, z, -z))
    assert outputs.quality(found, y)["accuracy"] == float(((z > 0).long() == y).double().mean())
    assert module(x[:1]).shape == (1, 2)


def test_the_engine_trains_binary_cross_entropy(build, split):
    run = Run("models/full-0")
    (stack,) = engine.train(build, split.train_x, split.train_y, [run], RECIPE, 0)
    module = engine.initial_weights(build, 0, run)
    assert not layers.supports(module)
    module._forward_hooks.clear()
    x, y = torch.from_numpy(split.train_x), torch.from_numpy(split.train_y).float()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    for epoch in range(1, 4):
        order = torch.from_numpy(engine.order(0, run, np.arange(len(x)), epoch))
        for rows in order.split(10):
            optimiser.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(module(x[rows]).reshape(-1), y[rows]).backward()
            optimiser.step()
    for name, value in stack.state(0, 3).items():
        torch.testing.assert_close(value, module.state_dict()[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("curvature", ["ggn", "hessian", "fisher"])
def test_influence_is_that_of_one_logit(build, split, curvature):
    state = {name: value.clone() for name, value in built(build).state_dict().items()}
    member = Trained("full-0", 0, build, {0: state}, {}, dtype=torch.float64)
    method = Registry().load("scores", "influence")
    prepared = method.prepare(member, split, curvature=curvature, epoch="last")
    (found,) = method.score(iter([prepared]), damping=0.1)
    module = built(build).double().eval()
    module.load_state_dict(state)
    train, test = (
        _gradients(module, torch.from_numpy(x).double(), torch.from_numpy(y).double())
        for x, y in ((split.train_x, split.train_y), (split.test_x, split.test_y))
    )
    matrix = _curvature(module, split, curvature, train[0])
    wanted = train[0] @ torch.linalg.solve(matrix + 0.1 * torch.eye(len(matrix), dtype=matrix.dtype), test[0].T)
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-6)


def _gradients(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the loss of every example, and of its logit, (n, p), by one backward pass each."""
    module._forward_hooks.clear()
    weights, losses, logits = list(module.parameters()), [], []
    for place in range(len(x)):
        z = module(x[place : place + 1]).reshape(-1)
        loss = nn.functional.binary_cross_entropy_with_logits(z, y[place : place + 1])
        for value, held in ((loss, losses), (z.sum(), logits)):
            found = torch.autograd.grad(value, weights, retain_graph=True)
            held.append(torch.cat([each.flatten() for each in found]))
    return torch.stack(losses), torch.stack(logits)


def _curvature(module: nn.Module, split, curvature: str, gradients: torch.Tensor) -> torch.Tensor:
    x, y = torch.from_numpy(split.train_x).double(), torch.from_numpy(split.train_y).double()
    if curvature == "fisher":
        return gradients.T @ gradients / len(gradients)
    names = [name for name, _ in module.named_parameters()]
    shapes = [each.shape for each in module.parameters()]
    flat = torch.cat([each.detach().flatten() for each in module.parameters()])

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts = flat.split([shape.numel() for shape in shapes])
        state = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        z = torch.func.functional_call(module, state, (x,)).reshape(-1)
        return nn.functional.binary_cross_entropy_with_logits(z, y)

    if curvature == "hessian":
        values, vectors = torch.linalg.eigh(torch.autograd.functional.hessian(loss, flat))
        return vectors @ torch.diag(values.abs()) @ vectors.T  # as the method takes an indefinite one
    _, slopes = _gradients(module, x, y)
    p = torch.sigmoid(module(x).reshape(-1)).detach()
    return (slopes * (p * (1 - p))[:, None]).T @ slopes / len(x)


def test_initial_weights_and_names_are_those_of_the_user(build, split):
    (stack,) = engine.train(build, split.train_x, split.train_y, [Run("models/full-0")], RECIPE, 0)
    assert stack.state(0, 3).keys() == built(build).state_dict().keys()
    assert not any("hook" in name for name in stack.state(0, 3))
    assert itself(split).classes == 2


def test_one_logit_at_every_position_becomes_two(tmp_path):
    (tmp_path / "models").mkdir()
    text = "def build(shape, classes):\n    return nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 1))\n"
    (tmp_path / "models/positions.py").write_text(HEAD + text)
    module = built(builder(Registry(tmp_path), {"kind": "positions"}, (4,), 2))
    found = module(torch.ones(3, 4, dtype=torch.int64))
    assert found.shape == (3, 4, 2)
    assert not found[..., 0].any()


def test_other_models_are_left_alone(tmp_path):
    registry = Registry()
    for classes in (1, 2, 3):
        module = built(builder(registry, {"kind": "logistic"}, (4,), classes))
        assert module(torch.ones(2, 4)).shape == (2, classes)
        assert two_logits not in module._forward_hooks.values()


OUTPUTS = {
    "softmax": (torch.softmax(torch.randn(9, 3, generator=torch.Generator().manual_seed(0)), -1), False, True),
    "a softmax of positions": (torch.full((2, 4, 5), 0.2), False, True),
    "logits": (torch.randn(9, 3, generator=torch.Generator().manual_seed(0)), False, False),
    "positive logits": (torch.rand(9, 3, generator=torch.Generator().manual_seed(0)), False, False),
    "log-softmax": (torch.log_softmax(torch.ones(9, 3), -1), False, False),
    "sigmoid": (torch.tensor([[0.0, 0.2], [0.0, 0.9]]), True, True),
    "one logit": (torch.tensor([[0.0, -0.2], [0.0, 3.0]]), True, False),
    "a regression": (torch.full((9, 1), 1.0), False, False),
}


@pytest.mark.parametrize(("values", "one", "alike"), OUTPUTS.values(), ids=OUTPUTS)
def test_probabilities_are_told_from_logits(values, one, alike):
    assert bool(probabilities(values, one=one)) == alike
