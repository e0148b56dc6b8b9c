"""Per-example gradients: factored or not, they are what one backward pass an example gives."""

from functools import partial

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from attriflow import curvature
from attriflow.data import Split
from attriflow.gradients import (
    REST,
    Factors,
    Gradients,
    Lookups,
    Rows,
    Sequences,
    factored_layers,
    of_split,
    per_example,
)
from attriflow.models import cnn, transformer
from attriflow.outputs import OUTPUTS
from attriflow.projection import project
from attriflow.streams import stream


class Mixed(nn.Module):
    """A factored layer, a layer without bias, one that is used twice, a frozen one, and layers of other kinds."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 2, 3)
        self.first = nn.Linear(8, 4)
        self.twice = nn.Linear(4, 4)
        self.frozen = nn.Linear(4, 4)
        self.frozen.requires_grad_(False)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        x = torch.tanh(self.first(self.convolution(x).flatten(1)))
        x = self.twice(torch.tanh(self.twice(x)))
        return self.head(self.norm(torch.tanh(self.frozen(x))))


@pytest.fixture(scope="module")
def mixed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Mixed().double().eval()


class Positions(nn.Module):
    """Layers that are given positions in place of examples: their first dimension is no batch."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(5, 4, padding_idx=0)
        self.positions = nn.Embedding(6, 4)
        self.mix = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.tokens(x) + self.mix(self.positions(torch.arange(x.shape[-1])))
        return self.head(torch.tanh(x).mean(-2))


def seeded(make):
    """A model with the same weights every time, in float64, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        return model.double().eval()


def normalised():
    """Batch and layer normalisation over several dimensions, with and without bias."""
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.LayerNorm([2, 2, 2]),
        nn.Conv2d(2, 4, 1, groups=2), nn.Flatten(), nn.BatchNorm1d(16), nn.LayerNorm(16, bias=False), nn.Linear(16, 3),
    )  # fmt: skip


# model, factored layers, and the kinds of their parts
LAYERS = {
    "cnn": (partial(cnn.build, (1, 4, 4), 3, channels=[3]), {"0.0": Rows, "1": Factors}),
    "wide convolution": (
        lambda: nn.Sequential(nn.Conv2d(1, 9, 4), nn.Flatten(), nn.Linear(9, 3)), {"0": Sequences, "2": Factors},
    ),
    "normalised": (
        normalised, {"0": Rows, "1": Rows, "3": Rows, "6": Rows, "7": Rows, "8": Factors},
    ),
    "positions": (Positions, {"tokens": Lookups, "head": Factors}),
    "transformer": (
        partial(transformer.build, (6,), 5, width=16, heads=2, layers=1),
        {
            "tokens": Lookups, "blocks.0.attention.0": Rows, "blocks.0.attention.1.projection": Sequences,
            "blocks.0.attention.1.output": Sequences, "blocks.0.perceptron.0": Rows,
            "blocks.0.perceptron.1": Sequences, "blocks.0.perceptron.3": Sequences, "norm": Rows, "head": Rows,
        },
    ),
}  # fmt: skip


def tokens(count: int, labels: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (count, 6) of five tokens, and labels (count, *labels)."""
    random = np.random.default_rng(0)
    return random.integers(0, 5, (count, 6)), random.integers(0, 3, (count, *labels))


