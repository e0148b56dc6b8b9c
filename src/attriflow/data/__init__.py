"""Data: a training and a test split, drawn by a seeded stream from what a data set offers.

A kind is a file with
    load(folder, *, hyperparameters) -> Raw
and, where it needs files, FILES = {name: SHA-256} and ADDRESSES, the official addresses to fetch them from: folders
that end in /, or archives .zip that hold the files; EITHER = True where one of them is enough, ASK in place of
addresses where their owner wants to be asked (a sum is then None), and FOLDER where several kinds share theirs;
EXAMPLES, or TRAIN_EXAMPLES and TEST_EXAMPLES, and REGRESSION = True where labels are numbers let the config be checked
early.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attriflow.data import _inputs, _labels, _raw
from attriflow.data._examples import Raw, checked
from attriflow.data._labels import mapping
from attriflow.io import load_arrays
from attriflow.streams import stream

__all__ = ["IGNORED", "PADDING", "Raw", "Split", "load_split", "mapping", "raw_folder", "raw_sums", "split"]

raw_sums, raw_folder = _raw.sums, _raw.fetch
PADDING, IGNORED = _inputs.PADDING, _labels.IGNORED

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """What every other room sees.

    train_x (n, ...), test_x (m, ...) float32, or int64 where they are indices; train_y (n, ...), test_y (m, ...) int64
    with any label noise, or float32 of a regression; clean_y (n, ...) without; train_index, test_index: rows
    of the raw data, by position; one_pool: of the same table, and not of x and test_x; mean, std: what standardising
    subtracted from the inputs and divided by, () or of each column (d,); classes: outputs of a model, c, 1 for a
    regression; class_names: of these where labels had others than 0 to c - 1; target_mean, target_std: what
    standardising did to the targets; features, names, tokens: as in `Raw`.
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
    class_names: tuple[str, ...] = ()
    one_pool: bool = True

    def __post_init__(self):
        known = self.classes
        if known is None:
            known = 1 if self.regression else max(self.clean_y.max(), self.test_y.max()) + 1
        # a file holds arrays
        kept = {"classes": int(known), "features": bool(self.features), "tokens": int(self.tokens)}
        kept |= {"names": tuple(self.names), "class_names": tuple(self.class_names), "one_pool": bool(self.one_pool)}
        for name, value in kept.items():
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
    raw: Raw,
    name: str,
    seed: int,
    *,
    train: int,
    test: int,
    standardise: bool,
    label_noise: dict | None,
    task: str | None = None,
) -> Split:
    """Draw n = `train` and m = `test` examples, standardise what is not indices, and replace labels where asked.

    Pixels are standardised by one mean and deviation, columns that are features each by its own, and so are the targets
    of a regression, all of them those of the training examples. task: what the config says that labels are, see `Raw`.
    Raises ValueError, naming data set and example, for what is no Raw, for inputs and labels in a form that could mean
    something else, if the data set has fewer examples, and for noise on labels that are no classes.
    """
    where = f"datasets.{name}"
    raw = checked(where, raw, task)
    train_index, test_index = _drawn(raw, name, seed, train, test)
    one_pool = raw.test_x is None
    pool_x, pool_y = (raw.x, raw.y) if one_pool else (raw.test_x, raw.test_y)
    train_x, test_x = raw.x[train_index], pool_x[test_index]
    clean_y, test_y = raw.y[train_index], pool_y[test_index]
    scale = target_scale = _AS_IT_IS
    if raw.task == "regression":
        target_scale = _target_scale(clean_y, where, standardise)
        clean_y, test_y = (_scaled(each, target_scale) for each in (clean_y, test_y))
    else:
        _expect_classes(where, clean_y, test_y, raw.class_names)
    if not raw.of_tokens:
        scale = _scale(train_x, where, raw.names, columns=raw.features, standardise=standardise)
        train_x, test_x = (_scaled(each, scale) for each in (train_x, test_x))
        for part, values, index in (("training", train_x, train_index), ("test", test_x, test_index)):
            _expect_scaled(f"{where}: {part} input", values, index)
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
        classes=raw.classes,
        target_mean=target_scale[0],
        target_std=target_scale[1],
        features=raw.features,
        names=raw.names,
        tokens=raw.tokens,
        class_names=raw.class_names,
        one_pool=one_pool,
    )


