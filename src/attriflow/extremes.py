"""The training examples that a score names most helpful and most harmful for a few test examples."""

import numpy as np

from attriflow.data import Split
from attriflow.io import expect_finite


def extremes(scores: np.ndarray, split: Split, tests: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """For test examples t: helpful and harmful (t, count) training indices, best and worst first, with what to show.

    scores (n, m), positive = helpful. Inputs and targets are given as they were before standardising, classes by their
    names; tests_rows, helpful_rows, harmful_rows: where the examples stand in the user's own data; features, names,
    mean, std, one_pool: as in `Split`. Raises ValueError for scores that are no numbers: they would be sorted last, as
    the best.
    """
    expect_finite("scores (training example, test example)", scores[:, tests])
    ordered = np.argsort(scores[:, tests], axis=0, kind="stable").T  # (t, n), ascending
    found = {"helpful": ordered[:, ::-1][:, :count], "harmful": ordered[:, :count]}
    arrays = {
        "tests": tests,
        "tests_rows": split.test_index[tests],
        "one_pool": np.array(split.one_pool),
        "test_x": _inputs(split.test_x[tests], split),
        "test_y": _labels(split.test_y[tests], split),
    }
    arrays |= {"features": np.array(split.features), "names": np.array(split.names, str)}
    arrays |= {"mean": np.asarray(split.mean), "std": np.asarray(split.std)}
    for name, indices in found.items():
        arrays |= {
            name: indices,
            f"{name}_rows": split.train_index[indices],
            f"{name}_x": _inputs(split.train_x[indices], split),
            f"{name}_y": _labels(split.train_y[indices], split),
            f"{name}_scores": np.take_along_axis(scores[:, tests].T, indices, axis=1),
        }
    return arrays


def _inputs(x: np.ndarray, split: Split) -> np.ndarray:
    return (x * split.std + split.mean).astype(np.float32)


def _labels(y: np.ndarray, split: Split) -> np.ndarray:
    if split.regression:
        return (y * split.target_std + split.target_mean).astype(np.float32)
    return np.array(split.class_names)[y] if split.class_names and split.clean_y.ndim == 1 else y
