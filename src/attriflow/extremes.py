"""The training examples that a score names most helpful and most harmful for a few test examples."""

import numpy as np

from attriflow.data import Split


def extremes(scores: np.ndarray, split: Split, tests: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """For test examples t: helpful and harmful (t, count) training indices, best and worst first, with what to show.

    scores (n, m), positive = helpful. Inputs are given as they were before standardising.
    """
    ordered = np.argsort(scores[:, tests], axis=0, kind="stable").T  # (t, n), ascending
    found = {"helpful": ordered[:, ::-1][:, :count], "harmful": ordered[:, :count]}
    arrays = {"tests": tests, "test_x": _raw(split.test_x[tests], split), "test_y": split.test_y[tests]}
    for name, indices in found.items():
        arrays |= {
            name: indices,
            f"{name}_x": _raw(split.train_x[indices], split),
            f"{name}_y": split.train_y[indices],
            f"{name}_scores": np.take_along_axis(scores[:, tests].T, indices, axis=1),
        }
    return arrays


def _raw(x: np.ndarray, split: Split) -> np.ndarray:
    return (x * split.std + split.mean).astype(np.float32)
