r"""Choosing a damping without retraining.

After "Taming Hyperparameter Sensitivity in Data Attribution", arXiv:2505.24261, of which the abstract was at hand: the
form of the indicator is our reconstruction. With $t_k = g^\top C (C + \lambda I)^{-k} g$ of a test gradient g,
$$\xi^{(0)} = t_1 / \sqrt{t_0 t_2}, \quad \xi^{(1)} = t_2 / \sqrt{t_1 t_3}.$$
For C the covariance of the training gradients, $\xi^{(0)}$ is the correlation, over subsets, of the group scores of
influence at $\lambda$ with those of Grad-Dot; and the correlation of influence with what retraining measures rises with
$\lambda$ where $\xi^{(1)} < r$ (`attriflow.mechanism`, with the signs), r being the one quantity that asks for
retraining. The rule puts .5 in its place and takes the damping at which the mean of $\xi^{(1)}$ over test examples
reaches it.

Methods whose inverse is that of one positive semi-definite curvature, or of one for each block, say what it needs by a
function `spectrum`. DataInf's mean of inverses is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.optimize

from attriflow.io import expect_finite
from attriflow.spectrum import Spectrum

# ASSUME: the paper's indicator is known to us from its abstract and from memory; t₂ / √(t₁ t₃), k = 1, is our
# reconstruction of it, fixed before any setting but MNIST was run.
INDICATOR = 1
# ASSUME: the threshold .5 of the paper's rule is remembered, not read; it was fixed before any run.
THRESHOLD = 0.5

_POINTS = 20  # dampings a decade
_BEYOND = 100  # times below the smallest and above the largest eigenvalue the curve has reached its two limits
_FLAT = 0.01  # a mean that varies by less over all dampings chooses none
_CLEAR = 2  # standard errors, over test examples, by which the mean should come from below the threshold
_BLOCK_BYTES = 64 * 2**20  # of (dampings, modes) that are held at once


# --- indicators ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    r"""Mean indicators over test examples, then over e members; row k of two is $\xi^{(k)}$.

    dampings (d,); means and their standard errors over test examples (2, d), NaN for a single one; by_member (e, 2, d);
    skipped: test examples that have no indicator, $t_0 = 0$, for some member.
    """

    dampings: np.ndarray
    means: np.ndarray
    errors: np.ndarray
    by_member: np.ndarray
    skipped: int


@dataclass(frozen=True)
class Selection:
    """The damping that a curve chooses, None where it chooses none.

    crossings: how often the mean comes up through the threshold; value is the last of them. warning: why there is no
    value, or why other test examples might choose none; empty where neither.
    """

    value: float | None
    crossings: int
    warning: str
    indicator: int
    threshold: float
    curve: Curve


def moments(spectrum: Spectrum, dampings: np.ndarray) -> np.ndarray:
    """t_k of every damping and test example, k = 0 to 4, (5, d, m).

    Sums of terms of one sign in float64, exact to rounding for any span of dampings, as long as their inverse fourth
    powers can be written. Raises ValueError for a damping that is negative or not finite.
    """
    found, units = _scaled(spectrum.values, spectrum.weights, _checked(dampings), 5)
    return found / units[None, :, None] ** np.arange(5)[:, None, None]


def indicators(spectrum: Spectrum, dampings: np.ndarray) -> np.ndarray:
    r"""$\xi^{(0)}$ and $\xi^{(1)}$ in (0, 1] of every damping and test example, (2, d, m).

    Raises ValueError naming a test example that has none, $t_0 = 0$: its gradient is outside of all modes.
    """
    absent = np.flatnonzero(~spectrum.seen)
    if len(absent):
        raise ValueError(f"test example {absent[0]} has no indicator: its gradient has no part in any mode")
    weights = spectrum.weights / spectrum.weights.max(0)  # the length of g drops out, and with it any underflow
    t, _ = _scaled(spectrum.values, weights, _checked(dampings), 4)
    middle = t[1:3]
    return np.minimum(1.0, np.sqrt(middle / t[:2] * (middle / t[2:])))


def curve(spectra: Sequence[Spectrum], dampings: np.ndarray | None = None) -> Curve:
    """The mean indicators of an ensemble at increasing dampings above 0.

    Without any given: 20 a decade from a hundredth of the smallest eigenvalue to 100 times the largest, where the whole
    curve is seen: below, t_k no longer changes; above, every indicator is 1. Raises ValueError without members, for
    members of different test examples, and where no test example has an indicator.
    """
    _check_members(spectra)
    dampings = _grid(spectra) if dampings is None else _checked(dampings)
    if dampings[0] <= 0 or (np.diff(dampings) <= 0).any():
        raise ValueError(f"dampings {dampings}; expected increasing ones above 0")
    seen = np.logical_and.reduce([each.seen for each in spectra])
    if not seen.any():
        raise ValueError(f"none of {len(seen)} test examples has an indicator: no test gradient has a part in any mode")
    total, by_member = 0.0, []
    for each in spectra:
        found = indicators(_only(each, seen), dampings)
        total = total + found / len(spectra)
        # ASSUME: in an ensemble the indicator is averaged over the test examples of a member, then over members; a test
        # example that has none for some member is left out of all.
        by_member.append(found.mean(-1))
    count = np.count_nonzero(seen)
    errors = total.std(-1, ddof=1) / np.sqrt(count) if count > 1 else np.full(total.shape[:2], np.nan)
    return Curve(dampings, np.mean(by_member, 0), errors, np.stack(by_member), int(len(seen) - count))


def choose(curve: Curve, *, threshold: float = THRESHOLD, indicator: Literal[0, 1] = INDICATOR) -> Selection:
    r"""The largest damping at which the mean indicator comes up through the threshold, log-linearly interpolated.

    $\xi^{(0)}$ never decreases; $\xi^{(1)}$ may, and come up several times. Raises ValueError for a threshold that is
    not strictly between 0 and 1, and for another indicator.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold {threshold}; expected one strictly between 0 and 1")
    if indicator not in (0, 1):
        raise ValueError(f"indicator {indicator}; expected 0 or 1")
    mean, dampings = curve.means[indicator], np.log(curve.dampings)
    below = mean < threshold
    ups = np.flatnonzero(below[:-1] & ~below[1:])
    warning, value = _warning(curve, mean, threshold, len(ups)), None
    if not warning:
        # ASSUME: where the mean indicator comes up through the threshold several times the largest damping is taken;
        # the paper, as we remember it, picks the nearest of given candidates.
        place = ups[-1]
        share = (threshold - mean[place]) / (mean[place + 1] - mean[place])
        value = float(np.exp(dampings[place] + share * (dampings[place + 1] - dampings[place])))
        warning = _shallow(mean, curve.errors[indicator], threshold, np.flatnonzero(~below[:place]), place)
    return Selection(value, len(ups), warning, indicator, threshold, curve)