@pytest.mark.parametrize("output", ["loss", "margin"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_with_a_rule_equals_one_backward_pass_an_example(split, name, output):
    make, expected = LAYERS[name]
    model = seeded(make)
    x, y = split.train_x[:11], split.train_y[:11]
    if name in ("positions", "transformer"):
        x, y = tokens(11, (6,) if name == "transformer" else ())
    gradients = per_example(model, x, y, output)
    assert {part.name: type(part) for part in gradients.parts if part.name != REST} == expected
    found = in_reference_order(model, gradients)
    torch.testing.assert_close(found, reference.gradients(model, x, y, output), rtol=1e-9, atol=1e-11)
    others = per_example(model, x[3:9], y[3:9], "loss", batch=2)
    torch.testing.assert_close(gradients.gram(others), gradients.dense() @ others.dense().T)
    torch.testing.assert_close(gradients.squared_norms(), gradients.dense().square().sum(1))
    for part in gradients.parts:
        units = -(-part.size // part.grain)
        blocks = [part.dense(slice(start, min(start + 2, units))) for start in range(0, units, 2)]
        torch.testing.assert_close(torch.cat(blocks, 1), part.dense())


def test_the_gradient_of_the_last_token_is_that_of_its_position_alone():
    model, (x, y) = seeded(LAYERS["transformer"][0]), tokens(5, (6,))
    drawn = Split(x, y, x, y, y, np.arange(5), np.arange(5), np.float64(0), np.float64(1))
    _, test = of_split(model, drawn, "last_token_loss")
    last = per_example(model, x, y, lambda logits, labels: OUTPUTS["loss"](logits[:, -1:], labels[:, -1:]))
    torch.testing.assert_close(test.dense(), last.dense())


@pytest.fixture(scope="module")
def perceptron(members):
    return members[0].model()


def in_reference_order(model, gradients: Gradients) -> torch.Tensor:
    """Gradients (n, p) in the order of the model's parameters."""
    state = {name: p for name, p in model.named_parameters() if p.requires_grad}
    order = gradients.order(state)
    dense = gradients.dense()
    return torch.empty_like(dense).index_copy_(1, order, dense)


@pytest.mark.parametrize("output", ["loss", "margin"])
@pytest.mark.parametrize("name", ["mixed", "perceptron"])
def test_gradients_equal_one_backward_pass_an_example(request, split, name, output):
    model = request.getfixturevalue(name)
    found = in_reference_order(model, per_example(model, split.train_x, split.train_y, output))
    expected = reference.gradients(model, split.train_x, split.train_y, output)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_only_single_use_trainable_layers_are_factored(mixed, split):
    gradients = per_example(mixed, split.train_x, split.train_y, "loss")
    assert list(factored_layers(mixed, torch.from_numpy(split.train_x).double())) == [
        "convolution", "first", "norm", "head",
    ]  # fmt: skip
    assert [type(part) for part in gradients.parts] == [Rows, Factors, Rows, Factors, Rows]
    assert gradients.parts[-1].names == ("twice.weight", "twice.bias")
    assert gradients.size == sum(p.numel() for p in mixed.parameters() if p.requires_grad)


def test_one_example_has_the_parts_of_many():
    model = seeded(Positions)
    x, y = tokens(2, ())
    x = x[:, :1]  # a single position: its layer could be taken for one that is given the only example
    one, two = per_example(model, x[:1], y[:1], "loss"), per_example(model, x, y, "loss")
    assert [(type(part), part.names) for part in one.parts] == [(type(part), part.names) for part in two.parts]


def test_layers_that_share_a_weight_take_the_general_path(split):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 3)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.head(torch.tanh(self.b(torch.tanh(self.a(x.flatten(1))))))

    model = Tied().double().eval()
    assert list(factored_layers(model, torch.from_numpy(split.train_x[:2]).double())) == ["head"]
    found = in_reference_order(model, per_example(model, split.train_x, split.train_y, "loss"))
    torch.testing.assert_close(found, reference.gradients(model, split.train_x, split.train_y, "loss"))


def test_parameters_that_take_the_general_path_are_named_once(split, caplog):
    model = seeded(lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding="same"), nn.Flatten(), nn.Linear(32, 3)))
    for _ in range(2):
        per_example(model, split.train_x, split.train_y, "loss")
    assert [record.getMessage() for record in caplog.records] == [
        "per-example gradients of 0.weight, 0.bias take the general path: a row of gradients an example"
    ]


@settings(deadline=None, max_examples=10)
@given(batch=st.integers(1, 50))
def test_the_batch_changes_nothing(mixed, split, batch):
    whole = per_example(mixed, split.train_x, split.train_y, "margin").dense()
    found = per_example(mixed, split.train_x, split.train_y, "margin", batch=batch).dense()
    torch.testing.assert_close(found, whole, rtol=1e-10, atol=1e-12)


def test_products_and_norms_are_those_of_the_dense_gradients(mixed, split):
    train = per_example(mixed, split.train_x, split.train_y, "loss")
    test = per_example(mixed, split.test_x, split.test_y, "margin")
    torch.testing.assert_close(train.gram(test), train.dense() @ test.dense().T)
    torch.testing.assert_close(train.squared_norms(), train.dense().square().sum(1))


def test_gradients_that_are_not_finite_are_refused_by_index(perceptron, split):
    x = split.train_x.copy()
    x[[4, 9]] = np.inf
    with pytest.raises(ValueError, match=r"gradients are not finite at examples \[4, 9\]"):
        per_example(perceptron, x, split.train_y, "loss")


