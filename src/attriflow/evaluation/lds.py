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

    The interval is a bootstrap over subsets and test examples, its percentiles centred on the value; the ceiling is
    what the repeats allow.
    """
    masks = np.asarray(truth["masks"], np.float32)

    def group(point: str, array: np.ndarray) -> np.ndarray:
        shape = (masks.shape[1], truth["loss"].shape[2])
        expect_shape(f"scores {point}", array, shape, "training examples, test examples")
        return masks @ array  # (s, m)

    # ASSUME: repeats of a subset are averaged before the correlation, not after it.
    options = {"seed": seed, "resamples": resamples, "confidence": confidence}
    return correlate(scores, truth, group, sign=1, ranks=True, **options)