def select(
    spectra: Sequence[Spectrum],
    *,
    threshold: float = THRESHOLD,
    indicator: Literal[0, 1] = INDICATOR,
    dampings: np.ndarray | None = None,
) -> Selection:
    """`choose` from the `curve` of an ensemble."""
    return choose(curve(spectra, dampings), threshold=threshold, indicator=indicator)


def _warning(curve: Curve, mean: np.ndarray, threshold: float, crossings: int) -> str:
    low, high = mean.min(), mean.max()
    span = f"over dampings from {curve.dampings[0]:.3g} to {curve.dampings[-1]:.3g}"
    if high - low < _FLAT:
        return f"the mean indicator is flat, {low:.4f} to {high:.4f} {span}: it chooses no damping"
    if low >= threshold:
        return f"the mean indicator is never below {threshold}: at least {low:.4f} {span}"
    if high < threshold:
        return f"the mean indicator never reaches {threshold}: at most {high:.4f} {span}"
    if not crossings:
        return f"the mean indicator falls through {threshold} and does not come up again {span}"
    return ""


def _shallow(mean: np.ndarray, errors: np.ndarray, threshold: float, above: np.ndarray, place: int) -> str:
    """Whether the mean, before it comes up behind a place, was only a little below the threshold."""
    start = above[-1] + 1 if len(above) else 0
    lowest = start + int(np.argmin(mean[start : place + 1]))
    if threshold - mean[lowest] >= _CLEAR * errors[lowest] or np.isnan(errors[lowest]):
        return ""
    return (
        f"the mean indicator is hardly below {threshold}: {mean[lowest]:.4f}, with a standard error of "
        f"{errors[lowest]:.4f} over test examples; others might choose no damping"
    )


def _grid(spectra: Sequence[Spectrum]) -> np.ndarray:
    low = min(each.values.min() for each in spectra) / _BEYOND
    high = max(each.values.max() for each in spectra) * _BEYOND
    return np.geomspace(low, high, 1 + int(np.ceil(_POINTS * np.log10(high / low))))


