"""How many test examples a choice takes: without spread where they are alike, and of as many as there are."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_selection import random_spectrum

from attriflow.figures import stability as figure
from attriflow.selection import select
from attriflow.spectrum import Spectrum
from attriflow.stability import stability


def table(spectra, draws: int = 20) -> pd.DataFrame:
    return pd.DataFrame(stability(spectra, seed=0, draws=draws))


def many(seed: int, m: int, decades: float = 6.0) -> Spectrum:
    """A spectrum of m test examples that differ."""
    return random_spectrum(seed, q=12, m=m, decades=decades)


def alike(m: int) -> Spectrum:
    one = many(0, 1)
    return replace(one, weights=np.repeat(one.weights, m, axis=1))


def test_test_examples_that_are_alike_choose_the_same():
    found = table([alike(12)])
    assert found.test_examples.unique().tolist() == [1, 2, 5, 10, 12]
    for name in ("damping", "low", "high"):
        np.testing.assert_allclose(found[name], found.of_all, rtol=1e-9)
    assert (found.log10_sd.dropna() < 1e-9).all()
    assert (found.without == 0).all()


@pytest.mark.parametrize("indicator", [0, 1])
def test_all_test_examples_choose_what_the_rule_chooses(indicator):
    spectra = [many(seed, 30) for seed in (1, 2)]
    found = table(spectra)
    found = found[found.indicator == indicator]
    value = select(spectra, indicator=indicator).value
    np.testing.assert_allclose(found.of_all, value)
    assert found.damping.iloc[-1] == pytest.approx(value)
    assert (found.test_examples.iloc[-1], found.draws.iloc[-1]) == (30, 1)


def test_one_of_each_test_example_is_among_the_draws_of_one():
    spectrum = many(3, 4)
    chosen = [select([replace(spectrum, weights=spectrum.weights[:, [j]])]).value for j in range(4)]
    chosen = [each for each in chosen if each is not None]
    row = table([spectrum], draws=400).set_index(["test_examples", "indicator"]).loc[(1, 1)]
    assert min(chosen) * (1 - 1e-2) <= row.low <= row.damping <= row.high <= max(chosen) * (1 + 1e-2)


def test_more_test_examples_spread_less():
    found = table([many(4, 200)], draws=100)
    spread = found[(found.indicator == 0) & (found.draws > 1)].log10_sd.to_numpy()
    assert (np.diff(spread) < 0).all()


def test_a_single_test_example_has_one_row_for_each_indicator_and_no_spread():
    found = table([alike(1)])
    assert found.test_examples.tolist() == [1, 1]
    assert found.log10_sd.isna().all()


def test_where_no_draw_chooses_there_are_shares_and_no_dampings():
    flat = Spectrum(np.ones(1), np.ones((1, 6)), np.ones(1), dimension=1)  # one mode: every indicator is 1
    found = table([flat])
    assert (found.without == 1).all()
    assert found[["damping", "low", "high", "log10_sd", "of_all"]].isna().all().all()


def test_draws_depend_on_seed_and_numbers_alone():
    spectra = [many(5, 30)]
    pd.testing.assert_frame_equal(table(spectra), table(spectra))
    other = pd.DataFrame(stability(spectra, seed=1, draws=20))
    assert (other.damping != table(spectra).damping).any()


def test_a_method_that_chooses_nothing_has_no_line():
    flat = Spectrum(np.ones(1), np.ones((1, 6)), np.ones(1), dimension=1)
    names = {"setting": "s", "ensemble": "e", "ensemble_size": 1, "models": 1, "per_model": 1, "point": "p"}
    rows = [table([flat]).assign(method="trak", **names), table([alike(6)]).assign(method="logra", **names)]
    (axes,) = figure.draw(pd.concat(rows[:1], ignore_index=True)).axes
    assert axes.get_legend_handles_labels()[1] == []
    (axes,) = figure.draw(pd.concat(rows, ignore_index=True)).axes
    assert axes.get_legend_handles_labels()[1] == ["LoGra"]
