"""Leave-one-out correlation: does a score say what retraining without the example does?

For each test example the Pearson correlation, over left-out training examples, of the score with the change that
leaving the example out makes; the mean over test examples.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from attriflow.evaluation._correlation import correlate
from attriflow.io import expect_shape

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

    def of_left_out(point: str, array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        expect_shape(f"scores {point}", array, (len(array), truth["loss"].shape[2]), "training examples, test examples")
        if left_out.max() >= len(array):
            raise ValueError(f"scores {point} are of {len(array)} examples; {left_out.max()} was left out")
        some = array[left_out]
        unit = np.finfo(some.dtype if np.issubdtype(some.dtype, np.floating) else np.float64).eps
        return some, 2 * unit * np.abs(some).max(0)

    # ASSUME: the leave-one-out correlation is Pearson's, per test example, then averaged; papers use others, too.
    options = {"seed": seed, "resamples": resamples, "confidence": confidence}
    return correlate(scores, truth, of_left_out, sign=-1, ranks=False, **options)
