"""The corrected formula of a final model: against explicit matrices, and minima of explicit Taylor models."""

import numpy as np
import pytest
import reference
import torch
from conftest import toy_split
from test_modes import TASKS, certain_of_another, explicit, problem
from test_scores import close, reference_gradients, scores
from test_solvers import with_model

from attriflow import curvature as curvatures
from attriflow import modes
from attriflow.data import Split
from attriflow.krylov import conjugate_gradients
from attriflow.models import Trained, logistic
from attriflow.scores import influence_corrected

KINDS = ["ggn", "fisher", "hessian"]
METHOD = "influence_corrected"


def inverse_of(matrix: torch.Tensor, damping: float) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(1 / (values.abs() + damping)) @ vectors.T


def corrected(member: Trained, split: Split, kind: str, damping: float) -> torch.Tensor:
    """(n, m): proposition 1, with an explicit matrix for every example."""
    matrix, train, test = explicit(member, split, kind)
    inverse = inverse_of(matrix, damping)
    moved = -inverse @ train.mean(0)
    model, x, y = member.model(), split.train_x, split.train_y
    own = torch.stack([reference.curvature(kind, model, x[[i]], y[[i]]) @ moved for i in range(len(x))])
    return (train + own) @ inverse @ test.T


@pytest.mark.parametrize("damping", [1e-3, 0.1, 100.0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", TASKS)
def test_it_is_the_proposition_with_explicit_matrices(task, kind, damping):
    member, split = problem(task, n=12, scale=1.0)
    close(scores(METHOD, [member], split, curvature=kind, damping=damping)[0], corrected(member, split, kind, damping))


@pytest.mark.parametrize("kind", ["ggn", "fisher"])
@pytest.mark.parametrize("task", TASKS)
def test_it_is_so_with_more_examples_than_parameters(task, kind):
    member, split = problem(task, n=120, scale=1.0)
    close(scores(METHOD, [member], split, curvature=kind, damping=0.01)[0], corrected(member, split, kind, 0.01))


@pytest.mark.parametrize(("name", "kind"), [("cnn", kind) for kind in KINDS] + [("transformer", "ggn")])
def test_every_layer_takes_part(name, kind):
    member, split = with_model(name)
    found = scores(METHOD, [member], split, curvature=kind, damping=0.1)[0]
    close(found, corrected(member, split, kind, 0.1))


def test_an_example_that_the_model_is_sure_is_another_keeps_its_gradient():
    member, split = certain_of_another("three classes", 900.0)
    found = scores(METHOD, [member], split, damping=0.1)[0]
    close(found, corrected(member, split, "ggn", 0.1))
    close(*(displaced(member, split, "ggn", 0.1)))


@pytest.mark.parametrize("kind", KINDS)
def test_at_a_stationary_point_it_is_influence(kind):
    """Every input twice, with labels as far above the output as below it: the mean gradient is zero."""
    member, split = problem("regression", n=20)
    with torch.no_grad():
        output = member.model()(torch.from_numpy(split.train_x).double()).numpy()[:, 0]
    gap = np.random.default_rng(0).standard_normal(20)
    doubled = {
        "train_x": np.concatenate([split.train_x] * 2),
        "train_y": np.concatenate([output + gap, output - gap]),
    }
    stationary = Split(**{**vars(split), **doubled})
    found = scores(METHOD, [member], stationary, curvature=kind, damping=0.1)[0]
    close(found, scores("influence", [member], stationary, curvature=kind, damping=0.1)[0])


def linear() -> tuple[Trained, Split]:
    """Linear regression far from its minimum: its loss is its own Taylor model."""
    return problem("regression", n=30, build=lambda: logistic.build((1, 4, 4), 1))


@pytest.mark.parametrize("kind", ["ggn", "hessian"])
def test_it_is_the_derivative_of_the_minimum_of_the_damped_loss(kind):
    member, split = linear()
    model = member.model()
    start = torch.cat([p.detach().flatten() for p in model.parameters()])
    features = torch.cat([torch.from_numpy(split.train_x).double().flatten(1), torch.ones(30, 1)], 1)
    y, damping, small = torch.from_numpy(split.train_y), 0.05, 1e-4
    _, test = reference_gradients(member, split)

    def minimum(weights: torch.Tensor) -> torch.Tensor:
        """Of sum_i w_i (f_i - y_i)² + damping |change|² / 2."""
        matrix = 2 * features.T @ torch.diag(weights) @ features + damping * torch.eye(17)
        return torch.linalg.solve(matrix, 2 * features.T @ (weights * y) + damping * start)

    found = scores(METHOD, [member], split, curvature=kind, damping=damping)[0]
    plain = scores("influence", [member], split, curvature=kind, damping=damping)[0]
    for i in range(30):
        weights = [torch.full((30,), 1 / 30).double() for _ in range(2)]
        weights[0][i] += small
        weights[1][i] -= small
        change = (minimum(weights[0]) - minimum(weights[1])) / (2 * small)
        close(found[i], -test @ change)
    assert np.abs(found - plain).max() > 0.1 * np.abs(plain).max()  # the correction is not small here


@pytest.mark.parametrize("task", TASKS)
def test_it_is_the_derivative_of_the_minimum_of_the_taylor_model(task):
    member, split = problem(task, n=12, scale=1.0)
    _, train, test = explicit(member, split, "ggn")
    model, x, y = member.model(), split.train_x, split.train_y
    own = [reference.curvature("ggn", model, x[[i]], y[[i]]) for i in range(12)]
    found = scores(METHOD, [member], split, damping=0.1)[0]

    def minimum(i: int, weight: float) -> torch.Tensor:
        matrix = sum(own) / 12 + weight * own[i] + 0.1 * torch.eye(len(own[0]))
        return -torch.linalg.solve(matrix, train.mean(0) + weight * train[i])

    for i in range(12):
        change = (minimum(i, 1e-5) - minimum(i, -1e-5)) / 2e-5
        np.testing.assert_allclose(found[i], -test @ change, rtol=1e-3, atol=1e-4 * np.abs(found).max())


def displaced(member: Trained, split: Split, kind: str, damping: float) -> tuple[np.ndarray, torch.Tensor]:
    """What is found with gradients after the displacement, and what is expected."""
    matrix, train, test = explicit(member, split, kind)
    inverse = inverse_of(matrix, damping)
    model = member.model()
    torch.nn.utils.vector_to_parameters(
        torch.nn.utils.parameters_to_vector(model.parameters()) - inverse @ train.mean(0), model.parameters()
    )
    expected = reference.gradients(model, split.train_x, split.train_y, "loss") @ inverse @ test.T
    return scores(METHOD, [member], split, curvature=kind, damping=damping, gradients="displaced")[0], expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("n", [12, 120])
def test_gradients_may_be_those_after_the_displacement(task, kind, n):
    close(*displaced(*problem(task, n=n, scale=1.0), kind, 0.1))


def test_after_the_displacement_a_linear_model_has_its_corrected_gradients():
    member, split = linear()
    both = [scores(METHOD, [member], split, damping=0.05, gradients=each)[0] for each in ("corrected", "displaced")]
    close(*both)


@pytest.mark.parametrize("gradients", ["corrected", "displaced"])
@pytest.mark.parametrize("task", TASKS)
def test_what_is_too_large_to_decompose_is_solved_by_conjugate_gradients(monkeypatch, task, gradients):
    member, split = problem(task, n=30, scale=1.0)
    given = {"damping": 0.05, "gradients": gradients}
    expected = scores(METHOD, [member], split, **given)[0]
    monkeypatch.setattr(modes, "MOST_ROWS", 10)
    monkeypatch.setattr(influence_corrected, "_BLOCK_BYTES", 8 * 103 * 3)
    monkeypatch.setattr(influence_corrected, "modes", None)  # would be called
    monkeypatch.setattr(curvatures, "MOST_PARAMETERS", 10)
    close(scores(METHOD, [member], split, **given)[0], expected, rtol=1e-4)


def test_systems_that_do_not_converge_are_refused():
    random = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(40, 40, generator=random, dtype=torch.float64))
    matrix = basis @ torch.diag(torch.logspace(-8, 2, 40, dtype=torch.float64)) @ basis.T
    b = torch.cat([torch.randn(3, 40, generator=random, dtype=torch.float64), torch.zeros(1, 40, dtype=torch.float64)])
    found = conjugate_gradients(lambda v: v @ matrix, b, 1.0, tolerance=1e-8, most=100)
    close(found, torch.linalg.solve(matrix + torch.eye(40), b.T).T, rtol=1e-7)
    words = r"3 of 4 systems have a residual of up to \S+ .* after 30 steps, expected 1e-08; .*larger damping than 0"
    with pytest.raises(ValueError, match=words):
        conjugate_gradients(lambda v: v @ matrix, b, 0.0, tolerance=1e-8, most=30)


def test_without_damping_it_takes_the_pseudo_inverse():
    member, split = problem("regression", n=12, scale=1.0)
    matrix, train, test = explicit(member, split, "ggn")
    inverse = torch.linalg.pinv(matrix, hermitian=True)
    model, x, y = member.model(), split.train_x, split.train_y
    moved = -inverse @ train.mean(0)
    own = torch.stack([reference.curvature("ggn", model, x[[i]], y[[i]]) @ moved for i in range(12)])
    scale = float((train @ inverse @ test.T).abs().max())
    found = scores(METHOD, [member], split, damping=0.0)[0]
    # every residual is met exactly by 12 rows: what is left of the corrected gradients is rounding error
    np.testing.assert_allclose(found, (train + own) @ inverse @ test.T, atol=1e-3 * scale)


def test_a_relative_damping_counts_mean_squared_gradients():
    member, split = problem("two classes")
    _, train, _ = explicit(member, split, "fisher")
    relative = scores(METHOD, [member], split, damping=3.0, relative=True)[0]
    close(relative, scores(METHOD, [member], split, damping=3.0 * float(train.square().mean()))[0])


def test_a_hessian_of_too_many_parameters_is_refused(monkeypatch):
    monkeypatch.setattr(curvatures, "MOST_PARAMETERS", 10)
    with pytest.raises(ValueError, match="103 parameters; an exact Hessian"):
        scores(METHOD, [problem("three classes")[0]], toy_split(), curvature="hessian")
