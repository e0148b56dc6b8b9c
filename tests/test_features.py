"""Methods that look at features in place of gradients: nearest neighbours and representer points."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from attriflow.features import last_layer, penultimate
from attriflow.scores import knn_shapley, rps


def vote(matches: list[bool], neighbours: int) -> float:
    """The share of K votes that the nearest of some examples (in order) give the right label."""
    return sum(matches[:neighbours]) / neighbours


def by_definition(n: int, utility: Callable[[list[int]], float]) -> list[float]:
    """The mean over all orders of entering of what an example's entry changes; who is there is told nearest first."""
    values = [0.0] * n
    for entering in itertools.permutations(range(n)):
        for place, who in enumerate(entering):
            gain = utility(sorted(entering[: place + 1])) - utility(sorted(entering[:place]))
            values[who] += gain / math.factorial(n)
    return values


@settings(deadline=None, max_examples=30)
@given(matches=st.lists(st.booleans(), min_size=2, max_size=6), neighbours=st.integers(1, 6))
def test_knn_shapley_is_the_mean_over_all_orders_of_entering(matches, neighbours):
    neighbours = min(neighbours, len(matches))
    member = {"order": np.arange(len(matches), dtype=np.int32)[None], "matches": np.array([matches])}
    (found,) = knn_shapley.score([member], neighbours=neighbours)
    expected = by_definition(len(matches), lambda who: vote([matches[i] for i in who], neighbours))
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-12)


def error(targets: list[float], wanted: float, neighbours: int) -> float:
    """Minus the squared error of the sum of the K nearest targets over K."""
    return -((sum(targets[:neighbours]) / neighbours - wanted) ** 2)


@settings(deadline=None, max_examples=30)
@given(
    targets=st.lists(st.floats(-3, 3), min_size=2, max_size=6),
    wanted=st.floats(-3, 3),
    neighbours=st.integers(1, 6),
)
def test_knn_shapley_of_a_regression_is_the_mean_over_all_orders_of_entering(targets, wanted, neighbours):
    neighbours = min(neighbours, len(targets))
    order = np.arange(len(targets), dtype=np.int32)[None]
    member = {"order": order, "targets": np.array([targets]), "wanted": np.array([wanted])}
    (found,) = knn_shapley.score([member], neighbours=neighbours)
    expected = by_definition(len(targets), lambda who: error([targets[i] for i in who], wanted, neighbours))
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-11)


@pytest.mark.parametrize("features", ["penultimate", "input"])
def test_knn_shapley_orders_by_distance_and_adds_up_to_the_vote(members, split, features):
    prepared = knn_shapley.prepare(members[0], split, features=features)
    space = [torch.from_numpy(x).double().flatten(1) for x in (split.train_x, split.test_x)]
    if features == "penultimate":
        space = [penultimate(members[0].model(), x) for x in (split.train_x, split.test_x)]
    for t, order in enumerate(prepared["order"]):
        distances = (space[0] - space[1][t]).norm(dim=1)
        assert (distances[order.astype(int)].diff() >= 0).all()
        assert np.array_equal(prepared["matches"][t], split.train_y[order] == split.test_y[t])
    (found,) = knn_shapley.score([prepared], neighbours=3)
    np.testing.assert_allclose(found.sum(0), prepared["matches"][:, :3].mean(1))


def test_more_neighbours_than_examples_are_refused(members, split):
    with pytest.raises(ValueError, match=r"neighbours: 41 is more than the 40 training examples"):
        list(knn_shapley.score([knn_shapley.prepare(members[0], split)], neighbours=41))


@pytest.mark.parametrize("targets", ["model", "labels"])
def test_representer_values_add_up_to_the_refitted_layers_logits(members, split, targets):
    """Theorem 3.1 is an identity at the minimum; the minimum is found again here by plain gradient descent."""
    model = members[0].model()
    train, test = (nn.functional.pad(penultimate(model, x), (0, 1), value=1.0) for x in (split.train_x, split.test_x))
    wanted = torch.softmax(model(torch.from_numpy(split.train_x).double()), -1).detach()
    if targets == "labels":
        wanted = nn.functional.one_hot(torch.from_numpy(split.train_y)).double()
    weights = torch.zeros(3, train.shape[1], dtype=torch.float64)
    for _ in range(30_000):
        slope = (torch.softmax(train @ weights.T, -1) - wanted).T @ train / 40 + 2 * 0.01 * weights
        weights -= 0.2 * slope
    expected = (test @ weights.T).gather(1, torch.from_numpy(split.test_y)[:, None])[:, 0]
    (found,) = rps.score([rps.prepare(members[0], split, l2=0.01, targets=targets)])
    np.testing.assert_allclose(found.sum(0), expected, rtol=1e-4)


def test_a_model_that_does_not_end_with_a_linear_layer_is_refused(split):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Tanh())
    with pytest.raises(ValueError, match=r"does not end with a linear layer"):
        last_layer(model, split.train_x)
