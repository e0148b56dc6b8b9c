"""Products of second derivatives are right for any module, or refused: each against explicit matrices."""

import logging

import numpy as np
import pytest
import torch
from test_scores import close, scores
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from attriflow import curvature, products
from attriflow.curvature import IGNORED, columns, roots, shares
from attriflow.data import Split
from attriflow.gradients import Gradients, Rows, per_example
from attriflow.models import Trained

N, M = 9, 3


class Reading(nn.Module):
    """Tokens, an embedding and something after it."""

    def __init__(self, embedding: nn.Module, after: nn.Module | None = None):
        super().__init__()
        self.embedding, self.after, self.head = embedding, after or nn.Tanh(), nn.Linear(4, 3)
        nn.init.normal_(embedding.weight)  # of the row of the padding, too

    def forward(self, x):
        return self.head(torch.tanh(self.after(self.embedding(x)).mean(1)))


class Recurrent(nn.Module):
    """The last state of a recurrent layer."""

    def __init__(self, kind: type):
        super().__init__()
        self.layer, self.head = kind(4, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.layer(nn.functional.one_hot(x, 4).to(self.head.weight.dtype))[0][:, -1])


class TwoPlaces(nn.Module):
    """One layer under two names, used at both."""

    def __init__(self):
        super().__init__()
        self.embedding, self.first, self.head = nn.Embedding(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.second = self.first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(self.embedding(x).mean(1))))))


class Attention(nn.MultiheadAttention):
    """Of a sequence with itself."""

    def forward(self, x):
        return super().forward(x, x, x)[0]


class Function(nn.Module):
    """An autograd function on a linear layer."""

    def __init__(self, function: type):
        super().__init__()
        self.layer, self.head, self.function = nn.Linear(4, 5), nn.Linear(5, 3), function

    def forward(self, x):
        one_hot = nn.functional.one_hot(x, 4).to(self.head.weight.dtype).mean(1)
        return self.head(self.function.apply(self.layer(one_hot)))


