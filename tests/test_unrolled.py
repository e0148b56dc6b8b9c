"""Further training, unrolled: against explicit steps of gradient descent, and its two limits."""

import numpy as np
import pytest
import reference
import torch
from test_modes import TASKS, explicit, problem
from test_scores import close, scores

from attriflow.scores import unrolled

KINDS = ["fisher", "ggn", "hessian"]


def descended(matrix: torch.Tensor, train: torch.Tensor, rate: float, steps: int) -> torch.Tensor:
    """(n, p): minus the change by gradient descent of a little weight more on each example, step by step."""
    moved = torch.zeros_like(train)
    for _ in range(steps):
        moved = moved + rate * (train - moved @ matrix)
    return moved


@pytest.mark.parametrize("steps", [1, 2, 3, 50, 501])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("share", [0.01, 0.6, 1.0])
def test_it_is_the_derivative_of_explicit_gradient_descent(task, kind, steps, share):
    member, split = problem(task, scale=1.0)
    matrix, train, test = explicit(member, split, kind)
    values = torch.linalg.eigvalsh(matrix)
    rate = share * 2 / float(values[-1]) * (1 - 1e-9)
    if kind == "hessian" and steps * np.log1p(-rate * float(values[0])) > 10:
        rate = np.expm1(10 / steps) / -float(values[0])  # negative modes grow without end
    expected = descended(matrix, train, rate, steps) @ test.T
    close(scores("unrolled", [member], split, curvature=kind, steps=steps, learning_rate=rate)[0], expected)


@pytest.mark.parametrize("n", [12, 40, 300])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", TASKS)
def test_one_step_is_grad_dot_times_the_rate(task, kind, n):
    member, split = problem(task, n=n, scale=1.0)
    found = scores("unrolled", [member], split, curvature=kind, steps=1, learning_rate=1e-3)[0]
    close(found, 1e-3 * scores("grad_dot", [member], split)[0], rtol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_few_steps_at_a_tiny_rate_are_grad_dot_times_both(task):
    member, split = problem(task)
    found = scores("unrolled", [member], split, steps=7, learning_rate=1e-14)[0]
    close(found, 7e-14 * scores("grad_dot", [member], split)[0], rtol=1e-5)


@pytest.mark.parametrize("kind", ["fisher", "ggn"])
@pytest.mark.parametrize("task", TASKS)
def test_endless_training_is_influence_without_damping(task, kind):
    member, split = problem(task, n=12, scale=1.0)
    rate = 1.9 / float(torch.linalg.eigvalsh(explicit(member, split, kind)[0])[-1])
    found = scores("unrolled", [member], split, curvature=kind, steps=10**15, learning_rate=rate)[0]
    close(found, scores("influence", [member], split, curvature=kind, damping=0.0)[0], rtol=1e-3)


def test_what_lies_outside_of_all_modes_is_trained_as_fast_as_it_began():
    """An example that the model is sure is another adds no Gauss-Newton curvature that its gradient could meet."""
    from test_modes import certain_of_another

    member, split = certain_of_another("two classes", 900.0)
    matrix, train, test = explicit(member, split, "ggn")
    rate = 1 / float(torch.linalg.eigvalsh(matrix)[-1])
    found = scores("unrolled", [member], split, steps=30, learning_rate=rate)[0]
    close(found, descended(matrix, train, rate, 30) @ test.T)


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 1000, 1001])
def test_the_sum_of_powers_is_that_of_its_terms(steps):
    x = np.concatenate([[-1e-3, 1e-18, 1e-9, 0.3, 1.0, 1.0 + 1e-12, 1.5, 2.0 - 1e-12, 2.0], np.linspace(0.1, 1.9, 7)])
    terms = sum((1 - x.astype(np.longdouble)) ** j for j in range(steps))
    found = unrolled._sum_of_powers(x, steps)
    np.testing.assert_allclose(found, terms.astype(float), rtol=1e-10, atol=1e-11)


def test_a_rate_that_diverges_is_refused_and_the_one_it_names_does():
    member, split = problem("regression")
    prepared = unrolled.prepare(member, split)
    with pytest.raises(ValueError, match=r"learning_rate 100.0: gradient descent diverges .* at most \S+$") as raised:
        next(unrolled.score([prepared], steps=9, learning_rate=100.0))
    named = float(str(raised.value).rpartition(" ")[2]) * (1 - 1e-5)
    assert np.isfinite(next(unrolled.score([prepared], steps=9, learning_rate=named))).all()


def test_negative_modes_that_leave_float32_are_refused_and_the_steps_they_name_do():
    member, split = problem("three classes", scale=1.0)
    values = torch.linalg.eigvalsh(reference.curvature("hessian", member.model(), split.train_x, split.train_y))
    rate = 1 / float(values[-1])
    prepared = unrolled.prepare(member, split, curvature="hessian")
    with pytest.raises(ValueError, match=r"steps: 100000 asked for, .*; use at most \d+, or curvature 'ggn'") as raised:
        next(unrolled.score([prepared], steps=100_000, learning_rate=rate))
    named = int(str(raised.value).split("at most ")[1].split(",")[0])
    assert np.isfinite(next(unrolled.score([prepared], steps=named, learning_rate=rate))).all()


def test_steps_and_rates_share_what_is_prepared():
    member, split = problem("regression")
    prepared = unrolled.prepare(member, split)
    few, many = (next(unrolled.score([prepared], steps=each, learning_rate=1e-3)) for each in (1, 100))
    assert few.shape == many.shape == (40, 7)
    assert not np.allclose(many, 100 * few, rtol=0.1)
