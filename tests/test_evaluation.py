"""Evaluation: correlations as scipy computes them, intervals that cover, ceilings that hold, and no leaks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from attriflow.evaluation import _correlation, disjoint, lds, leave_one_out
from attriflow.evaluation._correlation import Correlations, Resamples, ceiling
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


def test_differences_of_scores_on_one_truth_have_intervals_from_paired_resamples():
    scores, truth = toy(s=40, noise=4.0)
    worse = scores + 0.1 * np.random.default_rng(1).standard_normal(scores.shape)
    options = OPTIONS | {"resamples": 2000}
    one, other = (
        next(iter(lds.evaluate([(name, each)], truth, **options))) for name, each in (("a", scores), ("b", worse))
    )
    assert one["value"] == pytest.approx(one["resampled"].mean(), abs=1e-5)
    np.testing.assert_allclose(np.quantile(one["resampled"], [0.025, 0.975]), [one["low"], one["high"]], atol=1e-5)
    low, high = np.quantile(one["resampled"] - other["resampled"], [0.025, 0.975])
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
@given(st.integers(0, 10**6), st.integers(4, 20), st.booleans())
def test_resampled_correlations_equal_scipy_on_the_drawn_rows(seed, s, tied):
    random = np.random.default_rng(seed)
    truth, predictions = random.standard_normal((2, s, 3))
    if tied:
        predictions = np.round(predictions)
    drawn = random.multinomial(s, np.full(s, 1 / s))
    places = np.repeat(np.arange(s), drawn)
    one = Resamples(drawn[None].astype(np.float32), np.ones((1, 3), np.float32))
    correlations = Correlations({"x": truth}, one, ranks=True)
    standard = correlations._standard(predictions, one.rows), correlations._standard(truth, one.rows)
    found = np.einsum("mbs,mbs->m", *standard)
    for test in range(3):
        if np.ptp(predictions[places, test]) == 0 or np.ptp(truth[places, test]) == 0:
            assert found[test] == 0
        else:
            expected = stats.spearmanr(predictions[places, test], truth[places, test]).statistic
            assert found[test] == pytest.approx(expected, abs=1e-5)


def test_intervals_cover_the_value_of_many_subsets():
    """Of 40 experiments, nearly all 90 % intervals hold the LDS that 1600 subsets give."""
    scores, endless = toy(s=1600, r=1, m=40, noise=4.0, seed=1)
    true = rows(lds, scores, endless, resamples=1)["loss"]["value"]
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


def test_a_constant_prediction_counts_as_zero_and_a_constant_truth_is_refused():
    scores, truth = toy()
    scores[:, 2] = 0
    per_test = Correlations({"x": truth["loss"].mean(1)}, Resamples.draw(0, 2, 12, 5), ranks=True)
    assert per_test.each(truth["masks"] @ scores)["x"][0, 2] == 0
    truth["loss"][:, :, 3] = 1.5
    with pytest.raises(ValueError, match="loss of test example 3 is the same in all 12 rows"):
        rows(lds, scores, truth)


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
    monkeypatch.setattr(_correlation, "_CHUNK", 2)
    for output, row in rows(lds, scores, truth).items():
        np.testing.assert_allclose(row.pop("resampled"), whole[output].pop("resampled"), atol=1e-6)
        assert row == pytest.approx(whole[output] | {"point": "p", "output": output}, abs=1e-6)


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
