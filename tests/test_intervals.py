"""Intervals: known values, what stays inside of its range, and simulations in which they hold a known truth."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from attriflow import intervals
from attriflow.evaluation import lds
from attriflow.intervals import Effects

SIMULATION = runpy.run_path(str(Path(ROOT, "benchmarks/coverage.py")))


def crossed(s: int, m: int, seed: int = 0) -> np.ndarray:
    """Numbers (s, m) with effects of rows, of test examples, and of both."""
    random = np.random.default_rng(seed)
    return random.standard_normal((s, 1)) + random.standard_normal(m) + random.standard_normal((s, m))


def test_the_variance_of_a_mean_over_two_factors_is_that_of_the_analysis_of_variance():
    values = crossed(8, 5)
    rows, tests = values.mean(1, keepdims=True), values.mean(0)
    of_rows = 5 * np.square(rows - values.mean()).sum() / 7
    of_tests = 8 * np.square(tests - values.mean()).sum() / 4
    of_both = np.square(values - rows - tests + values.mean()).sum() / 28
    variance, degrees = Effects.of(values.mean(), values).variance()
    assert variance == pytest.approx((of_rows + of_tests - of_both) / 40)
    parts = of_tests**2 / 4 + of_rows**2 / 7
    assert degrees == pytest.approx((of_rows + of_tests - of_both) ** 2 / parts)


def test_a_mean_over_two_factors_varies_as_its_intervals_say():
    """Interactions alone: counted once, where a bootstrap of both factors counts them three times. Rows that seem to
    have an effect of their own by chance add a little."""
    random = np.random.default_rng(0)
    values = random.standard_normal((400, 20, 30))
    found = [Effects.of(each.mean(), each).variance()[0] for each in values]
    assert 1 / 600 <= np.mean(found) <= 1.25 / 600
    ends = np.array([Effects.of(each.mean(), each).interval(0.95) for each in values])
    assert 0.93 <= np.mean((ends[:, 0] <= 0) & (ends[:, 1] >= 0)) <= 0.975


def test_effects_of_a_difference_are_differences_of_effects():
    one, other = crossed(9, 6), crossed(9, 6, seed=1)
    whole = Effects.of(0.1, one - 0.5 * other)
    parts = Effects.of(0.2, one).minus(Effects.of(0.2, other), 0.5)
    assert parts.variance() == pytest.approx(whole.variance())
    assert parts.interval(0.9) == pytest.approx(whole.interval(0.9))


def test_joint_draws_have_the_variances_of_values_and_of_their_differences():
    one, other = crossed(40, 30), crossed(40, 30, seed=1)
    stack = Effects.stacked([Effects.of(1.0, one), Effects.of(2.0, one + 0.1 * other)])
    drawn = stack.drawn(20000, np.random.default_rng(0))
    assert drawn.mean(1) == pytest.approx([1, 2], abs=0.02)
    assert drawn[0].var() == pytest.approx(stack[0].variance()[0], rel=0.05)
    assert (drawn[1] - drawn[0]).var() == pytest.approx(stack[1].minus(stack[0]).variance()[0], rel=0.05)


@pytest.mark.parametrize(("s", "m"), [(4, 10), (1, 10), (10, 1)])
def test_too_few_rows_or_test_examples_give_no_interval(s, m):
    few = Effects.of(0.3, crossed(s, m))
    stack = Effects.stacked([few, few])
    for ends in (few.interval(0.95), few.of_correlation(0.95), few.of_ratio(few, 0.95)):
        assert np.isnan(ends).all()
    assert np.isnan(stack.drawn(3, np.random.default_rng(0))).all()
    assert np.isnan(Effects.unknown(0.3).interval(0.95)).all()


def test_a_ratio_to_itself_is_one_and_to_what_may_be_zero_has_no_interval():
    values = crossed(30, 20)
    sure, unsure = Effects.of(50.0, values + 50), Effects.of(values.mean(), values)
    assert sure.of_ratio(sure, 0.95) == (1, 1)
    assert np.isnan(sure.of_ratio(unsure, 0.95)).all()
    low, high = Effects.of(25.0, values / 2 + 25).of_ratio(sure, 0.95)
    assert low <= 0.5 <= high


def test_the_mean_of_normal_numbers_has_the_interval_of_student():
    values = np.random.default_rng(0).standard_normal(2000)
    expected = stats.t.interval(0.9, 1999, values.mean(), stats.sem(values))
    assert intervals.mean(values, 0.9) == pytest.approx(expected, abs=2e-3)
    assert intervals.mean(np.ones(5), 0.9) == (1, 1)
    assert np.isnan(intervals.mean(np.ones(1), 0.9)).all()


def test_an_interval_of_skewed_numbers_reaches_further_to_the_side_of_the_tail():
    values = np.random.default_rng(0).exponential(size=20)
    low, high = intervals.mean(values, 0.95)
    assert high - values.mean() > 1.2 * (values.mean() - low)
    turned = intervals.mean(-values, 0.95)
    assert (-turned[1], -turned[0]) == pytest.approx((low, high))


def test_a_share_of_no_example_is_not_sure_to_be_zero():
    low, high = intervals.share(np.zeros(20), 0.95)
    assert low == 0 and 0.1 < high < 0.25
    expected = stats.binomtest(300, 1000).proportion_ci(0.95, "wilson")
    assert intervals.share(np.arange(1000) < 300, 0.95) == pytest.approx((expected.low, expected.high), abs=1e-3)


def test_a_median_lies_between_order_statistics_and_may_be_infinite():
    values = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, np.inf, np.inf])
    low, high = intervals.median(values, 0.95)
    assert 2 <= low <= 3 and high >= 8
    assert intervals.median(np.r_[values, np.inf, np.inf], 0.99)[1] == np.inf
    assert np.isnan(intervals.median(np.arange(5.0), 0.95)).all()  # all of them hold it in 15 of 16 samples


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_intervals_of_shares_and_areas_hold_their_value_between_zero_and_one(one, other):
    one, other = np.array(one), np.array(other)
    low, high = intervals.share(one, 0.95)
    assert len(one) < 2 or 0 <= low <= one.mean() <= high <= 1
    right = (one[:, None] > other) + (one[:, None] == other) / 2
    low, high = intervals.area(right.mean(1), right.mean(0), 0.95)
    assert 0 <= low <= right.mean(1).mean() <= high <= 1


def test_a_bent_function_of_an_estimate_is_unbent():
    random, root = np.random.default_rng(0), lambda each: np.sqrt(np.maximum(each, 0))
    estimates = 1 + 0.3 * random.standard_normal(4000)
    plain = root(estimates).mean()
    better = np.mean([intervals.unbent(root, each, 0.09) for each in estimates])
    assert abs(better - 1) < 0.3 * abs(plain - 1)


# --- simulations ---------------------------------------------------------------------------------------------


def test_intervals_of_lds_and_of_differences_hold_the_truth():
    design = SIMULATION["Design"](20, 2, 10, 1.0, 1.0, common=0.3)
    for found in SIMULATION["of_correlations"](design, 200):
        assert 0.9 <= found.coverage <= 0.985, found


def test_the_ceiling_is_right_with_few_subsets():
    found = SIMULATION["ceilings"](SIMULATION["Design"](20, 2, 10, 1.0, 0.0, common=0.3), 60)
    assert found.estimate == pytest.approx(found.truth, abs=0.02)


def test_the_ceiling_of_noise_is_near_zero():
    random = np.random.default_rng(0)
    masks, scores = random.random((50, 30)) < 0.5, random.standard_normal((30, 20))
    options = {"seed": 0, "resamples": 100, "confidence": 0.95}
    truth = {"masks": masks, "loss": random.standard_normal((50, 2, 20))}
    assert 0 <= next(lds.evaluate([("p", scores)], truth, **options))["ceiling"] < 0.35


@pytest.mark.slow
def test_every_interval_holds_a_known_truth_about_as_often_as_it_says():
    """Each count of 300 is one that a coverage of .93 to .97 makes; the mean of all is near .95."""
    every = list(SIMULATION["results"](300))
    low, high = stats.binom.ppf(0.002, 300, 0.93) / 300, stats.binom.ppf(0.998, 300, 0.97) / 300
    assert [found for found in every if not low <= found.coverage <= high] == []
    assert 0.94 <= np.mean([found.coverage for found in every]) <= 0.96


@pytest.mark.slow
def test_ceilings_are_right_from_twenty_subsets_on():
    for design in SIMULATION["CEILINGS"]:
        found = SIMULATION["ceilings"](design, 200)
        assert found.estimate == pytest.approx(found.truth, abs=0.03), found
