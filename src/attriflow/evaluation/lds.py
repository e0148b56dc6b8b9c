"""Linear datamodelling score: do summed scores order subsets as retraining on them does?

Park et al. 2023, arXiv:2303.14186, definition 2.2: for each test example the Spearman correlation, over subsets, of
the sum of the scores of a subset's members with the measured output; the mean over test examples.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from attriflow.evaluation._correlation import correlate
from attriflow.io import expect_shape

TRUTH = "subsets"


def evaluate(
    scores: Iterable[tuple[str, np.ndarray]],
    truth: dict[str, np.ndarray],
    *,
    seed: int,
    resamples: int,
    confidence: float,
) -> Iterator[dict]:
    """LDS of every scores array (n, m) against the mean over repeats of the outputs (s, r, m) of each kind.

    The interval is over subsets and test examples (`attriflow.intervals.Effects`); the ceiling is what the repeats
    allow.
    """
    masks = np.asarray(truth["masks"], np.float64)

    def group(point: str, array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = (masks.shape[1], truth["loss"].shape[2])
        expect_shape(f"scores {point}", array, shape, "training examples, test examples")
        return sums(masks, array)

    # ASSUME: repeats of a subset are averaged before the correlation, not after it.
    options = {"seed": seed, "resamples": resamples, "confidence": confidence}
    return correlate(scores, truth, group, sign=1, ranks=True, **options)


def sums(masks: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Sums of the scores (n, m) of every subset (s, n), up to a number a column, and what rounding does to them (m,).

    Subsets of one size order a column as they order it less its mean, which is subtracted, so that an offset costs no
    digits. Scores that their own precision hardly tells apart are one number. Rounding is
    $2 \sqrt n \, u \sum_i |x_i|$, which the error of a sum of n numbers stays below in practice (Higham and Mary 2019).
    """
    values = np.array(scores, np.float64)
    low, high = values.min(0), values.max(0)
    unit = np.finfo(scores.dtype if np.issubdtype(scores.dtype, np.floating) else np.float64).eps
    if np.ptp(masks.sum(1)) == 0:
        values -= values.mean(0)
    values[:, high - low <= 2 * unit * np.maximum(np.abs(low), np.abs(high))] = 0
    found = masks @ values
    absolute = np.abs(values, out=values).sum(0)
    return found, 2 * np.sqrt(len(values)) * np.finfo(np.float64).eps * absolute
