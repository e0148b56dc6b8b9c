"""Modules drawn at random: the gradients and scores of every method are those of plain backward passes."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_gradient_checks import dense, drawn_split, member, plain
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from attriflow.data import Split
from attriflow.models import Trained
from attriflow.registry import Registry
from attriflow.streams import stream

WIDTH, CHANNELS, SIDE, TOKENS, CLASSES = 4, 2, 3, 5, 3
INPUTS = ("vectors", "sequences", "images", "tokens")


class Step(nn.Module):
    """One layer, an activation, and how the layer is used, by the names that were drawn."""

    def __init__(self, kind: str, activation: str, use: str):
        super().__init__()
        self.layer, self.activation, self.use = LAYERS[kind](), activation, use
        if use == "frozen bias" and getattr(self.layer, "bias", None) is not None:
            self.layer.bias.requires_grad_(False)
        if use == "hook":
            self.layer.register_forward_hook(lambda _, given, output: output * 2 + given[0])
        if use == "pre-hook":
            self.layer.register_forward_pre_hook(lambda _, given: (given[0].tanh(),))
        if use == "weight_norm" and kind != "group norm":
            parametrizations.weight_norm(self.layer)

    def forward(self, x: Tensor) -> Tensor:
        by_name = self.use == "keyword" and not isinstance(self.layer, nn.RMSNorm)  # which calls it x
        h = self.layer(input=x) if by_name else self.layer(x)
        if self.use == "twice":
            h = self.layer(torch.tanh(h))
        if self.use == "weight again":
            h = h * self.layer.weight.square().mean()
        if self.use == "residual":
            h = h + x
        if self.use == "residual in place":
            h += x
        return ACTIVATIONS[self.activation](h)


LAYERS = {
    "linear": lambda: nn.Linear(WIDTH, WIDTH),
    "linear without bias": lambda: nn.Linear(WIDTH, WIDTH, bias=False),
    "layer norm": lambda: nn.LayerNorm(WIDTH),
    "rms norm": lambda: nn.RMSNorm(WIDTH),
    "convolution": lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
    "narrow convolution": lambda: nn.Conv2d(CHANNELS, CHANNELS, 1, groups=2),
    "batch norm": lambda: nn.BatchNorm2d(CHANNELS),
    "group norm": lambda: nn.GroupNorm(1, CHANNELS),
    "convolution 1d": lambda: nn.Conv1d(SIDE, SIDE, 3, padding=1),
    "batch norm 1d": lambda: nn.BatchNorm1d(SIDE),
}
OF_INPUTS = {
    "vectors": ("linear", "linear without bias", "layer norm", "rms norm"),
    "sequences": ("linear", "linear without bias", "layer norm", "convolution 1d", "batch norm 1d"),
    "images": ("convolution", "narrow convolution", "batch norm", "group norm"),
    "tokens": ("linear", "linear without bias", "layer norm"),
}
ACTIVATIONS = {
    "tanh": torch.tanh, "tanh in place": torch.tanh_, "relu in place": functional.relu_, "silu": functional.silu,
    "scale in place": lambda h: h.mul_(1.5).add_(0.1), "none": lambda h: h,
}  # fmt: skip
USES = (
    "once", "twice", "keyword", "weight again", "residual", "residual in place", "frozen bias", "hook", "pre-hook",
    "weight_norm",
)  # fmt: skip
HEADS = ("linear", "product", "tied", "two", "scaled", "tuple", "mapping")


class Drawn(nn.Module):
    """Steps one after the other, some of them the same module, and a head."""

    def __init__(self, inputs: str, steps: list[tuple[str, str, str]], repeat: bool, head: str, padding: int | None):
        super().__init__()
        if head == "two":
            self.other = nn.Linear(WIDTH, CLASSES)  # a head that is registered first, and used beside the last
        self.inputs, self.head_kind = inputs, head
        if inputs == "tokens":
            self.table = nn.Embedding(TOKENS, WIDTH, padding_idx=padding)
        made = [Step(*step) for step in steps]
        self.steps = nn.ModuleList([*made, made[0]] if repeat else made)
        width = CHANNELS if inputs == "images" else WIDTH
        self.head = nn.Parameter(torch.randn(CLASSES, width)) if head == "product" else nn.Linear(width, CLASSES)
        if head == "scaled":
            self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor):
        h = self.table(x) if self.inputs == "tokens" else x
        for step in self.steps:
            h = step(h)
        h = h.flatten(2).mean(2) if self.inputs == "images" else h.mean(1) if h.ndim > 2 else h
        return self._outputs(torch.tanh(h))

    def _outputs(self, h: Tensor):
        if self.head_kind == "product":
            return h @ self.head.T
        z = self.head(h)
        match self.head_kind:
            case "tied" if self.inputs == "tokens":
                return z + functional.linear(h, self.table.weight[:CLASSES])
            case "two" if self.inputs != "images":
                return z + self.other(h)
            case "scaled":
                return z * self.scale
            case "tuple":
                return z, h
            case "mapping":
                return {"hidden": h, "logits": z}
        return z


@st.composite
def modules(draw):
    """A function that builds a module, and the kind of its inputs."""
    inputs = draw(st.sampled_from(INPUTS))
    step = st.tuples(st.sampled_from(OF_INPUTS[inputs]), st.sampled_from(sorted(ACTIVATIONS)), st.sampled_from(USES))
    options = (draw(st.lists(step, min_size=1, max_size=3)), draw(st.booleans()), draw(st.sampled_from(HEADS)))
    padding = draw(st.sampled_from([None, 0, 2]))
    return lambda: Drawn(inputs, *options, padding), inputs


def data(inputs: str) -> Split:
    """Eight training and three test examples."""
    random, shape = np.random.default_rng(0), {"vectors": (WIDTH,), "sequences": (SIDE, WIDTH), "tokens": (3,)}
    if inputs == "tokens":
        x = random.integers(0, TOKENS, (11, 3))
    else:
        x = random.standard_normal((11, *shape.get(inputs, (CHANNELS, SIDE, SIDE)))).astype(np.float32)
    return drawn_split(x, random.integers(0, CLASSES, 11))


def scores(method: str, trained: Trained, split: Split, **chosen) -> np.ndarray:
    """What a method gives (n, m), by its two functions."""
    registry, module = Registry(), Registry().load("scores", method)
    options = [
        {name: chosen[name] for name in registry.hyperparameters("scores", method, each) if name in chosen}
        for each in ("prepare", "score")
    ]
    return np.asarray(list(module.score([module.prepare(trained, split, **options[0])], **options[1]))[-1])


def close(found: np.ndarray, expected: Tensor, tolerance: float = 1e-5):
    scale = expected.abs().max().clamp(min=1e-30)
    assert np.abs(found - expected.numpy()).max() <= tolerance * scale


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    drawn=modules(), output=st.sampled_from(["loss", "margin"]), dtype=st.sampled_from([torch.float64, torch.float32])
)
def test_gradients_of_any_module_are_those_of_plain_backward_passes(drawn, output, dtype):
    build, inputs = drawn
    trained, split = member(build, dtype), data(inputs)
    for x, y in ((split.train_x, split.train_y), (split.test_x, split.test_y)):
        found, expected = dense(trained.model(), x, y, output), plain(trained.model(), x, y, output)
        assert (found - expected).norm() <= (1e-5 if dtype == torch.float64 else 1e-3) * expected.norm().clamp(min=1e-3)


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=modules())
def test_scores_of_any_module_are_those_of_plain_backward_passes(drawn):
    build, inputs = drawn
    trained, split = member(build), data(inputs)
    model = trained.model()
    g, t = (plain(model, *each) for each in ((split.train_x, split.train_y), (split.test_x, split.test_y)))
    close(scores("grad_dot", trained, split), g @ t.T)
    lengths = torch.outer(g.norm(dim=1), t.norm(dim=1))
    close(scores("grad_cos", trained, split), torch.where(lengths > 0, g @ t.T / lengths, 0), 1e-4)
    damping = float(0.1 * g.square().mean() * len(g)) + 1e-6
    fisher = g.T @ g / len(g) + damping * torch.eye(g.shape[1], dtype=g.dtype)
    influence = g @ torch.linalg.solve(fisher, t.T)
    close(scores("influence", trained, split, curvature="fisher", damping=damping), influence, 1e-4)
    iterations = {"curvature": "fisher", "damping": damping, "iterations": 11}
    close(scores("influence_cg", trained, split, **iterations), influence, 1e-4)
    margins = [plain(model, x, y, "margin") for x, y in ((split.train_x, split.train_y), (split.test_x, split.test_y))]
    with torch.no_grad():
        x = torch.from_numpy(split.train_x)
        p = torch.softmax(model(x.double() if x.is_floating_point() else x.clone()), 1)
    damping = float(0.1 * margins[0].square().mean() * len(g)) + 1e-6
    kernel = margins[0].T @ margins[0] / len(g) + damping * torch.eye(g.shape[1], dtype=g.dtype)
    expected = margins[0] @ torch.linalg.solve(kernel, margins[1].T)
    expected = expected * (1 - p[np.arange(len(g)), split.train_y])[:, None]
    whole = {"projection": "none", "proj_dim": g.shape[1], "damping": damping}
    close(scores("trak", trained, split, **whole), expected, 1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_examples_that_are_checked_are_the_first_the_last_and_another(seed):
    from attriflow.gradients.paths import chosen

    count = int(stream(seed, "count").integers(4, 1000))
    assert len(chosen(count)) == 3
    assert {0, count - 1} <= set(chosen(count))
    assert [chosen(each) for each in (1, 2, 3)] == [(0,), (0, 1), (0, 1, 2)]
