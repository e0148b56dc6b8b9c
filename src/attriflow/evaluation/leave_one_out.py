"""Leave-one-out correlation: does a score say what retraining without the example does?

For each test example the Pearson correlation, over left-out training examples, of the score with the change that
leaving the example out makes; the mean over test examples.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from attriflow.evaluation._correlation import Correlations, Resamples, ceiling
from attriflow.io import expect_finite

TRUTH = "leave_one_out"

# positive = helpful: without the example the loss rises and the margin falls
SIGNS = {"loss": 1, "margin": -1}


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
    m = truth["loss"].shape[2]
    drawn = Resamples.draw(seed, resamples, len(left_out), m)
    for output in SIGNS:
        expect_finite(f"{output} of the ground truth", truth[output])
    changes = {output: sign * np.asarray(truth[output]) for output, sign in SIGNS.items()}
    # ASSUME: the leave-one-out correlation is Pearson's, per test example, then averaged; papers use others, too.
    measure = Correlations({output: values.mean(1) for output, values in changes.items()}, drawn, ranks=False)
    ceilings = {output: ceiling(values, ranks=False) for output, values in changes.items()}
    for point, array in scores:
        expect_finite(f"scores {point}", array)
        for output, found in measure(np.asarray(array)[left_out], confidence).items():
            row = {
                "point": point,
                "output": output,
                "ceiling": ceilings[output],
                "rows": len(left_out),
                "test_examples": m,
            }
            yield row | found
