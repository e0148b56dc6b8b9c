"""Evaluation: correlations as scipy computes them, intervals that cover, ceilings that hold, and no leaks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from attriflow import paired
from attriflow.evaluation import _correlation, disjoint, lds, leave_one_out
from attriflow.evaluation._correlation import Truth, ceiling, without_each, without_each_rank
from attriflow.intervals import Effects
from attriflow.registry import Registry
from attriflow.runs import Run

OPTIONS = {"seed": 0, "resamples": 200, "confidence": 0.95}


def toy(s=12, r=2, m=5, n=30, noise=0.1, seed=0):
    """Masks (s, n), scores (n, m), and losses (s, r, m) that the scores explain up to noise."""
    random = np.random.default_rng(seed)
    masks = np.argsort(random.random((s, n)), axis=1) < n // 2
    scores = random.standard_normal((n, m))
    losses = -(masks @ scores)[:, None] + noise * random.standard_normal((s, r, m))
    return scores, {"masks": masks, "loss": losses, "margin": -losses}


def rows(metric, scores, truth, **changes):
    return {row["output"]: row for row in metric.evaluate([("p", scores)], truth, **OPTIONS | changes)}


def test_lds_is_the_mean_spearman_correlation():
    scores, truth = toy(noise=3.0)
    groups = truth["masks"] @ scores
    expected = np.mean(
        [stats.spearmanr(groups[:, t], -truth["loss"].mean(1)[:, t]).statistic for t in range(scores.shape[1])]
    )
    found = rows(lds, scores, truth)
    assert found["loss"]["value"] == pytest.approx(expected, abs=1e-6)
    assert found["margin"]["value"] == pytest.approx(expected, abs=1e-6)
    assert (found["loss"]["rows"], found["loss"]["test_examples"]) == (12, 5)


@pytest.mark.parametrize("metric", [lds, leave_one_out])
def test_halves_are_the_values_on_rows_of_even_and_odd_number(metric):
    scores, truth = toy(noise=3.0)
    truth["left_out"] = np.arange(12)
    found = rows(metric, scores, truth)["loss"]
    for half, name in ((slice(0, None, 2), "first_half"), (slice(1, None, 2), "second_half")):
        part = {key: values[half] for key, values in truth.items()}
        assert found[name] == pytest.approx(rows(metric, scores, part)["loss"]["value"], abs=1e-5)


def test_differences_of_scores_on_one_truth_have_paired_intervals():
    scores, truth = toy(s=40, noise=4.0)
    worse = scores + 0.1 * np.random.default_rng(1).standard_normal(scores.shape)
    one, other = (next(lds.evaluate([(name, each)], truth, **OPTIONS)) for name, each in (("a", scores), ("b", worse)))
    low, high = paired.lost(Effects.stacked([one["effects"], other["effects"]]), 1, 0, 0.95)
    assert low <= one["value"] - other["value"] <= high
    assert high - low < (one["high"] - one["low"]) / 2


def test_outputs_that_are_linear_in_the_mask_have_lds_one():
    scores, truth = toy(noise=0.0)
    found = rows(lds, scores, truth)["loss"]
    assert found["value"] == pytest.approx(1)
    assert found["ceiling"] == pytest.approx(1)


def test_scores_of_the_wrong_sign_have_a_negative_lds():
    scores, truth = toy()
    assert rows(lds, -scores, truth)["loss"]["value"] < -0.9


def test_leave_one_out_is_the_mean_pearson_correlation():
    random = np.random.default_rng(0)
    scores = random.standard_normal((30, 5))
    left_out = np.array([3, 8, 20, 21])
    # tiny changes: what is left of nearly equal losses
    changes = 1e-9 * (scores[left_out][:, None] + random.standard_normal((4, 2, 5)))
    truth = {"left_out": left_out, "loss": changes, "margin": -changes}
    expected = np.mean([stats.pearsonr(scores[left_out][:, t], changes.mean(1)[:, t]).statistic for t in range(5)])
    found = rows(leave_one_out, scores, truth)
    assert found["loss"]["value"] == pytest.approx(expected, abs=1e-5)
    assert found["margin"]["value"] == pytest.approx(expected, abs=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(4, 20), st.booleans(), st.booleans())
def test_correlations_without_a_row_equal_scipy_on_the_others(seed, s, tied, ranks):
    random = np.random.default_rng(seed)
    one, other = random.standard_normal((2, s, 3))
    if tied:
        one, other = np.round(one), np.round(other)
    found = (without_each_rank if ranks else without_each)(one, other)
    correlation = stats.spearmanr if ranks else stats.pearsonr
    for left_out in range(s):
        for test in range(3):
            x, y = (np.delete(each[:, test], left_out) for each in (one, other))
            expected = correlation(x, y).statistic if np.ptp(x) > 0 and np.ptp(y) > 0 else 0
            assert found[left_out, test] == pytest.approx(expected, abs=1e-9)


def test_intervals_cover_the_value_of_many_subsets():
    """Of 40 experiments, nearly all 90 % intervals hold the LDS that 1600 subsets give."""
    scores, endless = toy(s=1600, r=1, m=40, noise=4.0, seed=1)
    true = Truth("loss", -endless["loss"], ranks=True).values(endless["masks"] @ scores)[0].mean()
    covered = 0
    for start in range(0, 1600, 40):
        part = {name: values[start : start + 40] for name, values in endless.items()}
        found = rows(lds, scores, part, confidence=0.9)["loss"]
        covered += found["low"] <= true <= found["high"]
    assert covered >= 33


def test_the_ceiling_is_what_a_perfect_prediction_reaches():
    scores, truth = toy(s=400, r=2, m=40, noise=4.0)
    found = rows(lds, scores, truth)["loss"]
    assert found["value"] == pytest.approx(found["ceiling"], abs=0.02)
    assert found["value"] < 0.9


def test_one_repeat_gives_no_ceiling():
    _, truth = toy(r=1)
    assert np.isnan(ceiling(truth["loss"], ranks=True))


# --- ties and constants --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-3, -7.0, 1e6 + 0.1, 1e-20, 1e20])
@pytest.mark.parametrize("metric", [lds, leave_one_out])
def test_scores_that_are_the_same_for_all_examples_have_correlation_zero(metric, value, number):
    scores, truth = toy(s=30)
    truth["left_out"] = np.arange(30)
    found = rows(metric, np.full_like(scores, value, dtype=number), truth)["loss"]
    assert (found["value"], found["low"], found["high"]) == (0, 0, 0)


@pytest.mark.parametrize("sizes", ["equal", "other"])
@pytest.mark.parametrize("offset", [0.0, 0.1, 1e6])
def test_sums_that_rounding_alone_tells_apart_are_ties(sizes, offset):
    """Whole numbers have exact sums; the same ones in tenths do not."""
    random = np.random.default_rng(3)
    _, truth = toy(s=60, n=40, m=6)
    if sizes == "other":
        truth["masks"] = random.random((60, 40)) < 0.5
    whole = random.integers(0, 3, (40, 6))
    found = rows(lds, whole * 0.1 + offset, truth)["loss"]
    exact = rows(lds, whole + round(offset * 10), truth)["loss"]
    assert found["value"] == pytest.approx(exact["value"], abs=1e-12)


@pytest.mark.parametrize(("scale", "offset"), [(1e-20, 0), (1e20, 0), (1e-300, 0), (1, 1e6), (1e-9, 0.1)])
@pytest.mark.parametrize("metric", [lds, leave_one_out])
def test_neither_the_unit_of_scores_nor_an_offset_matters(metric, scale, offset):
    scores, truth = toy(noise=3.0)
    truth["left_out"] = np.arange(12)
    expected = rows(metric, scores, truth)["loss"]
    found = rows(metric, scale * scores + offset, truth)["loss"]
    for name in ("value", "low", "high"):
        assert found[name] == pytest.approx(expected[name], abs=1e-6)


@pytest.mark.parametrize("metric", [lds, leave_one_out])
def test_a_test_example_with_constant_outputs_is_left_out_and_counted(metric, capsys):
    scores, truth = toy(noise=3.0)
    truth["left_out"] = np.arange(12)
    others = [0, 1, 2, 4]
    expected = rows(metric, scores[:, others], truth | {name: truth[name][..., others] for name in ("loss", "margin")})
    truth["loss"][:, :, 3] = 1.5
    found = rows(metric, scores, truth)
    assert found["loss"]["value"] == pytest.approx(expected["loss"]["value"])
    assert (found["loss"]["test_examples"], found["loss"]["constant"]) == (4, 1)
    assert (found["margin"]["test_examples"], found["margin"]["constant"]) == (5, 0)
    assert "loss of 1 of 5 test examples, the first being 3, is the same in all 12 rows" in capsys.readouterr().err


def test_outputs_that_are_constant_for_every_test_example_are_refused():
    scores, truth = toy()
    truth["margin"][:] = 0.5
    with pytest.raises(ValueError, match="margin is the same in all 12 rows for each of 5 test examples"):
        rows(lds, scores, truth)


def test_a_repeat_that_is_constant_stops_nothing():
    scores, truth = toy(s=30, noise=1.0)
    truth["loss"][:, 0, 3] = 1.5
    assert 0 < rows(lds, scores, truth)["loss"]["ceiling"] < 1


def test_a_constant_prediction_counts_as_zero():
    scores, truth = toy()
    scores[:, 2] = 0
    per_test = Truth("loss", -truth["loss"], ranks=True).values(truth["masks"] @ scores)
    assert (per_test[:, 2] == 0).all()
    assert (per_test[0, [0, 1, 3, 4]] > 0.9).all()


# --- intervals -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(1, 4), st.sampled_from([0.0, 0.3, 3.0]), st.booleans())
def test_an_interval_holds_its_value_within_one_or_there_is_none(seed, s, m, noise, tied):
    scores, truth = toy(s=s, m=m, noise=noise, seed=seed)
    truth["left_out"] = np.arange(s)
    if tied:
        truth |= {"loss": np.round(truth["loss"])}
    for metric in (lds, leave_one_out):
        try:
            found = rows(metric, scores, truth)
        except ValueError as error:
            assert "is the same in all" in str(error)
            continue
        for row in found.values():
            if row["rows"] < 5 or row["test_examples"] < 2:
                assert np.isnan([row["low"], row["high"]]).all()
            else:
                assert -1 <= row["low"] <= row["value"] <= row["high"] <= 1


def test_effects_of_many_subsets_and_test_examples_are_few_numbers_and_keep_variances():
    scores, truth = toy(s=40, m=30, noise=4.0)
    whole = next(lds.evaluate([("p", scores)], truth, **OPTIONS | {"resamples": 10**6}))
    few = next(lds.evaluate([("p", scores)], truth, **OPTIONS | {"resamples": 400}))
    assert few["effects"].crossed.shape == (400,)
    assert whole["effects"].crossed.shape == (40 * 30,)
    assert (few["low"], few["high"]) == (whole["low"], whole["high"])
    assert few["effects"].variance()[0] == pytest.approx(whole["effects"].variance()[0], rel=0.15)


def test_scores_of_another_shape_are_refused():
    scores, truth = toy()
    with pytest.raises(ValueError, match=r"scores p have shape \(29, 5\), expected \(30, 5\): training examples"):
        rows(lds, scores[:-1], truth)


@pytest.mark.parametrize("broken", ["scores", "loss"])
def test_values_that_are_not_finite_are_refused_by_index(broken):
    scores, truth = toy()
    (scores if broken == "scores" else truth["loss"])[4, 1] = np.nan
    with pytest.raises(ValueError, match=r"not finite at index \(4, "):
        rows(lds, scores, truth)


def test_every_metric_declares_the_ground_truth_that_it_reads():
    registry = Registry()
    for metric in registry.kinds("evaluation"):
        assert registry.constants("evaluation", metric)["TRUTH"] in registry.kinds("ground_truth")


def test_chunks_do_not_change_anything(monkeypatch):
    scores, truth = toy(noise=3.0)
    whole = rows(lds, scores, truth)
    monkeypatch.setattr(_correlation, "_HELD", 2 * 12**2)
    for output, row in rows(lds, scores, truth).items():
        np.testing.assert_array_equal(row.pop("effects").rows, whole[output].pop("effects").rows)
        assert row == whole[output]


# --- leaks ---------------------------------------------------------------------------------------------------

TRUTH = [Run("truth/0/0", subset="truth/subset/0", fraction=0.5), Run("truth/all")]


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (Run("truth/all"), "truth/all is also a model of the ground truth"),
        (Run("mine", subset="truth/subset/0", fraction=0.5), "same subset as ground truth truth/0/0"),
    ],
)
def test_a_member_that_shares_with_the_ground_truth_is_refused(member, message):
    with pytest.raises(ValueError, match=message):
        disjoint([Run("clean"), member], TRUTH, 20, 0)


def test_members_of_their_own_are_accepted():
    disjoint([Run("clean"), Run("half", subset="half/subset", fraction=0.5)], TRUTH, 20, 0)
