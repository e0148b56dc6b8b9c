"""The variance of an ensemble: from simulated scores whose variances are known, and as an identity on average."""

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest

from attriflow import variance
from attriflow.variance import Moments

OPTIONS = {"confidence": 0.95}


def simulated(models=8, changes=6, *, shared=0.2, own=1.0, each=2.0, n=400, m=3, seed=0):
    """Members whose errors have a part that all share, one of their model and one of their change; the truth (n, m).

    In units of the variance of the truth: c_b = shared, c_w = shared + own, sigma² = shared + own + each.
    """
    random = np.random.default_rng(seed)
    truth = random.standard_normal((n, m))
    truth = (truth - truth.mean(0)) / truth.std(0)
    bias = shared**0.5 * random.standard_normal((n, m))
    members = []
    for _ in range(models):
        of_model = bias + own**0.5 * random.standard_normal((n, m))
        members += [truth + of_model + each**0.5 * random.standard_normal((n, m)) for _ in range(changes)]
    return members, truth


def random_products(models: int, changes: int, seed: int = 0) -> np.ndarray:
    errors = np.random.default_rng(seed).standard_normal((models * changes, 50))
    return (errors @ errors.T / 50).reshape(models, changes, models, changes)


def test_known_variances_are_found():
    members, truth = simulated(n=4000)
    moments = Moments.of(variance.products(members, truth, 8, 6).mean(0))
    np.testing.assert_allclose([moments.single, moments.within, moments.between], [3.2, 1.2, 0.2], rtol=0.05)


@pytest.mark.parametrize("models, changes", [(1, 1), (1, 6), (3, 2), (4, 6)])
def test_the_prediction_is_the_variance_of_the_mean(models, changes):
    known = Moments(np.float64(3.2), np.float64(1.2), np.float64(0.2))
    expected = 0.2 + 1.0 / models + 2.0 / (models * changes)
    assert known.predicted(models, changes) == pytest.approx(expected)
    members, truth = simulated(n=4000)
    some = [members[6 * model + change] for model in range(models) for change in range(changes)]
    error = np.square(np.mean(some, 0) - truth).mean()
    assert error == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("models, changes", [(1, 1), (2, 1), (2, 2), (3, 2), (4, 3)])
def test_on_the_members_themselves_it_holds_on_average_over_all_choices(models, changes):
    found = random_products(4, 3)
    whole = found.reshape(12, 12)
    errors = []
    for some in combinations(range(4), models):
        for few in product(combinations(range(3), changes), repeat=models):  # of every model its own
            places = [3 * model + change for model, own in zip(some, few, strict=True) for change in own]
            errors.append(whole[np.ix_(places, places)].mean())
    assert np.mean(errors) == pytest.approx(Moments.of(found).predicted(models, changes))


def test_what_is_measured_is_the_mean_square_of_the_mean():
    members, truth = simulated(4, 3, n=50)
    products = variance.products(members, truth, 4, 3)
    truth = truth - truth.mean(0)
    errors = np.array([each - each.mean(0) - truth for each in members]).reshape(4, 3, 50, 3) / truth.std(0)
    found = variance.measured(products, 2, 2)
    assert found.shape == (4, 3)  # rotations, test examples
    np.testing.assert_allclose(found[1], np.square(errors[1:3, :2].mean((0, 1))).mean(0), rtol=1e-5)
    np.testing.assert_allclose(found[3], np.square(errors[[3, 0], :2].mean((0, 1))).mean(0), rtol=1e-5)
    assert variance.measured(products, 4, 3).shape == (1, 3)


def test_one_half_predicts_the_other_where_models_are_alike():
    members, truth = simulated(16, 5, n=2000)
    found = pd.DataFrame(variance.table(variance.products(members, truth, 16, 5), **OPTIONS))
    assert sorted(found.half.unique()) == [0, 1]
    assert sorted(found.models.unique()) == list(range(1, 9))
    assert sorted(found.per_model.unique()) == [1, 2, 3, 5]
    np.testing.assert_allclose(found.predicted, found.measured, rtol=0.1)
    assert (found.measured_low <= found.measured).all() and (found.measured <= found.measured_high).all()
    assert (found.least <= found.measured + 1e-12).all() and (found.measured <= found.most + 1e-12).all()
    row = found[(found.half == 0) & (found.models == 2) & (found.per_model == 5)].iloc[0]
    assert row.gain == pytest.approx(0.8 * 2.0 / 2, rel=0.1)
    assert row.excess == pytest.approx(4 * 1.0 / 10, rel=0.1)


def test_the_prediction_fails_where_the_halves_differ():
    members, truth = simulated(8, 3, n=500)
    worse = [each + 3 * np.random.default_rng(place).standard_normal(each.shape) * (place // 3 % 2)
             for place, each in enumerate(members)]  # fmt: skip
    found = pd.DataFrame(variance.table(variance.products(worse, truth, 8, 3), **OPTIONS))
    assert (found[found.half == 1].measured_low > found[found.half == 1].predicted_high).all()


def test_a_reference_knows_its_own_error():
    random = np.random.default_rng(0)
    truth = random.standard_normal((5000, 2))
    members = [truth + 2 * random.standard_normal(truth.shape) + 7 for _ in range(10)]
    mean, error = variance.reference(members)
    np.testing.assert_allclose(mean, np.mean(members, 0) - np.mean(members, 0).mean(0), atol=1e-12)
    np.testing.assert_allclose(error, (4 / 10) / 1.4, rtol=0.1)


def test_constants_and_units_do_not_matter():
    members, truth = simulated(4, 2, n=60)
    found = variance.products(members, truth - truth.mean(0), 4, 2)
    scale = np.array([10.0, 0.1, 3.0])
    moved = variance.products([5 + each * scale for each in members], (truth - truth.mean(0)) * scale, 4, 2)
    np.testing.assert_allclose(found, moved, rtol=1e-5)


def test_test_examples_are_as_many_as_fit(monkeypatch):
    assert variance.kept(100, 30, 10).tolist() == list(range(30))
    monkeypatch.setattr(variance, "MOST_BYTES", 4 * 100 * 10 * 7)
    some = variance.kept(100, 30, 10)
    assert len(some) == 7 and some[0] == 0 and some[-1] == 29 and len(set(some)) == 7
    monkeypatch.setattr(variance, "MOST_BYTES", 1)
    assert variance.kept(100, 30, 10).tolist() == [0]


def test_what_cannot_be_said_is_refused():
    members, truth = simulated(3, 2, n=20)
    products = variance.products(members, truth, 3, 2)
    with pytest.raises(ValueError, match="3 models leave a half with one"):
        list(variance.table(products, **OPTIONS))
    with pytest.raises(ValueError, match="6 members, expected 4 models with 2 changes"):
        variance.products(members, truth, 4, 2)
    with pytest.raises(ValueError, match="more members than 2 models with 2 changes"):
        variance.products(members, truth, 2, 2)
    with pytest.raises(ValueError, match="1 model: "):
        Moments.of(random_products(1, 3))
    with pytest.raises(ValueError, match="a reference of 1 members"):
        variance.reference(members[:1])
    with pytest.raises(ValueError, match="test example 0: mean scores are the same"):
        variance.reference([np.ones((5, 2))] * 2)
    with pytest.raises(ValueError, match=r"scores have shape \(19, 3\)"):
        variance.products([members[0][:19]], truth, 1, 1)


def test_without_two_changes_there_is_no_within():
    moments = Moments.of(random_products(4, 1))
    assert np.isnan(moments.within)
    assert np.isfinite(moments.predicted(3, 1))
