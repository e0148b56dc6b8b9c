r"""Why a damping is best: the condition behind the indicator of `attriflow.selection`, measured by retraining.

For one test example let f be the measured outputs of models trained on subsets A, positive = better, and
$s_k = G (C + \lambda I)^{-k} g$ (n,) the scores of all training examples with the k-th power of the inverse. With
$$o_k = \mathrm{Cov}_A \Big( \sum_{i \in A} (s_k)_i, f_A \Big), \quad r = \frac{o_1}{o_2} \sqrt{t_3 / t_1},$$
the correlation over subsets of group scores with outputs, $c_p \propto o_1 / \sqrt{t_2}$, rises with $\lambda$ where
$o_1 t_3 > o_2 t_2$: for $o_2 > 0$ where $\xi^{(1)} < r$. Exact where C is the covariance of the training gradients and
$t_2$ stands for the variance of the group scores over all subsets of a size.

Over test examples r has heavy tails: $o_2$ is small or negative for some. The mean correlation rises where the mean of
$\lambda \, d c_p / d\lambda = \lambda (c_p t_3 / t_2 - o_2 / l)$ is positive, l being the standard deviation of group
scores times that of outputs; with the mean $\bar\xi$ of $\xi^{(1)}$ that is where
$$\bar\xi < \bar r = \bar\xi \, \frac{\sum_p c_p t_3 / t_2}{\sum_p o_2 / l},$$
the pooled ratio: a mean of $\bar\xi r / \xi^{(1)}$ weighted by $o_2 / l$.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from attriflow.evaluation._correlation import HELPS
from attriflow.intervals import median
from attriflow.io import expect_finite, expect_shape
from attriflow.selection import indicators, moments
from attriflow.spectrum import Spectrum

_POINTS = 4  # dampings a decade that are looked at beside those of the grid


@dataclass(frozen=True)
class Mechanism:
    r"""Of every damping and test example, each (d, m).

    o_1, o_2: covariances of the group scores with the outputs. lengths: standard deviation of the group scores times
    that of the outputs. correlation: $c_p$, Pearson's; 0, as the slopes, where the group scores are constant. ratio: r,
    infinite where $o_2 = 0$. rises: whether $c_p$ rises with the damping, $o_1 t_3 > o_2 t_2$. slope: of `correlation`
    by the logarithm of the damping, exact over the subsets at hand. slope_by_moments: the same with $t_3 / t_2$ in
    place of what these subsets say it is; above 0 where `rises`.
    """

    o_1: np.ndarray
    o_2: np.ndarray
    lengths: np.ndarray
    correlation: np.ndarray
    ratio: np.ndarray
    rises: np.ndarray
    slope: np.ndarray
    slope_by_moments: np.ndarray


def mechanism(
    measured: np.ndarray,
    groups: Iterable[tuple[np.ndarray, np.ndarray]],
    spectrum: Spectrum,
    dampings: np.ndarray,
) -> Mechanism:
    r"""r and what it is made of at every damping.

    measured (s, m): outputs of the subsets, positive = better (minus the loss), repeats averaged. groups: for one
    damping after the other the group scores of power 1 and 2, $\sum_{i \in A} (s_k)_i$, (s, m) each. Raises ValueError
    for shapes that do not fit, numbers that are not finite, group scores of fewer or more dampings, outputs that are
    the same for all subsets, and test examples that have no indicator.
    """
    measured, m = np.asarray(measured, np.float64), spectrum.weights.shape[1]
    expect_shape("measured outputs", measured, (len(measured), m), "subsets, test examples")
    expect_finite("measured outputs", measured)
    constant = np.flatnonzero(np.ptp(measured, axis=0) == 0)
    if len(constant):
        raise ValueError(f"outputs of test example {constant[0]} are the same for all {len(measured)} subsets")
    measured = measured - measured.mean(0)
    if not spectrum.seen.all():
        raise ValueError(f"test example {np.argmin(spectrum.seen)} has no indicator: leave it out")
    t = moments(spectrum, dampings)
    found = [_covariances(measured, pair) for pair in groups]
    if len(found) != len(dampings):
        raise ValueError(f"group scores of {len(found)} dampings, expected those of {len(dampings)}")
    o_1, o_2, lengths, turning = (np.stack(each) for each in zip(*found, strict=True))
    ratio = np.divide(o_1, o_2, out=np.full_like(o_1, np.inf), where=o_2 != 0) * np.sqrt(t[3] / t[1])
    share = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)  # of what a length divides
    slope, slope_by_moments = (np.asarray(dampings)[:, None] * share * (o_1 * q - o_2) for q in (turning, t[3] / t[2]))
    return Mechanism(o_1, o_2, lengths, o_1 * share, ratio, o_1 * t[3] > o_2 * t[2], slope, slope_by_moments)


def _covariances(measured: np.ndarray, groups: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, ...]:
    """o_1, o_2, the length and what t_3 / t_2 is over these subsets (m,), of one damping."""
    for power, each in enumerate(groups, 1):
        expect_shape(f"group scores of power {power}", each, measured.shape, "subsets, test examples")
        expect_finite(f"group scores of power {power}", each)
    groups = [each - each.mean(0, dtype=np.float64) for each in groups]
    first, second = ((each * measured).mean(0) for each in groups)
    variance, covariance = (np.mean(groups[0] * each, 0) for each in groups)
    turning = np.divide(covariance, variance, out=np.zeros_like(first), where=variance > 0)
    return first, second, np.sqrt(variance * np.square(measured).mean(0)), turning


# --- along the dampings, in a table --------------------------------------------------------------------------


def outputs(truth: dict[str, np.ndarray]) -> np.ndarray:
    """Minus the loss of the test examples of a ground truth of subsets, mean over repeats, (s, m)."""
    return HELPS["loss"] * np.asarray(truth["loss"]).mean(1)


def dampings(grid: list[float]) -> np.ndarray:
    """The values of a grid, and 4 a decade between the smallest and the largest. All have to be above 0.

    >>> dampings([0.1, 1.0]).round(3)
    array([0.1  , 0.178, 0.316, 0.562, 1.   ])
    """
    low, high = min(grid), max(grid)
    between = np.geomspace(low, high, 1 + int(np.ceil(_POINTS * np.log10(high / low) - 1e-9)))
    return np.sort([*grid, *(each for each in between if not np.isclose(each, grid, rtol=1e-6, atol=0).any())])


def scan(
    measured: np.ndarray,
    groups: Callable[[float], tuple[np.ndarray, np.ndarray]],
    spectrum: Spectrum,
    dampings: np.ndarray,
    *,
    confidence: float,
) -> list[dict]:
    r"""What `mechanism` finds for one member, over test examples: a row a damping.

    measured (s, m) as in `mechanism`. groups: from a damping to the group scores of power 1 and 2, (s, m) each. Test
    examples without an indicator (`without_indicator`) and those whose outputs are the same for all subsets
    (`constant`) are left out and counted.

    xi_0, xi_1, correlation, slope, slope_by_moments: means. rises: the share of test examples. ratio: the median of r,
    with an interval over test examples, `ratio_low` to `ratio_high`, and quartiles; ratio_mean: the mean of
    the finite ones, `ratio_finite` of them, and its standard error, `ratio_error`. o_2_positive: the share of test
    examples with $o_2 > 0$, those for which r says where $c_p$ rises. pooled_ratio: $\bar r$, NaN where the sum below
    is not positive.

    Raises ValueError where no test example is left.
    """
    constant = np.ptp(measured, axis=0) == 0
    kept = spectrum.seen & ~constant
    if not kept.any():
        raise ValueError(f"each of {len(kept)} test examples has no indicator or the same output for all subsets")
    tests = Spectrum(spectrum.values, spectrum.weights[:, kept], spectrum.counts, spectrum.dimension)
    pairs = ([each[:, kept] for each in groups(damping)] for damping in dampings)
    found = mechanism(measured[:, kept], pairs, tests, dampings)
    m = int(kept.sum())
    counted = {"test_examples": m, "without_indicator": np.count_nonzero(~spectrum.seen)}
    counted |= {"constant": np.count_nonzero(spectrum.seen & constant), "confidence": confidence}
    means = {f"xi_{k}": each.mean(1) for k, each in enumerate(indicators(tests, dampings))}
    means |= {name: getattr(found, name).mean(1) for name in ("correlation", "rises", "slope", "slope_by_moments")}
    means |= {"o_2_positive": (found.o_2 > 0).mean(1), "pooled_ratio": _pooled(found, means["xi_1"], dampings)}
    return [
        {"damping": damping}
        | {name: values[place] for name, values in means.items()}
        | _of_ratios(found.ratio[place], confidence)
        | counted
        for place, damping in enumerate(dampings)
    ]


def _pooled(found: Mechanism, xi: np.ndarray, dampings: np.ndarray) -> np.ndarray:
    below = np.divide(found.o_2, found.lengths, out=np.zeros_like(found.o_2), where=found.lengths > 0).mean(1)
    excess = found.slope_by_moments.mean(1) / dampings
    return xi * (1 + np.divide(excess, below, out=np.full_like(below, np.nan), where=below > 0))


def _of_ratios(ratio: np.ndarray, confidence: float) -> dict[str, float]:
    """r of one damping (m,) over test examples. Quantiles are values of the sample: some may be infinite."""
    low, high = median(ratio, confidence)
    quartiles = np.quantile(ratio, [0.25, 0.5, 0.75], method="inverted_cdf")
    middle = dict(zip(("ratio_25", "ratio", "ratio_75"), quartiles, strict=True))
    finite = ratio[np.isfinite(ratio)]
    mean = finite.mean() if len(finite) else np.nan
    error = finite.std(ddof=1) / np.sqrt(len(finite)) if len(finite) > 1 else np.nan
    described = {"ratio_low": low, "ratio_high": high, "ratio_mean": mean, "ratio_error": error}
    return middle | described | {"ratio_finite": len(finite)}