class Cube(torch.autograd.Function):
    """x³, without a derivative for torch.func."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, slope):
        return 3 * ctx.saved_tensors[0] ** 2 * slope


class Forgetful(torch.autograd.Function):
    """x³ with a gradient that is right, and that torch cannot differentiate: what it kept is detached."""

    @staticmethod
    def forward(ctx, x):
        ctx.kept = x.detach()
        return x**3

    @staticmethod
    def backward(ctx, slope):
        return 3 * ctx.kept**2 * slope


class Rounded(torch.autograd.Function):
    """Rounding with the gradient of the identity: the gradient of no function."""

    @staticmethod
    def forward(ctx, x):
        return torch.round(4 * x) / 4

    @staticmethod
    def backward(ctx, slope):
        return slope


def encoder(**options) -> nn.Module:
    return nn.TransformerEncoderLayer(4, 2, 5, 0.1, batch_first=True, **options)


SOUND = {
    "padding_idx": lambda: Reading(nn.Embedding(4, 4, padding_idx=0)),
    "max_norm": lambda: Reading(nn.Embedding(4, 4, max_norm=1.0)),
    "embedding": lambda: Reading(nn.Embedding(4, 4)),
    "attention": lambda: Reading(nn.Embedding(4, 4), Attention(4, 2, batch_first=True)),
    "encoder": lambda: Reading(nn.Embedding(4, 4), encoder(activation="gelu")),
    "encoder with padding": lambda: Reading(nn.Embedding(4, 4, padding_idx=0), encoder(norm_first=True)),
    "function": lambda: Function(Cube),
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "two places": TwoPlaces,
}
GAUSS_NEWTON_ALONE = {
    "scale_grad_by_freq": lambda: Reading(nn.Embedding(4, 4, scale_grad_by_freq=True)),
    "detached": lambda: Function(Forgetful),
    "rounded": lambda: Function(Rounded),
}


def built(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return (SOUND | GAUSS_NEWTON_ALONE)[name]().double().eval()


def tokens(n: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.integers(0, 4, (n, 4)), random.integers(0, 3, n)


def some_split() -> Split:
    (x, y), places = tokens(N + M), (np.arange(N), np.arange(M))
    return Split(x[:N], y[:N], x[N:], y[N:], y[:N], *places, np.float64(0), np.float64(1))


def member_of(name: str) -> Trained:
    model = built(name)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    return Trained("full-0", 0, lambda: built(name), {1: state}, {1: 0.1})


def slopes(value: torch.Tensor, model: nn.Module, **options) -> torch.Tensor:
    found = torch.autograd.grad(value, list(model.parameters()), allow_unused=True, materialize_grads=True, **options)
    return torch.cat([each.flatten() for each in found])


def explicit(kind: str, model: nn.Module, x: np.ndarray, y: np.ndarray) -> torch.Tensor:
    """(p, p) by one backward pass a row, in the order of the parameters."""
    x, y, total = torch.from_numpy(x), torch.from_numpy(y), 0
    with sdpa_kernel(SDPBackend.MATH):
        if kind == "hessian":
            slope = slopes(cross_entropy(model(x), y), model, create_graph=True)
            return torch.stack([slopes(each, model, retain_graph=True) for each in slope])
        for one in x:
            (logits,) = model(one[None])
            rows = torch.stack([slopes(each, model, retain_graph=True) for each in logits])
            p = torch.softmax(logits, -1).detach()
            total = total + rows.T @ (torch.diag(p) - torch.outer(p, p)) @ rows
    return total / len(x)


def plain_order(model: nn.Module, n: int) -> Gradients:
    """Zero gradients whose coordinates are the parameters in their order."""
    named = dict(model.named_parameters())
    size = sum(each.numel() for each in named.values())
    return Gradients([Rows("all", tuple(named), torch.zeros(n, size, dtype=torch.float64))])


def product_of(kind: str, model: nn.Module, x: np.ndarray, y: np.ndarray):
    return curvature.products(kind, model, x, y, plain_order(model, len(x)))


@pytest.mark.parametrize("kind", ["ggn", "hessian"])
@pytest.mark.parametrize("name", SOUND)
def test_products_are_those_with_the_explicit_matrix_for_any_module(name, kind):
    model, (x, y) = built(name), tokens(N)
    matrix = explicit(kind, model, x, y)
    v = torch.from_numpy(np.random.default_rng(1).standard_normal((3, len(matrix))))
    torch.testing.assert_close(product_of(kind, model, x, y)(v), v @ matrix, rtol=1e-8, atol=1e-10)
    rows = torch.tensor([7, 2, 3])
    matrix = explicit(kind, model, x[rows], y[rows])
    torch.testing.assert_close(product_of(kind, model, x, y)(v, rows), v @ matrix, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", GAUSS_NEWTON_ALONE)
def test_a_gauss_newton_matrix_needs_no_second_derivative(name):
    model, (x, y) = built(name), tokens(N)
    matrix = explicit("ggn", model, x, y)
    v = torch.from_numpy(np.random.default_rng(1).standard_normal((3, len(matrix))))
    torch.testing.assert_close(product_of("ggn", model, x, y)(v), v @ matrix, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", GAUSS_NEWTON_ALONE)
def test_a_hessian_that_gradients_contradict_is_refused_with_the_remedy(name):
    model, (x, y) = built(name), tokens(N)
    with pytest.raises(ValueError, match=r"no Hessian that can be trusted: forward mode .*; double backward .*'ggn'"):
        product_of("hessian", model, x, y)


@pytest.mark.parametrize("name", ["padding_idx", "encoder", "lstm", "gru", "two places"])
def test_products_of_single_examples_take_the_right_way_too(name):
    model, (x, y) = built(name), tokens(N)
    gradients = plain_order(model, N)
    v = torch.from_numpy(np.random.default_rng(1).standard_normal(gradients.size))
    found = torch.cat([rows for _, rows in curvature.example_products(model, x, y, gradients, v)])
    expected = torch.stack([explicit("hessian", model, x[i : i + 1], y[i : i + 1]) @ v for i in range(N)])
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_one_padded_example_among_many_is_seen():
    x, y = tokens(300)
    x, model = np.maximum(x, 1), built("padding_idx")
    v = torch.from_numpy(np.random.default_rng(1).standard_normal((1, plain_order(model, 1).size)))
    x[200, 2] = 0
    matrix = explicit("hessian", model, x, y)
    torch.testing.assert_close(product_of("hessian", model, x, y)(v), v @ matrix, rtol=1e-8, atol=1e-10)


def test_the_log_says_once_that_forward_mode_is_not_used(caplog):
    products._say.cache_clear()
    model, (x, y) = built("padding_idx"), tokens(N)
    with caplog.at_level(logging.WARNING):
        product_of("hessian", model, x, y)
        product_of("hessian", model, x, y)
        product_of("hessian", built("embedding"), x, y)
    said = [record.message for record in caplog.records if "double backward" in record.message]
    assert len(said) == 1
    assert "one vector at a time: forward mode is not symmetric" in said[0]


def test_a_kink_or_a_saturated_model_is_no_reason_to_refuse():
    (x, y), random = tokens(N), np.random.default_rng(0)
    for scale in (0.0, 1.0, 300.0):  # all units at their kink; as usual; certain of every class
        model = nn.Sequential(nn.Flatten(), nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 3)).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(scale * torch.from_numpy(random.standard_normal(parameter.shape)))
        inputs = np.repeat(x, 2, 1).astype(np.float64) - 1.2
        for kind in ("ggn", "hessian"):
            product = product_of(kind, model, inputs, y)
            matrix = explicit(kind, model, inputs, y)
            v = torch.from_numpy(random.standard_normal((2, len(matrix))))
            torch.testing.assert_close(product(v), v @ matrix, rtol=1e-7, atol=1e-9 * scale**2 + 1e-12)


# --- methods -------------------------------------------------------------------------------------------------

HESSIAN = {
    "influence": {"curvature": "hessian"},
    "influence_cg": {"iterations": 60},
    "influence_arnoldi": {"iterations": 300},
}


@pytest.mark.parametrize("method", HESSIAN)
@pytest.mark.parametrize("name", ["padding_idx", "encoder"])
def test_methods_with_a_hessian_are_the_explicit_inverse_for_any_module(name, method):
    split, member = some_split(), member_of(name)
    model = member.model()
    values, vectors = torch.linalg.eigh(explicit("hessian", model, split.train_x, split.train_y))
    inverse = vectors @ torch.diag(1 / (values.abs() + 0.3)) @ vectors.T
    sides = [
        torch.stack([
            slopes(cross_entropy(model(torch.from_numpy(x[i : i + 1])), torch.from_numpy(y[i : i + 1])), model)
            for i in range(len(x))
        ])
        for x, y in ((split.train_x, split.train_y), (split.test_x, split.test_y))
    ]  # fmt: skip
    (found,) = scores(method, [member], split, damping=0.3, **HESSIAN[method])
    close(found, sides[0] @ inverse @ sides[1].T, 5e-3 if method == "influence_cg" else 2e-4)


@pytest.mark.parametrize(
    "method, given",
    [
        ("unrolled", {"curvature": "hessian", "steps": 3, "learning_rate": 0.1}),
        ("influence_lissa", {"damping": 2.0, "scale": 10.0, "depth": 3, "batch": 4}),
        ("influence_corrected", {"curvature": "hessian", "damping": 1.0}),
    ],
)
@pytest.mark.parametrize("name", ["encoder", "padding_idx", "lstm"])
def test_every_method_with_a_hessian_works_with_attention_and_padding(name, method, given):
    (found,) = scores(method, [member_of(name)], some_split(), **given)
    assert np.isfinite(found).all() and found.any()


# --- labels --------------------------------------------------------------------------------------------------


def test_positions_that_are_ignored_have_no_part_in_the_curvature_and_the_others_are_averaged():
    y = torch.tensor([[1, IGNORED, 0], [2, 1, 0], [IGNORED, IGNORED, 2]])
    expected = [[1 / 2, 0, 1 / 2], [1 / 3] * 3, [0, 0, 1]]
    torch.testing.assert_close(shares(y), torch.tensor(expected, dtype=torch.float64))
    logits = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 3, 4)))
    root, weights = roots(logits, y)
    for example, labels in enumerate(y):
        counted = labels != IGNORED
        alone, its = roots(logits[example][counted][None], labels[counted][None])
        torch.testing.assert_close(root[example][counted], alone[0])
        torch.testing.assert_close(weights[example][counted], its[0])
        assert not root[example][~counted].any() and not weights[example][~counted].any()


def test_products_leave_ignored_positions_out():
    model = nn.Sequential(nn.Embedding(4, 3), nn.Tanh(), nn.Linear(3, 4)).double()
    x, _ = tokens(4)
    y = np.roll(x, 1, 1)
    y[0, 1:], y[2, 0] = IGNORED, IGNORED
    gradients = per_example(model, x, y, lambda logits, _: logits.sum((1, 2)))
    v = torch.from_numpy(np.random.default_rng(1).standard_normal((2, gradients.size)))
    expected = sum(column.combine(column.times(v)) for column, _ in columns(model, x, y)) / len(x)
    torch.testing.assert_close(curvature.products("ggn", model, x, y, gradients)(v), expected)


def test_one_output_for_classes_is_refused_by_name():
    with pytest.raises(ValueError, match="1 output and the labels are classes: its softmax is 1 everywhere"):
        roots(torch.zeros(3, 1), torch.zeros(3, dtype=torch.long))
