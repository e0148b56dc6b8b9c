"""Why a damping is best, along the dampings: where everything is linear, and against finite differences."""

import numpy as np
import pytest
from test_selection import all_subsets, centred, dual, groups, outputs, powers

from attriflow import mechanism

OPTIONS = {"confidence": 0.95}
DAMPINGS = np.geomspace(1e-5, 1e2, 29)


def scanned(masks, measured, dampings=DAMPINGS, spectrum=None, gradients=None) -> dict[str, np.ndarray]:
    """The columns of a scan."""
    train, test = gradients or centred()
    spectrum = spectrum or dual(train, test)
    found = mechanism.scan(measured, lambda each: groups(masks, train, test, each), spectrum, dampings, **OPTIONS)
    return {name: np.array([row[name] for row in found]) for name in found[0]}


def numerical(masks, measured) -> np.ndarray:
    """The slope of the mean correlation by the logarithm of the damping, (d,)."""
    step = 1e-4
    below, above = (scanned(masks, measured, DAMPINGS * np.exp(sign * step))["correlation"] for sign in (-1, 1))
    return (above - below) / (2 * step)


@pytest.mark.parametrize("seed", range(3))
def test_the_slope_is_that_of_finite_differences_over_any_subsets(seed):
    masks = all_subsets(8, 4)[np.random.default_rng(seed).permutation(70)[:20]]
    measured = outputs(seed, masks)
    np.testing.assert_allclose(scanned(masks, measured)["slope"], numerical(masks, measured), atol=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_over_all_subsets_of_a_size_the_moments_give_the_slope(seed):
    masks = all_subsets(8, 4)
    found = scanned(masks, outputs(seed, masks))
    np.testing.assert_allclose(found["slope_by_moments"], found["slope"], atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_pooled_ratio_is_above_the_mean_indicator_where_the_mean_correlation_rises(seed):
    masks = all_subsets(8, 4)
    found = scanned(masks, outputs(seed, masks))
    there = np.isfinite(found["pooled_ratio"]) & (np.abs(found["slope"]) > 1e-9)
    assert there.any()
    assert ((found["pooled_ratio"] > found["xi_1"]) == (found["slope"] > 0))[there].all()


def linear(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All half-subsets and outputs that are the sum of weights (n, m) of the examples in them."""
    masks = all_subsets(8, 4)
    return masks, masks @ weights


def test_where_retraining_is_influence_without_damping_every_damping_is_too_much():
    train, test = centred()
    found = scanned(*linear(powers(train, test, 0.0)[0]), np.geomspace(1e-12, 1e-4, 9))
    assert found["correlation"][0] == pytest.approx(1, abs=1e-9)
    assert (np.diff(found["correlation"]) < 0)[4:].all()
    assert (found["rises"] == 0)[4:].all()


def test_where_retraining_is_influence_at_a_damping_the_correlation_is_highest_there():
    train, test = centred()
    found = scanned(*linear(powers(train, test, 0.1)[0]), np.array([0.05, 0.1, 0.2]))
    assert found["correlation"][1] == pytest.approx(1)
    assert found["slope"][0] > 1e-5
    assert found["slope"][1] == pytest.approx(0, abs=1e-9)
    assert found["slope"][2] < -1e-5
    assert found["rises"][[0, 2]].tolist() == [1, 0]
    assert found["pooled_ratio"][1] == pytest.approx(found["xi_1"][1])
    assert found["ratio"][0] > found["xi_1"][0]


def test_outputs_that_are_linear_in_the_subset_give_the_covariance_of_the_note():
    r"""o_k is $g^\top (C + \lambda I)^{-k} b$ with b the covariance of summed gradients with the output."""
    train, test = centred()
    weights = np.random.default_rng(0).standard_normal((8, 3))
    masks, measured = linear(weights)
    b = 4 * 4 / (8 * 7) * train.T @ (weights - weights.mean(0))  # a (n - a) / (n (n - 1)) of the sum over examples
    found = mechanism.mechanism(measured, [groups(masks, train, test, 0.1)], dual(train, test), np.array([0.1]))
    inverse = np.linalg.inv(train.T @ train / 8 + 0.1 * np.eye(5))
    for o, matrix in ((found.o_1, inverse), (found.o_2, inverse @ inverse)):
        np.testing.assert_allclose(o[0], np.einsum("mp,pq,qm->m", test, matrix, b), rtol=1e-9)


def test_test_examples_without_indicator_or_with_constant_outputs_are_left_out_and_counted():
    train, test = centred()
    masks = all_subsets(8, 4)
    measured, spectrum = outputs(0, masks), dual(train, test)
    alone = scanned(masks, measured[:, :1], gradients=(train, test[:1]))
    spectrum.weights[:, 1] = 0
    measured[:, 2] = 5
    found = scanned(masks, measured, spectrum=spectrum)
    assert (found["test_examples"][0], found["without_indicator"][0], found["constant"][0]) == (1, 1, 1)
    np.testing.assert_allclose(found["correlation"], alone["correlation"])
    np.testing.assert_allclose(found["ratio"], alone["ratio_mean"])
    assert np.isnan(found["ratio_error"]).all()
    measured[:, 0] = 5
    with pytest.raises(ValueError, match="each of 3 test examples has no indicator or the same output"):
        scanned(masks, measured, spectrum=spectrum)


def test_infinite_ratios_are_in_the_median_and_not_in_the_mean():
    found = mechanism._of_ratios(np.array([1.0, 2.0, 3.0, np.inf, np.inf]), 0.9)
    assert (found["ratio_25"], found["ratio"], found["ratio_75"]) == (2, 3, np.inf)
    assert (found["ratio_mean"], found["ratio_finite"]) == (2, 3)
    assert 1 <= found["ratio_low"] <= 2 and found["ratio_high"] == np.inf


@pytest.mark.parametrize("grid", [[1e-7, 1e-6, 3e-6, 1.0, 10.0], [0.3], [0.2, 0.1]])
def test_dampings_are_the_grid_and_four_a_decade_between(grid):
    found = mechanism.dampings(grid)
    assert set(grid) <= set(found)
    assert (np.diff(found) > 0).all()
    assert (found[0], found[-1]) == (min(grid), max(grid))
    assert (np.diff(np.log10(found)) < 0.25 + 1e-6).all()
    assert len(found) <= 1 + np.ceil(4 * np.log10(max(grid) / min(grid))) + len(grid)


def test_outputs_are_minus_the_mean_loss_of_the_repeats():
    loss = np.array([[[1.0, 2.0], [3.0, 6.0]]])  # (s, r, m)
    np.testing.assert_array_equal(mechanism.outputs({"loss": loss}), [[-2.0, -4.0]])