def test_the_hessian_is_the_second_derivative(perceptron, split):
    gradients = per_example(perceptron, split.train_x, split.train_y, "loss")
    found = curvature.hessian(perceptron, split.train_x, split.train_y, gradients)
    order = gradients.order(dict(perceptron.named_parameters()))
    expected = reference.hessian(perceptron, split.train_x, split.train_y)[order][:, order]
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_the_gauss_newton_matrix_is_the_mean_of_explicit_products(perceptron, split):
    gradients = per_example(perceptron, split.train_x, split.train_y, "loss")
    found = curvature.gauss_newton(perceptron, split.train_x, split.train_y, gradients)
    expected = reference.gauss_newton(perceptron, split.train_x, split.train_y)
    order = gradients.order(dict(perceptron.named_parameters()))
    torch.testing.assert_close(found, expected[order][:, order], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_curvatures_of_other_layers_and_of_linear_models_are_exact_too(mixed, split, kind):
    linear = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    for model in (mixed, linear):
        frozen = [p for p in model.parameters() if not p.requires_grad]
        for p in frozen:  # the reference differentiates every parameter
            p.requires_grad_(True)
        gradients = per_example(model, split.train_x, split.train_y, "loss")
        order = gradients.order(dict(model.named_parameters()))
        expected = getattr(reference, kind)(model, split.train_x, split.train_y)[order][:, order]
        found = getattr(curvature, kind)(model, split.train_x, split.train_y, gradients)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
        for p in frozen:
            p.requires_grad_(False)


def test_a_model_with_a_nonlinear_output_is_not_taken_for_a_linear_one(split):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Tanh()).double()
    gradients = per_example(model, split.train_x, split.train_y, "loss")
    order = gradients.order(dict(model.named_parameters()))
    found = curvature.hessian(model, split.train_x, split.train_y, gradients)
    torch.testing.assert_close(found, reference.hessian(model, split.train_x, split.train_y)[order][:, order])


def test_a_model_too_large_for_an_exact_hessian_is_refused(split):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 600), nn.Linear(600, 3)).double()
    gradients = per_example(model, split.train_x, split.train_y, "loss")
    with pytest.raises(ValueError, match=r"12003 parameters; an exact Hessian .* up to 10000; use curvature 'fisher'"):
        curvature.hessian(model, split.train_x, split.train_y, gradients)


# --- projections ---------------------------------------------------------------------------------------------


def named(*names):
    return stream(0, *names)


@pytest.mark.parametrize("dimension", [3, 300])
@pytest.mark.parametrize("name", ["mixed", "perceptron"])
def test_a_projection_is_a_product_with_its_explicit_matrix(request, split, name, dimension):
    gradients = per_example(request.getfixturevalue(name), split.train_x, split.train_y, "loss")
    (found,) = project([gradients], named, dimension=dimension, kind="gaussian")
    expected = gradients.dense() @ reference.projection(gradients, named, dimension)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_a_sketch_is_a_product_with_its_explicit_sparse_matrix(split, name):
    model = seeded(LAYERS[name][0])
    x, y = split.train_x[:11], split.train_y[:11]
    if name in ("positions", "transformer"):
        x, y = tokens(11, (6,) if name == "transformer" else ())
    gradients = per_example(model, x, y, "loss")
    (found,) = project([gradients], named, dimension=150, kind="sjlt")
    matrix = reference.sparse_projection(gradients, named, 150)
    assert set(matrix[:, :64].square().sum(1).tolist()) == {64.0}, "one entry of a row in each block"
    torch.testing.assert_close(found.double(), gradients.dense() @ matrix, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=10)
@given(small=st.integers(1, 300), large=st.integers(300, 600), kind=st.sampled_from(["gaussian", "rademacher", "sjlt"]))
def test_a_smaller_dimension_is_a_prefix_of_a_larger_one(perceptron, split, small, large, kind):
    gradients = per_example(perceptron, split.train_x, split.train_y, "loss")
    (wide,) = project([gradients], named, dimension=large, kind=kind)
    (narrow,) = project([gradients], named, dimension=small, kind=kind)
    torch.testing.assert_close(wide[:, :small], narrow, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["gaussian", "rademacher", "sjlt"])
def test_projections_keep_inner_products(perceptron, split, kind):
    gradients = per_example(perceptron, split.train_x, split.train_y, "loss")
    (projected,) = project([gradients], named, dimension=20_000, kind=kind)
    kept = projected.double() @ projected.double().T / 20_000
    exact = gradients.gram(gradients)
    assert (kept - exact).abs().max() < 0.05 * exact.abs().max()
