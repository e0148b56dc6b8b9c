"""How many test examples a damping takes that is chosen without retraining: choices from random draws of a few."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from attriflow.selection import Curve, choose, curve, indicators
from attriflow.spectrum import Spectrum
from attriflow.streams import stream

COUNTS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000)  # test examples of a draw
DRAWS = 200  # of each count
_BAND = (0.16, 0.84)  # of the draws: one standard deviation to both sides where they are normal


def stability(spectra: Sequence[Spectrum], *, seed: int, draws: int = DRAWS) -> list[dict]:
    r"""What `selection.choose` chooses from a few test examples: a row a number of them, for both indicators.

    Numbers below that of all test examples with an indicator, drawn without replacement, then these all at once, in one
    draw. Draws depend on the seed and the numbers alone: methods and ensembles of the same test examples share them.

    damping, low, high: median of the chosen dampings, and their 16 and 84 % quantiles; log10_sd: the standard deviation
    of their logarithms; NaN where there is nothing to take them of. without: the share of draws that choose none.
    of_all: what all test examples choose, NaN where they choose none.
    """
    whole = curve(spectra)
    seen = np.logical_and.reduce([each.seen for each in spectra])
    tests = [Spectrum(each.values, each.weights[:, seen], each.counts, each.dimension) for each in spectra]
    by_test = sum(indicators(each, whole.dampings) for each in tests) / len(tests)  # (2, d, m)
    m = by_test.shape[-1]
    of_all = {k: _chosen(whole.means[..., None], whole, k) for k in (1, 0)}
    rows = []
    for count in (each for each in COUNTS if each < m):
        drawn = _drawn(stream(seed, "stability", m, count), draws, m, count)
        means = by_test @ drawn.T  # (2, d, draws)
        rows += [_row(count, k, _chosen(means, whole, k), of_all[k]) for k in of_all]
    return rows + [_row(m, k, chosen, chosen) for k, chosen in of_all.items()]


def _drawn(random: np.random.Generator, draws: int, m: int, count: int) -> np.ndarray:
    """The weight of each test example in each draw, (draws, m), 1 / count or 0."""
    weights = np.zeros((draws, m))
    weights[:, :count] = 1 / count
    return random.permuted(weights, axis=1)


def _chosen(means: np.ndarray, whole: Curve, indicator: Literal[0, 1]) -> np.ndarray:
    """The damping that each of several mean curves (2, d, draws) chooses, NaN where it chooses none, (draws,)."""
    curves = (replace(whole, means=each) for each in np.moveaxis(means, -1, 0))
    found = [choose(each, indicator=indicator).value for each in curves]
    return np.array([np.nan if value is None else value for value in found])


def _row(count: int, indicator: int, chosen: np.ndarray, of_all: np.ndarray) -> dict:
    some = chosen[~np.isnan(chosen)]
    low, median, high = np.quantile(some, [_BAND[0], 0.5, _BAND[1]]) if len(some) else (np.nan,) * 3
    return {
        "test_examples": count,
        "indicator": indicator,
        "damping": median,
        "low": low,
        "high": high,
        "log10_sd": np.log10(some).std(ddof=1) if len(some) > 1 else np.nan,
        "without": 1 - len(some) / len(chosen),
        "draws": len(chosen),
        "of_all": of_all[0],
    }
