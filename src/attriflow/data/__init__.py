"""Data: a training and a test split, drawn by a seeded stream from what a data set offers.

A kind is a file with
    load(folder, *, hyperparameters) -> Raw
and, where it needs files, FILES = {name: SHA-256} and ADDRESSES, the official addresses to fetch them from: folders
that end in /, or archives .zip that hold the files; EITHER = True where one of them is enough, ASK in place of
addresses where their owner wants to be asked (a sum is then None), and FOLDER where several kinds share theirs;
EXAMPLES, or TRAIN_EXAMPLES and TEST_EXAMPLES, and REGRESSION = True where labels are numbers let the config be checked
early.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attriflow.data import _raw
from attriflow.io import load_arrays
from attriflow.streams import stream

raw_sums, raw_folder = _raw.sums, _raw.fetch

PADDING = 0  # the token behind the end of a sequence with one label


@dataclass(frozen=True)
class Raw:
    """All examples that a data set offers: inputs (N, ...) float32 and labels (N,) int64.

    Sequences are indices of tokens, (N, t) int64, with a label at every position, (N, t), or one each, (N,). Labels
    (N,) of a floating dtype are the targets of a regression. Where the data set has no test examples of its own, both
    splits are drawn from the training ones. classes: where labels need not show all. features: inputs (N, d) are
    columns, each with a meaning and a unit of its own, unlike pixels; names: of these columns, where they have any.
    tokens: how many there are, of sequences with one label each, which end in PADDING; elsewhere they are the classes.
    """

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray | None = None
    test_y: np.ndarray | None = None
    classes: int | None = None
    features: bool = False
    names: tuple[str, ...] = ()
    tokens: int = 0


@dataclass(frozen=True)
class Split:
    """What every other room sees.

    train_x (n, ...), test_x (m, ...) float32, or int64 where they are indices; train_y (n, ...), test_y (m, ...) int64
    with any label noise, or float32 of a regression; clean_y (n, ...) without; train_index, test_index: places in the
    raw data; mean, std: what standardising subtracted from the inputs and divided by, () or of each column (d,);
    classes: outputs of a model, c: one more than the largest label unless given, 1 for a regression; target_mean,
    target_std: what standardising did to the targets; features, names, tokens: as in `Raw`.
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
    target_mean: np.ndarray | float = 0.0
    target_std: np.ndarray | float = 1.0
    features: bool = False
    names: tuple[str, ...] = ()
    tokens: int = 0

    def __post_init__(self):
        known = self.classes
        if known is None:
            known = 1 if self.regression else max(self.clean_y.max(), self.test_y.max()) + 1
        # a file holds arrays
        kept = {"classes": int(known), "features": bool(self.features), "tokens": int(self.tokens)}
        for name, value in (kept | {"names": tuple(self.names)}).items():
            object.__setattr__(self, name, value)

    @property
    def regression(self) -> bool:
        """Whether labels are numbers and not classes."""
        return self.clean_y.dtype.kind == "f"

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

    Pixels are standardised by one mean and deviation, columns that are features each by its own, and so are the targets
    of a regression, all of them those of the training examples. Raises ValueError if the data set has fewer examples,
    if inputs and labels do not match, and for noise on labels that are no classes.
    """
    shared = raw.test_x is None
    _check_pairs("training", raw, raw.x, raw.y)
    if not shared:
        _check_pairs("test", raw, raw.test_x, raw.test_y)
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
    clean_y, test_x, test_y = raw.y[train_index], test_x[test_index], test_y[test_index]
    regression = raw.y.dtype.kind == "f"
    scale = _scale(train_x, name, columns=raw.features) if standardise and train_x.dtype.kind == "f" else _AS_IT_IS
    target_scale = _target_scale(clean_y, name) if standardise and regression else _AS_IT_IS
    train_x, test_x = (_scaled(each, scale) for each in (train_x, test_x))
    clean_y, test_y = (_scaled(each, target_scale) for each in (clean_y, test_y))
    return Split(
        train_x=train_x,
        train_y=_with_noise(clean_y, label_noise, name),
        test_x=test_x,
        test_y=test_y,
        clean_y=clean_y,
        train_index=train_index,
        test_index=test_index,
        mean=scale[0],
        std=scale[1],
        classes=raw.classes or (None if regression else max(raw.y.max(), test_y.max()) + 1),
        target_mean=target_scale[0],
        target_std=target_scale[1],
        features=raw.features,
        names=raw.names,
        tokens=raw.tokens,
    )


Scale = tuple[np.ndarray, np.ndarray]  # what is subtracted, and what is divided by
_AS_IT_IS = (np.float64(0), np.float64(1))


def _scale(x: np.ndarray, name: str, *, columns: bool) -> Scale:
    """Mean and deviation of the training inputs (n, ...), of each column (d,) where these are features."""
    # ASSUME: papers do not say how inputs are scaled; all pixels are shifted and divided by one mean and one deviation
    # of the training inputs.
    axis = 0 if columns else None
    mean, std = x.mean(axis, dtype=np.float64), x.std(axis, dtype=np.float64)
    # the deviation of a constant column is rounding error, if not 0
    constant = x.min(axis) == x.max(axis)
    if np.all(constant):
        raise ValueError(f"datasets.{name}: every training input has the value {mean}; nothing to standardise")
    # ASSUME: a column that is the same in all training examples is shifted and not divided: 0 there, and in test
    # examples how far they are from it, in its own unit.
    return mean, np.where(constant, 1.0, std)[()]


def _target_scale(y: np.ndarray, name: str) -> Scale:
    """Mean and deviation of the training targets (n,)."""
    # SOURCE: Wei et al. 2024, arXiv:2412.03906, authors' code: the target is standardised by the training targets.
    if y.min() == y.max():
        raise ValueError(f"datasets.{name}: every training target is {y.min()}; nothing to learn")
    return y.mean(dtype=np.float64), y.std(dtype=np.float64)


def _scaled(values: np.ndarray, scale: Scale) -> np.ndarray:
    """In single precision, or as they are where these are whole numbers."""
    return values if values.dtype.kind != "f" else ((values - scale[0]) / scale[1]).astype(np.float32)


def _check_pairs(part: str, raw: Raw, x: np.ndarray, y: np.ndarray):
    if len(x) != len(y):
        raise ValueError(f"{len(x)} {part} inputs but {len(y)} labels; expected one label an input")
    for what, values in (("input", x), ("label", y)):
        if not np.isfinite(values).all():
            first = int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))[0])
            raise ValueError(f"{part} {what} {first} is not finite")
    if y.dtype.kind == "f" and (y.ndim != 1 or raw.classes is not None):
        given = f"{y.shape}" + (f" and {raw.classes} classes" if raw.classes is not None else "")
        raise ValueError(f"{part} labels are numbers, {given}; expected one an example, ({len(y)},), without classes")
    if raw.tokens and (x.ndim != 2 or y.ndim != 1 or x.dtype.kind != "i" or not 0 <= x.min() <= x.max() < raw.tokens):
        given = f"{part} inputs {x.shape} {x.dtype} from {x.min()} to {x.max()} and labels {y.shape}"
        raise ValueError(f"{given}; expected sequences (N, t) of {raw.tokens} tokens, from 0, with one label each")
    if raw.features and (x.ndim != 2 or (raw.names and len(raw.names) != x.shape[1])):
        names = f" and {len(raw.names)} names" if raw.names else ""
        raise ValueError(f"{part} inputs {x.shape}{names}; features are columns (N, d), with a name each or without")


def _with_noise(labels: np.ndarray, noise: dict | None, name: str) -> np.ndarray:
    """Labels (n,) of which a `fraction` is replaced by another class, drawn uniformly."""
    if noise is None:
        return labels
    if labels.dtype.kind == "f":
        raise ValueError(
            f"datasets.{name}.label_noise: labels are numbers; noise is another class in place of the right"
        )
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
