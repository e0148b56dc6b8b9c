"""Methods that take every layer for itself, DataInf, EK-FAC and LoGra, against explicit matrices."""

from functools import partial
from itertools import product

import numpy as np
import pytest
import reference
import torch
from conftest import itself, toy_regression, toy_split
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from attriflow import gradients
from attriflow.curvature import decompose
from attriflow.data import Split
from attriflow.gradients import Factors, Gradients, Lookups, Rows, Sequences, per_example
from attriflow.hyperparameters import problem
from attriflow.layerwise import unpack
from attriflow.models import Trained, cnn, logistic, mlp, transformer
from attriflow.registry import Registry
from attriflow.scores import datainf, ekfac, grad_dot, influence, logra
from attriflow.selection import indicators, mean_eigenvalue, moments

pytestmark = pytest.mark.slow

METHODS = {"datainf": (datainf, {}), "ekfac": (ekfac, {}), "logra": (logra, {"rank": 3})}


def member_of(build) -> Trained:
    """A member with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = {name: value.clone() for name, value in build().state_dict().items()}
    return Trained("full-0", 0, build, {1: state}, {1: 0.1})


def token_split() -> Split:
    """Sequences of two of three tokens, and the tokens that follow them."""
    random = np.random.default_rng(0)
    train, test = random.integers(0, 3, (2, 30, 2)), random.integers(0, 3, (2, 6, 2))
    return Split(*train, *test, train[1], np.arange(30), np.arange(6), np.float64(0), np.float64(1))


def wide() -> nn.Module:
    """A convolution whose factors are smaller than its gradients."""
    return nn.Sequential(nn.Conv2d(1, 9, 3), nn.Tanh(), nn.Flatten(), nn.Linear(36, 3, bias=False))


def tiny_transformer() -> nn.Module:
    """Its positions are the one parameter outside of any layer."""
    return transformer.build((2,), 3, width=4, heads=2, layers=1)


class Twice(nn.Module):
    """A layer that is used twice: its parameters take the general path."""

    def __init__(self):
        super().__init__()
        self.twice = nn.Linear(4, 4)

    def forward(self, x):
        return self.twice(torch.tanh(self.twice(x.mean((1, 2)))))[:, :3]


# build, split, kinds of the layers
MODELS = {
    "perceptron": (partial(mlp.build, (1, 4, 4), 3, hidden=[5], dropout=0.0), toy_split, {Factors}),
    "cnn": (partial(cnn.build, (1, 4, 4), 3, channels=[3]), toy_split, {Factors, Rows}),
    "wide": (wide, toy_split, {Factors, Sequences}),
    "twice": (Twice, toy_split, {Rows}),
    "transformer": (tiny_transformer, token_split, {Sequences, Rows, Lookups}),
    "regression": (partial(mlp.build, (6,), 1, hidden=[5], dropout=0.0), toy_regression, {Factors}),
}


@pytest.fixture(scope="module", params=MODELS)
def problem_of(request):
    """A member, its split, and the gradients of its layers, each by one backward pass an example."""
    build, make, kinds = MODELS[request.param]
    member, split = member_of(build), make()
    parts = per_example(member.model(), split.train_x, split.train_y, "loss").parts
    assert {type(part) for part in parts} == kinds
    train = by_layer(member, split.train_x, split.train_y)
    return member, split, parts, train, by_layer(member, split.test_x, split.test_y)


def by_layer(member: Trained, x, y) -> list[torch.Tensor]:
    """Gradients (n, s) of every layer in the order of its coordinates, one backward pass an example."""
    model = member.model()
    gradients = per_example(model, x, y, "loss")
    state = {name: p for name, p in model.named_parameters() if p.requires_grad}
    rows = reference.gradients(model, x, y, "loss")[:, gradients.order(state)]
    return list(rows.split([part.size for part in gradients.parts], 1))


def scores(method, member: Trained, split: Split, *, prepared: dict | None = None, **given) -> np.ndarray:
    """Of one member, (n, m)."""
    return next(method.score([method.prepare(member, split, **(prepared or {}))], **given))


def close(found, expected, rtol=2e-4):
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


# --- against the reference -----------------------------------------------------------------------------------

DAMPINGS = [(1e-4, False), (0.1, False), (10.0, False), (0.1, True)]


@pytest.mark.parametrize(("damping", "relative"), DAMPINGS)
def test_datainf_is_the_mean_of_explicit_inverses(problem_of, damping, relative):
    member, split, _, train, test = problem_of
    expected = reference.datainf(train, test, damping, relative)
    close(scores(datainf, member, split, damping=damping, relative=relative), expected)


def labellings(member: Trained, split: Split, curvature: str):
    """Probabilities (n,) and labels of every labelling of the training examples: theirs, or all there can be."""
    if curvature == "empirical":
        return [(torch.ones(len(split.train_y), dtype=torch.float64), split.train_y)]
    x = torch.from_numpy(split.train_x)
    if (
        split.regression
    ):  # a Gaussian of variance 1/2 has the same second moment as two labels, a deviation to each side
        half, f = torch.full((len(x),), 0.5, dtype=torch.float64), member.model()(x.double())[:, 0].detach().numpy()
        return [(half, f - 0.5**0.5), (half, f + 0.5**0.5)]
    p = torch.softmax(member.model()(x.double() if x.is_floating_point() else x), -1).detach()
    p = p.reshape(len(x), -1, p.shape[-1])  # (n, t, c)
    found = []
    for classes in product(range(p.shape[-1]), repeat=p.shape[1]):
        probability = torch.stack([p[:, t, c] for t, c in enumerate(classes)]).prod(0)
        found.append((probability, np.tile(classes, (len(x), 1)).reshape(split.train_y.shape)))
    return found


def described(problem_of, curvature: str, largest: int) -> list[dict]:
    """What the reference of EK-FAC needs to know of every layer."""
    member, split, parts, train, test = problem_of
    layers = [
        {"train": mine, "test": theirs, "rows": [], "exact": part.size <= largest and isinstance(part, Rows)}
        for part, mine, theirs in zip(parts, train, test, strict=True)
    ]
    for probability, labels in labellings(member, split, curvature):
        drawn = per_example(member.model(), split.train_x, labels, "loss").parts
        for layer, part, rows in zip(layers, drawn, by_layer(member, split.train_x, labels), strict=True):
            layer["rows"].append((probability, rows))
            if isinstance(part, Factors | Sequences):
                layer["a"] = part.a.reshape(len(part), -1, part.a.shape[-1])
                layer.setdefault("b", []).append((probability, part.b.reshape(len(part), -1, part.b.shape[-1])))
    return layers


@pytest.mark.parametrize(("damping", "relative"), DAMPINGS)
@pytest.mark.parametrize("curvature", ["empirical", "true"])
def test_ekfac_is_the_explicit_inverse_in_a_kronecker_product_of_bases(problem_of, curvature, damping, relative):
    member, split, *_ = problem_of
    expected = reference.ekfac(described(problem_of, curvature, 2048), damping, relative)
    found = scores(ekfac, member, split, prepared={"curvature": curvature}, damping=damping, relative=relative)
    close(found, expected)


@pytest.mark.parametrize("curvature", ["empirical", "true"])
def test_ekfac_takes_the_diagonal_of_large_layers_without_factors(problem_of, curvature, monkeypatch):
    monkeypatch.setattr(ekfac, "_EXACT", 20)
    member, split, *_ = problem_of
    expected = reference.ekfac(described(problem_of, curvature, 20), 0.01, False)
    close(scores(ekfac, member, split, prepared={"curvature": curvature}, damping=0.01), expected)


def matrices(parts, member: Trained, rank: int) -> list[torch.Tensor]:
    """The explicit projection (s, k) of every layer."""

    def gaussian(name, side, size):
        if size <= rank:
            return torch.eye(size, dtype=torch.float64)
        return torch.from_numpy(member.stream("logra", name, side).standard_normal((size, rank))) / rank**0.5

    found = []
    for part in parts:
        if isinstance(part, Factors | Sequences):
            sides = (("out", part.b.shape[-1]), ("in", part.a.shape[-1]))
            found.append(torch.kron(*(gaussian(part.names[0], side, size) for side, size in sides)))
        elif part.size <= rank**2:
            found.append(torch.eye(part.size, dtype=torch.float64))
        else:
            found.append(reference.projection(Gradients([part]), partial(member.stream, "logra"), rank**2) / rank)
    return found


@pytest.mark.parametrize("rank", [2, 4, 64])
@pytest.mark.parametrize(("damping", "relative"), DAMPINGS)
def test_logra_is_the_explicit_inverse_of_a_kronecker_projection(problem_of, rank, damping, relative):
    member, split, parts, train, test = problem_of
    expected = reference.logra(train, test, matrices(parts, member, rank), damping, relative)
    found = scores(logra, member, split, prepared={"rank": rank}, damping=damping, relative=relative)
    close(found, expected, rtol=1e-3)


# --- closed forms and relations ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_layer() -> Trained:
    return member_of(partial(logistic.build, (1, 4, 4), 3))


@pytest.mark.parametrize("damping", [1e-2, 1.0])
def test_one_example_and_one_layer_leave_influence(one_layer, damping):
    split = toy_split(n=3)
    one = Split(**{**vars(split), "train_x": split.train_x[:1], "train_y": split.train_y[:1]})
    expected = scores(influence, one_layer, one, damping=damping)
    for method, prepared in ((datainf, {}), (ekfac, {}), (logra, {"rank": 17})):
        close(scores(method, one_layer, one, prepared=prepared, damping=damping), expected)


@pytest.mark.parametrize("damping", [0.0, 1e-3])
@pytest.mark.parametrize("n", [30, 200])
def test_logra_of_one_layer_at_full_rank_is_influence(one_layer, n, damping):
    split = toy_split(n=n)
    expected = scores(influence, one_layer, split, damping=damping)
    close(scores(logra, one_layer, split, prepared={"rank": 17}, damping=damping), expected, rtol=1e-3)


def test_projections_of_logra_keep_inner_products():
    member = member_of(partial(mlp.build, (1, 4, 4), 3, hidden=[100], dropout=0.0))
    split = toy_split()
    damped = [
        scores(logra, Trained(f"full-{place}", 0, member.build, member.checkpoints, {}), split,
               prepared={"rank": 12}, damping=1e6) * 1e6
        for place in range(30)
    ]  # fmt: skip
    exact = scores(grad_dot, member, split)
    assert np.corrcoef(np.mean(damped, 0).ravel(), exact.ravel())[0, 1] > 0.98
    assert 0.9 < np.vdot(np.mean(damped, 0), exact) / np.vdot(exact, exact) < 1.1
    assert not np.allclose(damped[0], damped[1], rtol=0.1)  # each member has its own


@pytest.mark.parametrize("name", METHODS)
def test_heavily_damped_scores_rank_like_grad_dot(problem_of, name):
    member, split, *_ = problem_of
    prepared = {"rank": 64} if name == "logra" else {}  # nothing is projected
    damped = scores(METHODS[name][0], member, split, prepared=prepared, damping=1e8) * 1e8
    close(damped, scores(grad_dot, member, split), rtol=1e-4)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), batch=st.integers(1, 50), block=st.sampled_from([1, 2000, 10**6]))
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("model", ["perceptron", "transformer"])
def test_neither_the_order_nor_batches_nor_blocks_change_scores(model, name, seed, batch, block):
    build, make, _ = MODELS[model]
    (method, prepared), member, split = METHODS[name], member_of(build), make()
    expected = scores(method, member, split, prepared=prepared, damping=0.1)
    order = np.random.default_rng(seed).permutation(len(split.train_y))
    moved = Split(**{**vars(split), "train_x": split.train_x[order], "train_y": split.train_y[order]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradients, "per_example", partial(per_example, batch=batch))
        patch.setattr(ekfac, "_BLOCK_BYTES", block)
        found = scores(method, member, moved, prepared=prepared, damping=0.1)
    close(found, expected[order], rtol=1e-4)


def test_datainf_keeps_gradients_or_products_whichever_is_less(one_layer):
    few, many = (datainf.prepare(one_layer, toy_split(n=n)) for n in (102, 103))
    name = "1.weight"  # 51 parameters
    assert few[f"{name}/kernel"].shape == (102, 102)
    assert many[f"{name}/gradients"].shape == (103, 51)
    expected = [by_layer(one_layer, x, y) for x, y in each_half(toy_split(n=103))]
    close(next(datainf.score([many], damping=0.1)), reference.datainf(*expected, 0.1, False))


def each_half(split: Split):
    return (split.train_x, split.train_y), (split.test_x, split.test_y)


@pytest.mark.parametrize("curvature", ["empirical", "true"])
def test_ekfac_keeps_no_directions_without_activation(one_layer, curvature):
    split = toy_split()
    split.train_x[:, :, 1] = 0  # 4 of 16 inputs; those of test examples stay
    prepared = ekfac.prepare(one_layer, split, curvature=curvature)
    assert prepared["1.weight/train_a"].shape == (40, 13)
    assert prepared["1.weight/size"] == 51
    (part,) = per_example(one_layer.model(), split.train_x, split.train_y, "loss").parts
    train, test = (by_layer(one_layer, x, y) for x, y in each_half(split))
    layers = described((one_layer, split, [part], train, test), curvature, 0)
    for relative in (False, True):
        found = next(ekfac.score([prepared], damping=0.1, relative=relative))
        close(found, reference.ekfac(layers, 0.1, relative))


def test_what_is_stored_is_small():
    member = member_of(partial(mlp.build, (1, 8, 8), 3, hidden=[50, 40], dropout=0.0))
    split = toy_split(n=100, m=10, shape=(1, 8, 8))
    stored = {
        name: sum(array.nbytes for array in method.prepare(member, split, **prepared).values())
        for name, (method, prepared) in METHODS.items()
    }
    assert stored["datainf"] <= 3 * (4 * 100 * (100 + 10 + 1) + 8)
    parameters = 50 * 65 + 40 * 51 + 3 * 41
    assert stored["ekfac"] <= 4 * 110 * (50 + 65 + 40 + 51 + 3 + 41) + 8 * parameters + 3 * 16
    assert stored["logra"] <= 3 * (4 * 110 * 9 + 2 * 8 * 9 + 2 * 8)


# --- spectra and self-influence ------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 2000, 64 * 2**20])
@pytest.mark.parametrize(("damping", "relative"), DAMPINGS)
@pytest.mark.parametrize("name", METHODS)
def test_self_influence_is_the_diagonal_of_the_scores(problem_of, monkeypatch, name, damping, relative, block):
    monkeypatch.setattr(ekfac, "_BLOCK_BYTES", block)
    member, split, *_ = problem_of
    method, prepared = METHODS[name]
    arrays = method.prepare(member, itself(split), **prepared)
    (expected,) = method.score([arrays], damping=damping, relative=relative)
    (found,) = method.self_influence([arrays], damping=damping, relative=relative)
    close(found, np.diag(expected), rtol=1e-3)


def test_self_influence_of_datainf_is_the_same_from_gradients_as_from_products(one_layer):
    for n in (102, 103):
        arrays = datainf.prepare(one_layer, itself(toy_split(n=n)))
        close(*(next(f([arrays], damping=0.01)) for f in (datainf.self_influence, diagonal)))


def diagonal(members, *, damping):
    return (np.diag(each) for each in datainf.score(members, damping=damping))


@pytest.mark.parametrize("block", [1, 64 * 2**20])
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("name", ["ekfac", "logra"])
def test_the_first_moment_is_what_a_damped_inverse_takes_from_a_gradient(
    problem_of, monkeypatch, name, relative, block
):
    r"""$t_1 = |g|^2 - \lambda g^\top (C + \lambda I)^{-1} g$, of which the last is a self-influence."""
    monkeypatch.setattr(ekfac, "_BLOCK_BYTES", block)
    member, split, parts, train, _ = problem_of
    method = METHODS[name][0]
    arrays = method.prepare(member, itself(split), **({"rank": 64} if name == "logra" else {}))
    found = method.spectrum(arrays, relative=relative)
    assert found.dimension == sum(part.size for part in parts if part.squared_norms().any())
    units = {name: float(layer["mean_square"]) if relative else 1.0 for name, layer in unpack(arrays).items()}
    sizes = sum(
        rows.square().sum(1) / units[part.names[0]]
        for part, rows in zip(parts, train, strict=True)
        if part.names[0] in units
    )
    for damping in (0.03, 0.3) if relative else (1e-3, 0.1):
        solved = 0
        for layer, unit in units.items():
            alone = {key: array for key, array in arrays.items() if key.rsplit("/", 1)[0] == layer}
            solved = solved + next(method.self_influence([alone], damping=damping * unit))
        expected = sizes.numpy() - damping * solved
        close(moments(found, [damping])[1, 0], expected, rtol=2e-3)


@pytest.mark.parametrize("n", [30, 200])
@pytest.mark.parametrize("relative", [False, True])
def test_the_second_moment_of_logra_is_the_mean_squared_score_of_every_layer(n, relative):
    split = toy_split(n=n)
    member = member_of(MODELS["perceptron"][0])
    arrays = logra.prepare(member, split, rank=3)
    total = 0
    for layer in unpack(arrays):
        alone = {key: array for key, array in arrays.items() if key.startswith(f"{layer}/")}
        total = total + np.square(next(logra.score([alone], damping=0.1, relative=relative))).mean(0)
    found = moments(logra.spectrum(arrays, relative=relative), [0.1])[2, 0]
    np.testing.assert_allclose(found, total, rtol=1e-4)


@pytest.mark.parametrize("name", ["ekfac", "logra"])
def test_the_mean_eigenvalue_is_the_unit_of_a_relative_damping(members, split, name):
    method, prepared = METHODS[name]
    arrays = method.prepare(members[0], split, **prepared)
    found = method.spectrum(arrays, relative=True)
    assert mean_eigenvalue([found], over="parameters") == pytest.approx(0.1, rel=1e-4)


def test_gradients_whose_squares_leave_single_precision_have_indicators(members, split):
    arrays = ekfac.prepare(members[0], split)
    small = {key: array * 1e-15 if key.endswith("test_b") else array for key, array in arrays.items()}
    found, expected = (indicators(ekfac.spectrum(each), [1e-4, 1e-2]) for each in (small, arrays))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# --- refusals ------------------------------------------------------------------------------------------------


def test_a_damping_that_a_method_cannot_take_is_refused_by_the_config():
    for name, value, expected in (("datainf", 0.0, "above 0"), ("ekfac", -1.0, "at least 0"), ("logra", -1.0, "least")):
        annotation = Registry().hyperparameters("scores", name, "score")["damping"].annotation
        assert expected in problem(value, annotation)


def test_rank_is_costly_and_damping_cheap():
    assert "rank" in Registry().hyperparameters("scores", "logra", "prepare")
    assert "rank" not in Registry().hyperparameters("scores", "logra", "score")
    for name in METHODS:
        assert "damping" not in Registry().hyperparameters("scores", name, "prepare")


@pytest.mark.parametrize("curvature", ["empirical", "true"])
def test_ekfac_without_damping_is_refused_where_a_direction_has_no_curvature(members, split, curvature):
    prepared = ekfac.prepare(members[0], split, curvature=curvature)
    message = r"damping 0: the curvature of the layer of 3\.weight is zero in 6 of its 18 directions; use a positive"
    with pytest.raises(ValueError, match=message):
        next(ekfac.score([{key: array for key, array in prepared.items() if key.startswith("3.")}], damping=0.0))


def test_ekfac_without_damping_is_exact_where_every_direction_has_curvature(split):
    def frozen_head():
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2), nn.Tanh(), nn.Linear(2, 3))
        model[3].requires_grad_(False)
        return model

    member = member_of(frozen_head)
    train, test = (by_layer(member, x, y) for x, y in each_half(split))
    parts = per_example(member.model(), split.train_x, split.train_y, "loss").parts
    layers = described((member, split, parts, train, test), "empirical", 0)
    close(scores(ekfac, member, split, damping=0.0), reference.ekfac(layers, 0.0, False), rtol=1e-3)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("relative", [False, True])
def test_a_layer_that_receives_no_gradient_adds_nothing(members, split, build, name, relative):
    state = {key: torch.zeros_like(value) for key, value in members[0].checkpoints[3].items()}
    state["3.bias"] += torch.arange(3)
    state["1.bias"] += 1  # the last weight is zero: nothing goes back to the first layer
    method, prepared = METHODS[name]
    arrays = method.prepare(Trained("full-0", 0, build, {3: state}, {}), split, **prepared)
    assert {key.split("/")[0] for key in arrays} == {"3.weight"}
    assert np.isfinite(next(method.score([arrays], damping=0.1, relative=relative))).all()


@pytest.mark.parametrize("name", METHODS)
def test_gradients_that_all_vanish_are_refused(members, split, build, name):
    flat = {key: torch.zeros_like(value) for key, value in members[0].checkpoints[3].items()}
    flat["3.bias"] = torch.tensor([1e4, 0.0, 0.0])
    certain = Split(**{**vars(split), "train_y": np.zeros_like(split.train_y)})
    method, prepared = METHODS[name]
    with pytest.raises(ValueError, match="every training gradient vanishes"):
        method.prepare(Trained("full-0", 0, build, {3: flat}, {}), certain, **prepared)


def test_eigenvalues_that_are_rounding_error_become_zero():
    rows = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 8)))
    matrix = rows.T @ rows
    values, vectors = decompose(matrix.clone())
    assert (values > 0).sum() == 3
    torch.testing.assert_close(vectors @ torch.diag(values) @ vectors.T, matrix)


@pytest.mark.parametrize("damping", [1e-2, 10.0, 30.0])
def test_ekfac_in_its_curved_directions_alone_is_as_good_as_in_all(damping, monkeypatch):
    split = toy_split(n=60, shape=(1, 12, 12))
    member = member_of(partial(mlp.build, (1, 12, 12), 3, hidden=[24], dropout=0.0))
    prepared = ekfac.prepare(member, split)
    spectrum = unpack(prepared)["1.weight"]["spectrum"]
    assert (ekfac._curved(spectrum, damping) is None) == (damping == 1e-2)
    curved = next(ekfac.score([prepared], damping=damping))
    monkeypatch.setattr(ekfac, "_curved", lambda *_: None)
    whole = next(ekfac.score([prepared], damping=damping))
    assert np.abs(curved - whole).max() <= 1e-3 * np.abs(whole).max()


def test_ekfac_skips_nothing_for_test_examples_that_would_notice():
    """One layer on orthogonal features: a test example lies in the one direction that training examples hardly use."""
    random, n, d = np.random.default_rng(8), 400, 200
    deviations = np.concatenate([np.full(99, 50.0**0.5), [0.02**0.5], np.full(100, 1e-4)])
    train = np.linalg.qr(random.standard_normal((n, d)))[0] * n**0.5 * deviations
    test = np.stack([np.eye(d)[99], np.eye(d)[0], random.standard_normal(d)])
    y = 0.5 * random.choice([-1.0, 1.0], n + 3)
    x, places = np.concatenate([train, test]).astype(np.float32), (np.arange(n), np.arange(3))
    split = Split(x[:n], y[:n], x[n:], y[n:], y[:n], *places, np.float64(0), np.float64(1))
    member = Trained("full-0", 0, partial(nn.Linear, d, 1, bias=False), {1: {"weight": torch.zeros(1, d)}}, {})
    prepared = ekfac.prepare(member, split)
    few = ekfac._curved(unpack(prepared)["weight"]["spectrum"], 1.0)
    assert few is not None and len(few) < 100
    found = next(ekfac.score([prepared], damping=1.0))
    sides = [per_example(member.model(), *each, "loss").dense().numpy() for each in ((x[:n], y[:n]), (x[n:], y[n:]))]
    curvature = np.diag(np.square(sides[0]).mean(0))
    expected = sides[0] @ np.linalg.inv(curvature + np.eye(d)) @ sides[1].T
    assert (np.abs(found - expected).max(0) <= 1e-3 * np.abs(expected).max(0)).all()


def test_ekfac_takes_few_directions_only_where_the_rest_is_flat():
    spectrum = torch.cat([torch.ones(10), torch.full((90,), 1e-9)])
    assert set(ekfac._curved(spectrum, 0.1).tolist()) == set(range(10))
    assert ekfac._curved(spectrum, 1e-9) is None  # every direction is curved
    assert ekfac._curved(spectrum, 1e-4) is None  # two terms would cancel
    assert ekfac._curved(spectrum, 0.0) is None