def _drawn(raw: Raw, name: str, seed: int, train: int, test: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the training and of the test examples, (n,) and (m,)."""
    one_pool = raw.test_x is None
    available = len(raw.x) - train if one_pool else len(raw.test_x)
    if train > len(raw.x) or test > available:
        pool = f"{len(raw.x)} examples" if one_pool else f"{len(raw.x)} training and {len(raw.test_x)} test examples"
        raise ValueError(f"datasets.{name}: {train} training and {test} test examples asked for; it has {pool}")
    order = stream(seed, "data", name, "train").permutation(len(raw.x))
    if one_pool:
        return order[:train], order[train : train + test]
    return order[:train], stream(seed, "data", name, "test").permutation(len(raw.test_x))[:test]


def _expect_classes(where: str, y: np.ndarray, test_y: np.ndarray, names: tuple[str, ...]):
    """Raise ValueError where the training examples drawn have one class alone; say where test examples have others."""
    known = np.unique(y[y != IGNORED])
    if len(known) == 1:
        alone = names[known[0]] if names else known[0]
        raise ValueError(f"{where}: every training example drawn has the label {alone}; draw more of them")
    if y.ndim == 1 and (strange := ~np.isin(test_y, known)).any():
        log.warning(
            "%s: %d of %d test examples have a class that no training example drawn has: %s",
            where,
            strange.sum(),
            len(test_y),
            ", ".join(str(names[label] if names else label) for label in np.unique(test_y[strange])[:10]),
        )


# --- standardising --------------------------------------------------------------------------------------------

Scale = tuple[np.ndarray, np.ndarray]  # what is subtracted, and what is divided by
_AS_IT_IS = (np.float64(0), np.float64(1))


def _scale(x: np.ndarray, where: str, names: tuple[str, ...], *, columns: bool, standardise: bool) -> Scale:
    """Mean and deviation of the training inputs (n, ...), of each column (d,) where these are features."""
    # ASSUME: papers do not say how inputs are scaled; all pixels are shifted and divided by one mean and one deviation
    # of the training inputs.
    x, axis = _inputs.numbers(x), 0 if columns else None
    mean, std = x.mean(axis, dtype=np.float64), x.std(axis, dtype=np.float64)
    # the deviation of a constant column is rounding error, if not 0
    constant = x.min(axis) == x.max(axis)
    kept, step = _resolution(x, axis, standardise)
    called = [f"'{name}'" for name in names] or [str(place) for place in range(constant.size)]
    if np.all(constant):
        nothing = "nothing to standardise" if standardise else "nothing to learn from"
        reason = f"every training input has the value {mean}; {nothing}"
        raise ValueError(f"{where}: {reason}{_merged(kept, np.max(step))}")
    if (alike := ~constant & (std < step)).any():
        what = f"column {called[int(np.argmax(alike))]}" if columns else "inputs"
        _refuse_alike(f"{where}: {what}", kept, std[alike].flat[0], step[alike].flat[0], standardise)
    if columns and (merged := constant & (step >= 1)).any():
        what = f"column {called[int(np.argmax(merged))]}"
        log.warning("%s: %s is the same in all training examples%s", where, what, _merged(kept, step[merged][0]))
    # ASSUME: a column that is the same in all training examples is shifted and not divided: 0 there, and in test
    # examples how far they are from it, in its own unit.
    return (mean, np.where(constant, 1.0, std)[()]) if standardise else _AS_IT_IS


def _resolution(x: np.ndarray, axis: int | None, standardise: bool) -> tuple[np.dtype, np.ndarray]:
    """The precision that decides what differs, and its steps at the largest numbers: unscaled ones become float32."""
    kept = x.dtype if standardise else np.dtype(np.float32)
    largest = np.maximum(np.abs(x.min(axis)), np.abs(x.max(axis)))
    return kept, np.spacing(largest.astype(kept)).astype(np.float64)


def _merged(dtype: np.dtype, step: float) -> str:
    """Why numbers that differ may have become one, where they are so large."""
    if step < 1 or dtype == np.float64:
        return ""
    return f"; {dtype} holds such numbers in steps of {step:g}: return float64 if they differ"


def _refuse_alike(what: str, dtype: np.dtype, std: float, step: float, standardise: bool):
    remedy = "`standardise: true`, and float64 from the loader"
    if standardise:
        remedy = "return another unit" if dtype == np.float64 else "return float64"
    reason = f"{dtype} cannot tell the values apart: they deviate by {std:.2g}, in steps of {step:.2g}"
    raise ValueError(f"{what}: {reason}; {remedy}")


def _target_scale(y: np.ndarray, where: str, standardise: bool) -> Scale:
    """Mean and deviation of the training targets (n,)."""
    # SOURCE: Wei et al. 2024, arXiv:2412.03906, authors' code: the target is standardised by the training targets.
    kept, step = _resolution(y, None, standardise)
    if y.min() == y.max():
        raise ValueError(f"{where}: every training target is {y.min()}; nothing to learn{_merged(kept, step)}")
    mean, std = y.mean(dtype=np.float64), y.std(dtype=np.float64)
    if std < step:
        _refuse_alike(f"{where}: targets", kept, std, step, standardise)
    return (mean, std) if standardise else _AS_IT_IS


def _scaled(values: np.ndarray, scale: Scale) -> np.ndarray:
    """In single precision."""
    with np.errstate(over="ignore", invalid="ignore"):  # refused afterwards, by the row
        return ((_inputs.numbers(values) - scale[0]) / scale[1]).astype(np.float32)


def _expect_scaled(what: str, values: np.ndarray, rows: np.ndarray):
    """Raise ValueError naming the first row that is so far from the training examples that its scaled value is none."""
    finite = np.isfinite(values).reshape(len(values), -1).all(1)
    if not finite.all():
        reason = "is too far from the training examples: beyond single precision once standardised"
        raise ValueError(f"{what} {rows[~finite][0]} {reason}")


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
    # a class that no clean training label has would give the flipped ones away
    known, places = np.unique(labels, return_inverse=True)
    # ASSUME: a noisy label is always a wrong one: another class, each equally likely, for an exact share of the
    # training examples.
    chosen = random.permutation(len(labels))[: round(noise["fraction"] * len(labels))]
    shift = random.integers(1, len(known), size=len(chosen))
    noisy = labels.copy()
    noisy[chosen] = known[(places[chosen] + shift) % len(known)]
    return noisy
