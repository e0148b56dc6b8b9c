"""Gold scores: what further training says, and how predictions agree with it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from attriflow import gold
from attriflow.ground_truth import further_training

L, R, A, M = 8, 6, 3, 5
AMOUNTS = {"learning_rate": 0.1, "batch_size": 10}


def truth(*, diverged=(), resolution=0.0) -> dict[str, np.ndarray]:
    """Random arrays as the ground_truth room keeps them; `diverged` names (left-out place or -1, seed)."""
    random = np.random.default_rng(0)
    loss = random.standard_normal((L, R, A, M)) + 3 * random.standard_normal((L, 1, A, M))
    full = random.standard_normal((R, A, M))
    for place, seed in diverged:
        (full[seed] if place < 0 else loss[place, seed])[:] = np.nan
    return {
        "left_out": np.arange(0, 2 * L, 2),
        "loss": loss,
        "full": full,
        "dropped": np.array([[2 * max(place, -1), seed, 7] for place, seed in diverged]).reshape(-1, 3),
        "amounts": np.array([0.1, 1.0, 2.0]),
        "steps": np.array([1, 4, 8]),
        "resolution": np.full((A, M), resolution),
    }


def predictions() -> np.ndarray:
    random = np.random.default_rng(1)
    return gold.of_further_training(truth())["centred"].mean[:, 1] + random.standard_normal((L, M))


def one(metric: str, x: np.ndarray, y: np.ndarray) -> float:
    """The metric of two vectors, by the book."""
    if metric == "cosine":
        return x @ y / np.sqrt((x @ x) * (y @ y))
    return {"pearson": scipy.stats.pearsonr, "spearman": scipy.stats.spearmanr}[metric](x, y).statistic


def rows(truths, predicted) -> pd.DataFrame:
    return pd.DataFrame(gold.measurements(truths, predicted, gold.compare(truths), 0.9))


def test_adjustments_are_those_of_the_paper():
    arrays = truth()
    found = gold.of_further_training(arrays)
    np.testing.assert_allclose(found["full_run"].scores[3, 2], arrays["loss"][3, 2] - arrays["full"][2])
    difference = found["full_run"].scores - found["full_run"].scores.mean(0)
    np.testing.assert_allclose(found["centred"].scores, difference, atol=1e-12)  # the full run cancels
    np.testing.assert_allclose(found["centred"].scores.sum(0), 0, atol=1e-12)


@pytest.mark.parametrize("metric", gold.METRICS)
@pytest.mark.parametrize("adjustment", gold.ADJUSTMENTS)
def test_agreement_is_that_of_the_formulas(metric, adjustment):
    truths, predicted = gold.of_further_training(truth()), predictions()
    found = gold.Comparison(truths[adjustment], metric)(predicted)
    mean = truths[adjustment].scores.mean(1)
    expected = [[one(metric, mean[:, a, m], predicted[:, m]) for m in range(M)] for a in range(A)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("metric", ["cosine", "pearson"])
def test_means_over_some_seeds_are_compared_as_if_there_were_no_others(metric):
    truths, predicted = gold.of_further_training(truth()), predictions()
    weights = np.array([[0.5, 0.5, 0, 0, 0, 0], [0, 1 / 3, 0, 2 / 3, 0, 0]])
    found = gold.Comparison(truths["full_run"], metric).of_seeds(predicted, weights)
    for row, of in zip(found, weights, strict=True):
        mean = np.einsum("r,lram->lam", of, truths["full_run"].scores)
        expected = [[one(metric, mean[:, a, m], predicted[:, m]) for m in range(M)] for a in range(A)]
        np.testing.assert_allclose(row, expected, atol=1e-12)


def test_rows_hold_mean_and_standard_error_over_tests():
    truths, predicted = gold.of_further_training(truth()), predictions()
    table = rows(truths, predicted)
    assert len(table) == 2 * 3 * A
    row = table[(table.adjustment == "centred") & (table.metric == "pearson") & (table.epochs == 1.0)].iloc[0]
    each = [one("pearson", truths["centred"].mean[:, 1, m], predicted[:, m]) for m in range(M)]
    assert row["mean"] == pytest.approx(np.mean(each))
    assert row["sem"] == pytest.approx(np.std(each, ddof=1) / np.sqrt(M))
    assert (row.tests, row.constant, row.unresolved, row.left_out, row.seeds, row.steps) == (M, 0, 0, L, R, 4)
    assert row.low < row["mean"] < row.high
    assert table[table.metric == "spearman"].low.isna().all()


def test_one_seed_has_no_interval():
    arrays = truth()
    arrays |= {"loss": arrays["loss"][:, :1], "full": arrays["full"][:1]}
    table = rows(gold.of_further_training(arrays), predictions())
    assert table.low.isna().all()
    assert table["mean"].notna().all()


def test_the_peak_is_of_means_over_blocks_that_do_not_overlap():
    truths, predicted = gold.of_further_training(truth()), predictions()
    found = {
        (row["adjustment"], row["seeds_averaged"]): row
        for row in gold.by_seeds(truths, predicted, gold.compare(truths))
    }
    assert [size for adjustment, size in found if adjustment == "centred"] == [1, 2, 5, 6]
    for size, blocks in {2: [(0, 1), (2, 3), (4, 5)], 5: [(0, 1, 2, 3, 4)]}.items():
        means = [truths["centred"].scores[:, list(block)].mean(1) for block in blocks]  # (l, a, m)
        by_amount = [
            np.mean([one("cosine", mean[:, a, m], predicted[:, m]) for mean in means for m in range(M)])
            for a in range(A)
        ]
        row = found["centred", size]
        assert row["value"] == pytest.approx(max(by_amount))
        assert row["epochs"] == [0.1, 1.0, 2.0][int(np.argmax(by_amount))]


# --- what is left out, and said ------------------------------------------------------------------------------


def test_a_constant_gold_vector_is_dropped_and_counted():
    arrays = truth()
    arrays["loss"][:, :, 1, 2] = arrays["loss"][0, :, 1, 2]
    table = rows(gold.of_further_training(arrays), predictions())
    assert (table[table.epochs == 1.0][["tests", "constant"]] == [M - 1, 1]).all().all()
    assert (table[table.epochs != 1.0][["tests", "constant"]] == [M, 0]).all().all()


def test_a_constant_prediction_is_dropped_and_counted():
    predicted = predictions()
    predicted[:, 3] = 0.7
    table = rows(gold.of_further_training(truth()), predicted)
    assert (table[["tests", "constant"]] == [M - 1, 1]).all().all()
    predicted[:] = 0.7
    table = rows(gold.of_further_training(truth()), predicted)
    assert table["mean"].isna().all()
    assert (table.tests == 0).all()


def test_scores_below_the_resolution_are_no_correlation():
    arrays = truth()
    arrays["resolution"][0, 1] = 1e3
    table = rows(gold.of_further_training(arrays), predictions())
    first = table[table.epochs == 0.1]
    assert (first[["tests", "unresolved"]] == [M - 1, 1]).all().all()
    assert first.below_resolution.tolist() == pytest.approx([1 / M] * 6)
    arrays["resolution"][:] = 1e3
    table = rows(gold.of_further_training(arrays), predictions())
    assert table["mean"].isna().all()
    assert (table.below_resolution == 1).all()
    truths = gold.of_further_training(arrays)
    assert np.isnan([row["value"] for row in gold.by_seeds(truths, predictions(), gold.compare(truths))]).all()


def test_averaging_seeds_resolves_more():
    arrays = truth(resolution=1.0)
    few = arrays | {"loss": arrays["loss"][:, :1], "full": arrays["full"][:1]}
    assert (
        gold.of_further_training(arrays)["centred"].below.mean() < gold.of_further_training(few)["centred"].below.mean()
    )


def test_a_seed_in_which_a_run_diverged_is_left_out_for_all():
    arrays = truth(diverged=[(2, 4)])
    found = gold.of_further_training(arrays)
    assert found["centred"].scores.shape == (L, R - 1, A, M)
    np.testing.assert_allclose(found["centred"].scores.sum(0), 0, atol=1e-12)
    assert set(rows(found, predictions()).dropped_runs) == {1}
    assert gold.of_further_training(truth(diverged=[(-1, 0)]))["centred"].seeds == R - 1


def test_an_example_that_diverges_for_most_seeds_is_left_out_itself():
    found = gold.of_further_training(truth(diverged=[(2, seed) for seed in range(R)]))["centred"]
    assert found.scores.shape == (L - 1, R, A, M)
    assert 4 not in found.left_out


def test_too_many_divergences_are_refused():
    every = [(place, seed) for place in range(L) for seed in range(R)]
    with pytest.raises(ValueError, match=r"48 of 48 runs without an example and 0 of 6 full runs of further training"):
        gold.of_further_training(truth(diverged=every))
    with pytest.raises(ValueError, match="6 of 6 full runs"):
        gold.of_further_training(truth(diverged=[(-1, seed) for seed in range(R)]))


def test_predictions_of_another_size_or_not_finite_are_refused():
    found = gold.of_further_training(truth())["centred"]
    with pytest.raises(ValueError, match=r"scores a have shape \(20, 4\), expected \(20, 5\)"):
        list(gold.points([("a", np.zeros((20, 4)))], found))
    with pytest.raises(ValueError, match="scores a are of 10 examples; 14 was left out"):
        list(gold.points([("a", np.zeros((10, M)))], found))
    with pytest.raises(ValueError, match="scores a are not finite"):
        list(gold.points([("a", np.full((20, M), np.nan))], found))


# --- other tables --------------------------------------------------------------------------------------------


def test_a_truth_agrees_with_itself_and_retraining_is_compared_at_every_amount():
    further = gold.of_further_training(truth())
    table = pd.DataFrame(gold.agreement(further, further))
    assert len(table) == 2 * 3 * A
    assert table["mean"].tolist() == pytest.approx([1.0] * len(table))
    changes = further["full_run"].mean[:, 1][:, None]  # (l, 1, m)
    retrained = gold.of_retraining({"left_out": np.arange(0, 2 * L, 2), "loss": changes}, np.array([2, 4, 10]))
    table = pd.DataFrame(gold.agreement(further, retrained))
    assert (table.left_out == 3).all()
    assert len(table) == 2 * 3 * A
    assert table[table.epochs == 1.0]["mean"].tolist() == pytest.approx([1.0] * 6)


def test_noise_is_the_variance_of_a_seed_over_the_size_of_the_mean():
    found = gold.of_further_training(truth())["full_run"]
    assert all(np.isnan(row["mean"]) for row in gold.noise(replace(found, scores=found.scores[:, :1]), "full_run"))
    row = list(gold.noise(found, "full_run"))[1]
    each = [found.scores[:, :, 1, m].var(1, ddof=1).mean() / (found.mean[:, 1, m] ** 2).mean() for m in range(M)]
    assert row["mean"] == pytest.approx(np.mean(each))


def test_a_profile_is_sorted_and_brought_to_one():
    values = np.array([[1.0, 0.0, -4.0], [2.0, 0.0, 1.0], [-1.0, 0.0, 2.0]])
    found = list(gold.profile(values))
    assert [row["mean"] for row in found] == pytest.approx([(1 + 0.5) / 2, (0.5 + 0.25) / 2, (-0.5 - 1) / 2])
    assert {row["tests"] for row in found} == {2}


def test_hyperparameters_do_not_hide_columns():
    assert gold.named({"epochs": 3, "damping": 0.1, "damping_rule": ""}) == {
        "epochs_of_method": 3, "damping": 0.1, "damping_rule": "",
    }  # fmt: skip


# --- the kind ------------------------------------------------------------------------------------------------


def test_seeds_share_examples_and_a_truth_does_not_depend_on_its_name():
    runs = further_training.runs(40, "ground_truth/a", 0, examples=5, seeds=3)
    assert runs == further_training.runs(40, "ground_truth/b", 0, examples=5, seeds=3)
    assert [run.left_out for run in runs[0]] == [run.left_out for run in runs[2]]
    assert {run.stream for run in runs[1]} == {"further/1"}
    assert further_training.runs(40, "a", 0, examples=5, seeds=1)[0] == runs[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"amounts": [1, 0.5]}, r"amounts: at least one, and ascending, not \[1, 0.5\]"),
        ({"amounts": [1, 1]}, r"ascending, not \[1, 1\]"),
        ({"amounts": []}, r"at least one"),
        ({"amounts": [0.1, 0.12, 1]}, r"amounts: \[0.1\] epochs round to the same step as the next; an epoch has 4"),
        ({"optimiser": "adam", "momentum": 0.9, "amounts": [1]}, "momentum: only sgd takes it; adam must leave it 0"),
    ],
)
def test_wrong_amounts_and_momentum_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        further_training.training(40, **AMOUNTS | changes)


def test_wrong_examples_are_refused():
    with pytest.raises(ValueError, match=r"examples: \[40\] lies beyond the 40 training examples \(0 to 39\)"):
        further_training.runs(40, "a", 0, examples=[3, 40])
    with pytest.raises(ValueError, match="examples: 1 left out; scores are centred on their mean, so at least 2"):
        further_training.runs(40, "a", 0, examples=[3])


def test_blocks_are_laid_out_by_left_out_example_and_seed():
    runs = further_training.runs(40, "a", 0, examples=[3, 17], seeds=2)
    outputs = {
        seed: {"loss": np.arange(3.0)[:, None, None] + 10 * seed + np.zeros((3, 4, 5)), "diverged": np.array([0, 0, 9])}
        for seed in (0, 1)
    }
    outputs[0]["diverged"][2] = 0
    arrays = further_training.collect(runs, outputs, 40, 0)
    assert arrays["left_out"].tolist() == [3, 17]
    assert arrays["loss"].shape == (2, 2, 4, 5)
    assert arrays["loss"][1, 1, 0, 0] == 12
    assert arrays["full"][1, 0, 0] == 10
    assert arrays["dropped"].tolist() == [[17, 1, 9]]
