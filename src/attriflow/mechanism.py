r"""Why a damping is best: the condition behind the indicator of `attriflow.selection`, measured by retraining.

For one test example let f be the measured outputs of models trained on subsets A, positive = better, and
$s_k = G (C + \lambda I)^{-k} g$ (n,) the scores of all training examples with the k-th power of the inverse. With
$$o_k = \mathrm{Cov}_A \Big( \sum_{i \in A} (s_k)_i, f_A \Big), \quad r = \frac{o_1}{o_2} \sqrt{t_3 / t_1},$$
the correlation over subsets of group scores with outputs, $c_p \propto o_1 / \sqrt{t_2}$, rises with $\lambda$ where
$o_1 t_3 > o_2 t_2$: for $o_2 > 0$ where $\xi^{(1)} < r$. Exact where C is the covariance of the training gradients and
$t_2$ stands for the variance of the group scores over all subsets of a size.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from attriflow.io import expect_finite, expect_shape
from attriflow.selection import moments
from attriflow.spectrum import Spectrum


@dataclass(frozen=True)
class Mechanism:
    r"""Of every damping and test example, each (d, m).

    o_1, o_2: covariances of the group scores with the outputs. correlation: $c_p$, Pearson's; 0 where the group scores
    are constant. ratio: r, infinite where $o_2 = 0$. rises: whether $c_p$ rises with the damping, $o_1 t_3 > o_2 t_2$.
    """

    o_1: np.ndarray
    o_2: np.ndarray
    correlation: np.ndarray
    ratio: np.ndarray
    rises: np.ndarray


def mechanism(
    masks: np.ndarray,
    measured: np.ndarray,
    scores: Iterable[tuple[np.ndarray, np.ndarray]],
    spectrum: Spectrum,
    dampings: np.ndarray,
) -> Mechanism:
    """r and what it is made of at every damping.

    masks (s, n): the subsets. measured (s, m): their outputs, positive = better (minus the loss), repeats averaged.
    scores: for one damping after the other $s_1$ and $s_2$, both (n, m). Raises ValueError for shapes that do not fit,
    numbers that are not finite, scores of fewer or more dampings, outputs that are the same for all subsets, and test
    examples that have no indicator.
    """
    masks, measured = np.asarray(masks, np.float64), np.asarray(measured, np.float64)
    (s, n), m = masks.shape, spectrum.weights.shape[1]
    expect_shape("measured outputs", measured, (s, m), "subsets, test examples")
    expect_finite("measured outputs", measured)
    constant = np.flatnonzero(np.ptp(measured, axis=0) == 0)
    if len(constant):
        raise ValueError(f"outputs of test example {constant[0]} are the same for all {s} subsets")
    measured = measured - measured.mean(0)
    if not spectrum.seen.all():
        raise ValueError(f"test example {np.argmin(spectrum.seen)} has no indicator: leave it out")
    t = moments(spectrum, dampings)
    found = [_covariances(masks, measured, pair, (n, m)) for pair in scores]
    if len(found) != len(dampings):
        raise ValueError(f"scores of {len(found)} dampings, expected those of {len(dampings)}")
    o_1, o_2, correlation = (np.stack(each) for each in zip(*found, strict=True))
    ratio = np.divide(o_1, o_2, out=np.full_like(o_1, np.inf), where=o_2 != 0) * np.sqrt(t[3] / t[1])
    return Mechanism(o_1, o_2, correlation, ratio, o_1 * t[3] > o_2 * t[2])


def _covariances(masks: np.ndarray, measured: np.ndarray, scores: tuple, shape: tuple) -> tuple[np.ndarray, ...]:
    """o_1, o_2 and the correlation (m,) of one damping."""
    groups = []
    for power, each in enumerate(scores, 1):
        expect_shape(f"scores of power {power}", each, shape, "training examples, test examples")
        expect_finite(f"scores of power {power}", each)
        sums = masks @ each  # (s, m)
        groups.append(sums - sums.mean(0))
    first, second = ((each * measured).mean(0) for each in groups)
    lengths = np.sqrt(np.square(groups[0]).mean(0) * np.square(measured).mean(0))
    return first, second, np.divide(first, lengths, out=np.zeros_like(first), where=lengths > 0)
