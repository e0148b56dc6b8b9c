"""Leave-one-out correlation: does a score say what retraining without the example does?

For each test example the Pearson correlation, over left-out training examples, of the score with the change that
leaving the example out makes; the mean over test examples.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from attriflow.evaluation._correlation import correlate

TRUTH = "leave_one_out"


def evaluate(
    scores: Iterable[tuple[str, np.ndarray]],
    truth: dict[str, np.ndarray],
    *,
    seed: int,
    resamples: int,
    confidence: float,
) -> Iterator[dict]:
    """Correlation of every scores array (n, m) with the mean over repeats of the changes (l, r, m) of each output."""
    left_out = np.asarray(truth["left_out"])
    # ASSUME: the leave-one-out correlation is Pearson's, per test example, then averaged; papers use others, too.
    options = {"seed": seed, "resamples": resamples, "confidence": confidence}
    return correlate(scores, truth, lambda _, array: array[left_out], sign=-1, ranks=False, **options)
