"""Modes of a curvature: roots of the loss, the Gauss-Newton matrix by its rows, what lies outside of all modes."""

from functools import partial

import numpy as np
import pytest
import reference
import torch
from conftest import toy_split
from test_scores import close, reference_gradients
from test_solvers import with_model

from attriflow import curvature, modes
from attriflow.data import Split
from attriflow.gradients import per_example
from attriflow.models import Trained, cnn, logistic, mlp
from attriflow.scores import influence

# classes (1: a number to regress on), whether numbers are regressed on
TASKS = {"regression": 1, "two classes": 2, "three classes": 3}
DAMPINGS = [1e-8, 1e-3, 0.1, 1e3]


def problem(task: str, n: int = 40, m: int = 7, build=None, scale: float = 2.0) -> tuple[Trained, Split]:
    """A perceptron 16-5-c, or what else is built, with random weights, and its data."""
    classes = TASKS[task]
    split = toy_split(n, m, classes=max(classes, 2))
    if task == "regression":
        random = np.random.default_rng(3)
        numbers = {f"{part}_y": random.standard_normal(len(getattr(split, f"{part}_y"))) for part in ("train", "test")}
        split = Split(**{**vars(split), **numbers})
    build = build or partial(mlp.build, (1, 4, 4), classes, hidden=[5], dropout=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = {key: scale * value.detach() for key, value in build().named_parameters()}
    return Trained("full-0", 0, build, {1: state}, {1: 0.1}), split


def explicit(member: Trained, split: Split, kind: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The curvature (p, p) and both gradients, in the order of the parameters."""
    matrix = reference.curvature(kind, member.model(), split.train_x, split.train_y)
    return matrix, *reference_gradients(member, split)


def scored(member: Trained, split: Split, damping: float, **given) -> np.ndarray:
    return next(influence.score([influence.prepare(member, split, **given)], damping=damping))


# --- roots of the loss's Hessian -----------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_root_of_cross_entropy_is_exact_and_has_a_column_less_than_classes(classes):
    random = np.random.default_rng(0)
    logits = torch.from_numpy(10 * random.standard_normal((50, classes)))
    y = torch.from_numpy(random.integers(0, classes, 50))
    root, weights = curvature.roots(logits, y)
    assert root.shape == (50, classes, classes - 1)
    expected = torch.stack([reference.softmax_hessian(each) for each in logits])
    torch.testing.assert_close(root @ root.mT, expected, rtol=1e-12, atol=1e-15)
    residual = torch.softmax(logits, -1) - torch.nn.functional.one_hot(y, classes)
    torch.testing.assert_close((root @ weights[..., None]).squeeze(-1), residual, rtol=1e-12, atol=1e-14)


def test_the_root_keeps_its_digits_where_a_class_is_next_to_impossible():
    root, _ = curvature.roots(torch.tensor([[0.0, 60.0], [60.0, 0.0]]).double(), torch.tensor([1, 1]))
    p = np.exp(-60)
    np.testing.assert_allclose((root @ root.mT)[:, 0, 0], p, rtol=1e-12)


@pytest.mark.parametrize("gap", [800.0, -800.0])
def test_a_class_that_is_impossible_has_a_root_of_numbers(gap):
    root, _ = curvature.roots(torch.tensor([[0.0, gap, 2 * gap]]).double(), torch.tensor([0]))
    assert torch.isfinite(root).all()


def test_the_root_of_a_squared_error_is_that_of_two():
    root, weights = curvature.roots(torch.tensor([[3.0], [1.0]]).double(), torch.tensor([1.0, 1.5]))
    torch.testing.assert_close(root @ root.mT, torch.full((2, 1, 1), 2.0).double())
    torch.testing.assert_close((root @ weights[..., None])[:, 0, 0], torch.tensor([4.0, -1.0]).double())


@pytest.mark.parametrize("name", ["perceptron", "cnn", "transformer"])
def test_rows_make_the_gauss_newton_matrix_and_every_gradient(name):
    member, split = with_model(name)
    model, x, y = member.model(), split.train_x, split.train_y
    train = per_example(model, x, y, "loss")
    found = list(curvature.columns(model, x, y))
    assert len(found) == curvature.root_size(model, x, y) == (24 if name == "transformer" else 2)
    order = train.order(dict(model.named_parameters()))
    rows = torch.cat([column.dense() for column, _ in found])
    expected = reference.curvature("ggn", model, x, y)[order][:, order]
    torch.testing.assert_close(rows.T @ rows / len(x), expected, rtol=1e-9, atol=1e-11)
    gradients = sum(weights[:, None] * column.dense() for column, weights in found)
    torch.testing.assert_close(gradients, train.dense(), rtol=1e-9, atol=1e-11)


# --- curvatures of a squared error ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fisher", "ggn", "hessian"])
@pytest.mark.parametrize(
    "build", [None, partial(cnn.build, (1, 4, 4), 1, channels=[3]), partial(logistic.build, (1, 4, 4), 1)]
)
def test_curvatures_of_a_squared_error_are_those_of_explicit_derivatives(build, kind):
    member, split = problem("regression", n=11, build=build)
    model, x, y = member.model(), split.train_x, split.train_y
    train = per_example(model, x, y, "loss")
    order = train.order(dict(model.named_parameters()))
    expected = reference.curvature(kind, model, x, y)[order][:, order]
    torch.testing.assert_close(curvature.exact(kind, model, x, y, train), expected, rtol=1e-9, atol=1e-10)
    v = torch.from_numpy(np.random.default_rng(1).standard_normal((3, train.size)))
    torch.testing.assert_close(curvature.products(kind, model, x, y, train)(v), v @ expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["perceptron", "cnn", "transformer"])
def test_products_of_single_examples_are_those_with_their_hessians(monkeypatch, name):
    member, split = with_model(name)
    model, x, y = member.model(), split.train_x[:3], split.train_y[:3]
    train = per_example(model, x, y, "loss")
    order = train.order(dict(model.named_parameters()))
    v = torch.from_numpy(np.random.default_rng(1).standard_normal(train.size))
    expected = [reference.curvature("hessian", model, x[[i]], y[[i]])[order][:, order] @ v for i in range(len(x))]
    whole = torch.cat([rows for _, rows in curvature.example_products(model, x, y, train, v)])
    torch.testing.assert_close(whole, torch.stack(expected), rtol=1e-9, atol=1e-10)
    monkeypatch.setattr(curvature, "_CHUNK_BYTES", 1)
    some = list(curvature.example_products(model, x, y, train, v))
    assert [len(rows) for _, rows in some] == [1] * len(x)
    torch.testing.assert_close(torch.cat([rows for _, rows in some]), whole)


# --- influence by way of the rows ----------------------------------------------------------------------------


@pytest.mark.parametrize("damping", DAMPINGS)
@pytest.mark.parametrize("n", [1, 40, 200])
@pytest.mark.parametrize("task", TASKS)
def test_gauss_newton_influence_is_the_explicit_inverse(task, n, damping):
    member, split = problem(task, n=max(n, 3), m=1 if n == 1 else 7)
    found = influence.prepare(member, split, curvature="ggn")
    assert len(found["values"]) <= min(max(n, 3) * max(TASKS[task] - 1, 1), int(found["parameters"]))
    expected = reference.influence(*explicit(member, split, "ggn"), damping)
    close(next(influence.score([found], damping=damping)), expected, rtol=1e-4 if damping > 1e-6 else 1e-3)


@pytest.mark.parametrize("task", TASKS)
def test_gauss_newton_influence_without_damping_is_the_pseudo_inverse(task):
    member, split = problem(task, n=12)
    matrix, train, test = explicit(member, split, "ggn")
    expected = train @ torch.linalg.pinv(matrix, hermitian=True) @ test.T
    close(scored(member, split, 0.0, curvature="ggn"), expected, rtol=1e-3)


@pytest.mark.parametrize("name", ["cnn", "transformer"])
def test_rows_of_every_layer_and_position_give_the_explicit_inverse(name):
    member, split = with_model(name)
    matrix, train, test = explicit(member, split, "ggn")
    close(scored(member, split, 0.01, curvature="ggn"), reference.influence(matrix, train, test, 0.01))


@pytest.mark.parametrize("task", TASKS)
def test_the_decomposition_by_rows_agrees_with_that_of_the_matrix(monkeypatch, task):
    member, split = problem(task)
    first = scored(member, split, 1e-3, curvature="ggn")
    monkeypatch.setattr(modes, "_by_rows", lambda *_: False)
    close(scored(member, split, 1e-3, curvature="ggn"), first)


@pytest.mark.parametrize("relatif", ["loss", "parameters"])
def test_what_is_made_of_the_rows_knows_its_own_coordinates(relatif):
    member, split = problem("three classes")
    matrix, train, test = explicit(member, split, "ggn")
    found = influence.prepare(member, split, curvature="ggn")
    solved = train @ torch.linalg.inv(matrix + 0.01 * torch.eye(103))
    sizes = (solved * train).sum(1).sqrt() if relatif == "loss" else solved.norm(dim=1)
    close(next(influence.score([found], damping=0.01, relatif=relatif)), solved @ test.T / sizes[:, None])
    close(next(influence.self_influence([found], damping=0.01)), (solved * train).sum(1))
    for power, each in enumerate(influence.powers(found, np.eye(40), damping=0.01)):
        inverse = torch.linalg.matrix_power(torch.linalg.inv(matrix + 0.01 * torch.eye(103)), power + 1)
        close(each, train @ inverse @ test.T)


def certain_of_another(task: str, logit: float) -> tuple[Trained, Split]:
    """A problem whose first training example is of a class that the model gives a probability of e^-logit."""
    member, split = problem(task)
    x, y = split.train_x.copy(), split.train_y.copy()
    with torch.no_grad():
        for _ in range(60):
            logits = member.model()(torch.from_numpy(x[:1]).double())[0]
            if logits.max() - logits.min() > logit:
                break
            x[0] *= 1.5
    y[0] = int(logits.argmin())
    return member, Split(**{**vars(split), "train_x": x, "train_y": y})


@pytest.mark.parametrize("damping", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("logit", [20.0, 40.0, 900.0])
@pytest.mark.parametrize("task", ["two classes", "three classes"])
def test_an_example_that_the_model_is_sure_is_another_keeps_its_gradient(task, logit, damping):
    """Its rows of the Gauss-Newton matrix vanish, its gradient does not: outside of all modes it meets the damping."""
    member, split = certain_of_another(task, logit)
    found = influence.prepare(member, split, curvature="ggn")
    if logit > 30:
        assert found["outside"][0] > 0 and not found["outside"][1:].any()
    matrix, train, test = explicit(member, split, "ggn")
    expected = reference.influence(matrix, train, test, damping)
    close(next(influence.score([found], damping=damping)), expected)
    inverse = torch.linalg.inv(matrix + damping * torch.eye(len(matrix)))
    own = torch.einsum("np,pq,nq->n", train, inverse, train)
    close(next(influence.self_influence([found], damping=damping)), own)
    masks = np.random.default_rng(0).random((5, 40)) < 0.5
    for power, each in enumerate(influence.powers(found, masks, damping=damping)):
        close(each, masks @ (train @ torch.linalg.matrix_power(inverse, power + 1) @ test.T).numpy())
    assert np.isfinite(next(influence.score([found], damping=0.0))).all()


def test_gradients_within_the_modes_leave_nothing_outside():
    for task in TASKS:
        for kind in ("fisher", "ggn"):
            assert "rest" not in influence.prepare(*problem(task), curvature=kind)


def test_more_parameters_than_fit_take_the_rows_and_both_too_many_are_refused(monkeypatch):
    member, split = problem("three classes", n=20)
    expected = scored(member, split, 0.01, curvature="ggn")
    monkeypatch.setattr(curvature, "MOST_PARAMETERS", 100)
    monkeypatch.setattr(modes, "MOST_PARAMETERS", 100)
    monkeypatch.setattr(modes, "MOST_ROWS", 40)
    assert np.array_equal(scored(member, split, 0.01, curvature="ggn"), expected)
    member, split = problem("three classes", n=21)
    words = "has 103 parameters, .* Gauss-Newton matrix 42 rows; .* up to 100 parameters or 40 rows; .*influence_cg"
    with pytest.raises(ValueError, match=words):
        scored(member, split, 0.01, curvature="ggn")
    with pytest.raises(ValueError, match="103 parameters; an exact Hessian"):
        scored(member, split, 0.01, curvature="hessian")


def test_a_curvature_without_modes_is_refused():
    member, split = problem("three classes", scale=0.0)
    far = {
        name: torch.tensor([4e3, 0, 0]) if value.shape == (3,) else value
        for name, value in member.checkpoints[1].items()
    }
    with pytest.raises(ValueError, match="the curvature is zero everywhere"):
        influence.prepare(Trained("full-0", 0, member.build, {1: far}, {}), split, curvature="ggn")


@pytest.mark.parametrize("kind", ["fisher", "ggn", "hessian"])
def test_a_relative_damping_counts_mean_squared_gradients(kind):
    member, split = problem("regression")
    _, train, _ = explicit(member, split, kind)
    found = influence.prepare(member, split, curvature=kind)
    unit = float(train.square().mean())
    for function in (influence.score, influence.self_influence):
        close(next(function([found], damping=3.0, relative=True)), next(function([found], damping=3.0 * unit)))
    relative, absolute = (influence.spectrum(found, relative=each) for each in (True, False))
    np.testing.assert_allclose(relative.values * unit, absolute.values)
