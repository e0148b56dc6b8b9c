"""Data: a training and a test split, drawn by a seeded stream from what a data set offers.

A kind is a file with
    load(folder, *, hyperparameters) -> Raw
and, where it needs files, FILES = {name: SHA-256} and ADDRESSES, the official addresses to fetch them from;
EXAMPLES, or TRAIN_EXAMPLES and TEST_EXAMPLES, let the config be checked early.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attriflow.data import _raw
from attriflow.io import load_arrays
from attriflow.streams import stream

raw_sums, raw_folder = _raw.sums, _raw.fetch


@dataclass(frozen=True)
class Raw:
    """All examples that a data set offers: inputs (N, ...) float32 and labels (N,) int64.

    Sequences are indices of tokens, (N, t) int64, with a label at every position, (N, t). Where the data set has no
    test examples of its own, both splits are drawn from the training ones. classes: where labels need not show all.
    """

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray | None = None
    test_y: np.ndarray | None = None
    classes: int | None = None


@dataclass(frozen=True)
class Split:
    """What every other room sees.

    train_x (n, ...), test_x (m, ...) float32, or int64 where they are indices; train_y (n, ...), test_y (m, ...) int64
    with any label noise; clean_y (n, ...) without; train_index, test_index: places in the raw data; mean, std: what
    standardising subtracted and divided by; classes: c, one more than the largest label unless given.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    clean_y: np.ndarray
    train_index: np.ndarray
    test_index: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    classes: int | None = None

    def __post_init__(self):
        known = max(self.clean_y.max(), self.test_y.max()) + 1 if self.classes is None else self.classes
        object.__setattr__(self, "classes", int(known))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.train_x.shape[1:]


def load_split(path: Path) -> Split:
    """The split that the data room saved."""
    return Split(**{name: np.array(array) for name, array in load_arrays(path).items()})


def split(
    raw: Raw, name: str, seed: int, *, train: int, test: int, standardise: bool, label_noise: dict | None
) -> Split:
    """Draw n = `train` and m = `test` examples, standardise what is not indices, and replace labels where asked.

    Raises ValueError if the data set has fewer examples, or if inputs and labels do not match.
    """
    _check_pairs("training", raw.x, raw.y)
    shared = raw.test_x is None
    if not shared:
        _check_pairs("test", raw.test_x, raw.test_y)
    available = len(raw.x) - train if shared else len(raw.test_x)
    if train > len(raw.x) or test > available:
        pool = f"{len(raw.x)} examples" if shared else f"{len(raw.x)} training and {len(raw.test_x)} test examples"
        raise ValueError(f"datasets.{name}: {train} training and {test} test examples asked for; it has {pool}")
    order = stream(seed, "data", name, "train").permutation(len(raw.x))
    train_index = order[:train]
    test_index = order[train : train + test]
    if not shared:
        test_index = stream(seed, "data", name, "test").permutation(len(raw.test_x))[:test]
    train_x = raw.x[train_index]
    test_x, test_y = (raw.x, raw.y) if shared else (raw.test_x, raw.test_y)
    # ASSUME: papers do not say how inputs are scaled; all pixels are shifted and divided by one mean and one deviation
    # of the training inputs.
    standardise = standardise and train_x.dtype.kind == "f"
    mean, std = (train_x.mean(dtype=np.float64), train_x.std(dtype=np.float64)) if standardise else (0.0, 1.0)
    if std == 0:
        raise ValueError(f"datasets.{name}: every training input has the value {mean}; nothing to standardise")
    clean_y = raw.y[train_index]
    test_x = test_x[test_index]
    if standardise:
        train_x, test_x = (((each - mean) / std).astype(np.float32) for each in (train_x, test_x))
    return Split(
        train_x=train_x,
        train_y=_with_noise(clean_y, label_noise, name),
        test_x=test_x,
        test_y=test_y[test_index],
        clean_y=clean_y,
        train_index=train_index,
        test_index=test_index,
        mean=np.float64(mean),
        std=np.float64(std),
        classes=raw.classes or int(max(raw.y.max(), test_y.max())) + 1,
    )


def _check_pairs(part: str, x: np.ndarray, y: np.ndarray):
    if len(x) != len(y):
        raise ValueError(f"{len(x)} {part} inputs but {len(y)} labels; expected one label an input")
    if not np.isfinite(x).all():
        first = int(np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(axis=1))[0])
        raise ValueError(f"{part} input {first} is not finite")


def _with_noise(labels: np.ndarray, noise: dict | None, name: str) -> np.ndarray:
    """Labels (n,) of which a `fraction` is replaced by another class, drawn uniformly."""
    if noise is None:
        return labels
    if labels.ndim > 1:
        raise ValueError(
            f"datasets.{name}.label_noise: sequences have a label at every position; noise is for one an example"
        )
    random = stream(noise["seed"], "data", name, "label_noise")
    classes = labels.max() + 1
    # ASSUME: a noisy label is always a wrong one: another class, each equally likely, for an exact share of the
    # training examples.
    chosen = random.permutation(len(labels))[: round(noise["fraction"] * len(labels))]
    shift = random.integers(1, classes, size=len(chosen))
    noisy = labels.copy()
    noisy[chosen] = (labels[chosen] + shift) % classes
    return noisy