def _scaled(
    values: np.ndarray, weights: np.ndarray, dampings: np.ndarray, powers: int
) -> tuple[np.ndarray, np.ndarray]:
    """t_k c^k (powers, d, m) and c (d,), the smallest damped eigenvalue: all its factors c / (σ + λ) are at most 1."""
    found = np.empty((powers, len(dampings), weights.shape[1]))
    units = values.min() + dampings
    step = max(1, _BLOCK_BYTES // (8 * len(values)))
    for start in range(0, len(dampings), step):
        some = slice(start, start + step)
        inverses = units[some, None] / (values + dampings[some, None])  # (some, q)
        for power in range(powers):
            found[power, some] = inverses**power @ weights
    return found, units


def _only(spectrum: Spectrum, tests: np.ndarray) -> Spectrum:
    if tests.all():
        return spectrum
    return Spectrum(spectrum.values, spectrum.weights[:, tests], spectrum.counts, spectrum.dimension)


def _checked(dampings: np.ndarray) -> np.ndarray:
    dampings = np.asarray(dampings, np.float64)
    if dampings.ndim != 1 or not len(dampings):
        raise ValueError(f"dampings have shape {dampings.shape}, expected (d,) with at least one")
    expect_finite("dampings", dampings)
    if dampings.min() < 0:
        raise ValueError(f"damping {dampings.min()}; expected none below 0")
    return dampings


def _check_members(spectra: Sequence[Spectrum]):
    if not len(spectra):
        raise ValueError("no members: expected the spectrum of at least one")
    counts = [each.weights.shape[1] for each in spectra]
    if len(set(counts)) > 1:
        raise ValueError(f"members have {counts} test examples, expected the same of all")


# --- rules to compare with -----------------------------------------------------------------------------------


def mean_eigenvalue(spectra: Sequence[Spectrum], *, over: Literal["parameters", "modes"], share: float = 0.1) -> float:
    """A share of the mean eigenvalue, mean over members.

    A tenth is what Grosse et al. 2023, arXiv:2308.03296, take. over: all parameters (where gradients are projected: the
    projected dimension), or the modes that have a curvature, at most n of them for a Fisher. Raises ValueError for
    others.
    """
    _check_members(spectra)
    # ASSUME: "0.1 of the mean eigenvalue" leaves open which mean where most eigenvalues are zero; both are computed.
    sizes = {"parameters": lambda each: each.dimension, "modes": lambda each: each.rank}
    if over not in sizes:
        raise ValueError(f"over '{over}'; expected one of {sorted(sizes)}")
    return share * float(np.mean([each.counts @ each.values / sizes[over](each) for each in spectra]))


def effective_dimension(spectra: Sequence[Spectrum], damping: float) -> float:
    r"""$d_\lambda = \mathrm{tr} \, C (C + \lambda I)^{-1}$, mean over members."""
    _check_members(spectra)
    _checked([damping])
    return float(np.mean([each.counts @ (each.values / (each.values + damping)) for each in spectra]))


def dimension_damping(spectra: Sequence[Spectrum], *, proj_dim: float, multiple: float) -> float:
    r"""The smallest damping with $proj\_dim \ge multiple \cdot d_\lambda$; 0 where that holds without damping.

    A rule of arXiv:2602.10449 (its code, Projection-IF), which reached 95% of the best LDS on MNIST and CIFAR-2 with
    multiples from 8.6 to 48.8. Raises ValueError unless both are above 0.
    """
    # ASSUME: the rule of an effective dimension asks whether a projected one is enough for a given damping; here it is
    # solved for the damping, with the multiple left to the user and the effective dimension that of the spectrum at
    # hand.
    if proj_dim <= 0 or multiple <= 0:
        raise ValueError(f"proj_dim {proj_dim}, multiple {multiple}; expected both above 0")
    target = proj_dim / multiple
    if effective_dimension(spectra, 0.0) <= target:
        return 0.0
    # d > target at the one end, since each mode has at least 1 / (1 + λ / smallest), and d <= tr C / λ at the other
    low = min(each.values.min() for each in spectra) * (effective_dimension(spectra, 0.0) / target - 1) / 2
    high = max(each.counts @ each.values for each in spectra) / target * 2
    excess = lambda power: effective_dimension(spectra, np.exp(power)) - target  # noqa: E731
    return float(np.exp(scipy.optimize.brentq(excess, np.log(low), np.log(high), xtol=1e-12)))


# --- all of them ---------------------------------------------------------------------------------------------

# ASSUME: as a chooser of dampings the rule of an effective dimension takes a tenth of the modes of the curvature.
_MULTIPLE = 10


def by_every_rule(spectra: Sequence[Spectrum], found: Curve) -> dict[str, dict]:
    """Rule (`hyperparameters.RULES`) -> the damping that it chooses, and what there is to say about that.

    damping is None where the rule chooses none. Of the indicators also crossings, warning, and `at`, what other
    thresholds would have chosen.
    """
    rank = float(np.mean([each.rank for each in spectra]))
    return {
        "select": _described(found, 1),
        "select_0": _described(found, 0),
        "mean_eigenvalue": {"damping": mean_eigenvalue(spectra, over="parameters")},
        "mean_mode": {"damping": mean_eigenvalue(spectra, over="modes")},
        "effective_dimension": {"damping": dimension_damping(spectra, proj_dim=rank, multiple=_MULTIPLE)},
    }


def _described(found: Curve, indicator: Literal[0, 1]) -> dict:
    chosen = choose(found, indicator=indicator)
    others = {str(each): choose(found, threshold=each, indicator=indicator).value for each in (0.4, 0.6)}
    return {
        "damping": chosen.value,
        "crossings": chosen.crossings,
        "warning": chosen.warning,
        "skipped": found.skipped,
        "at": others,
    }


def rows(found: Curve) -> list[dict]:
    """A curve as rows of a table: damping, both mean indicators and their standard errors over test examples."""
    return [
        {"damping": damping}
        | {f"xi_{k}": found.means[k, place] for k in (0, 1)}
        | {f"xi_{k}_error": found.errors[k, place] for k in (0, 1)}
        for place, damping in enumerate(found.dampings)
    ]
