"""Linear datamodelling score: do summed scores order subsets as retraining on them does?

Park et al. 2023, arXiv:2303.14186, definition 2.2: for each test example the Spearman correlation, over subsets, of
the sum of the scores of a subset's members with the measured output; the mean over test examples.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from attriflow.evaluation._correlation import Correlations, Resamples, ceiling
from attriflow.io import expect_finite, expect_shape

TRUTH = "subsets"

# positive = helpful: the score of an example predicts how much it lowers the loss and raises the margin
SIGNS = {"loss": -1, "margin": 1}


def evaluate(
    scores: Iterable[tuple[str, np.ndarray]],
    truth: dict[str, np.ndarray],
    *,
    seed: int,
    resamples: int,
    confidence: float,
) -> Iterator[dict]:
    """LDS of every scores array (n, m) against the mean over repeats of the outputs (s, r, m) of each kind.

    The interval is a bootstrap over subsets and test examples, its percentiles centred on the value; the ceiling is
    what the repeats allow.
    """
    masks = np.asarray(truth["masks"], np.float32)
    s, n = masks.shape
    m = truth["loss"].shape[2]
    drawn = Resamples.draw(seed, resamples, s, m)
    for output in SIGNS:
        expect_finite(f"{output} of the ground truth", truth[output])
    outputs = {output: sign * np.asarray(truth[output]) for output, sign in SIGNS.items()}
    # ASSUME: repeats of a subset are averaged before the correlation, not after it.
    measure = Correlations({output: values.mean(1) for output, values in outputs.items()}, drawn, ranks=True)
    ceilings = {output: ceiling(values, ranks=True) for output, values in outputs.items()}
    for point, array in scores:
        expect_shape(f"scores {point}", array, (n, m), "training examples, test examples")
        expect_finite(f"scores {point}", array)
        groups = masks @ np.asarray(array)  # (s, m)
        for output, found in measure(groups, confidence).items():
            row = {"point": point, "output": output, "ceiling": ceilings[output], "rows": s, "test_examples": m}
            yield row | found
