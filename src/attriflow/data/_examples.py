"""What a loader hands over, and the same as plain arrays: checked for kind, shape and range before any is drawn."""

import logging
import sys
from dataclasses import dataclass, replace

import numpy as np

from attriflow.data import _inputs, _labels
from attriflow.data._arrays import expect_finite, plain

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Raw:
    """All examples that a data set offers: inputs (N, ...) and labels (N,), as arrays, tables, tensors or lists.

    Rows are taken by their position, whatever index they have (`split` makes plain arrays of them first). Inputs are
    numbers, whole ones too, unless the loader says that they are tokens: by `tokens`, how many there are, of sequences
    (N, t) with one label each, which end in PADDING; or by whole labels at every position, (N, t), which are then of
    the same kinds as the tokens unless `tokens` counts these. A position with the label IGNORED counts for nothing.
    Labels (N,) of whole numbers, text or flags are classes, counted from 0 in their order, with their names; those of a
    floating dtype are the targets of a regression; task, `classification` or `regression`, says which where both are
    likely. classes: how many outputs the model has, where labels need not show all; labels are then their indices.
    class_names: of the classes, in this order. Where the data set has no test examples of its own, both splits are
    drawn from the training ones. features: inputs (N, d) are columns, each with a meaning and a unit of its own, unlike
    pixels; names: of these columns, where they have any. channels_first: images are (N, channels, height, width),
    though their shape looks as if their channels were last.
    """

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray | None = None
    test_y: np.ndarray | None = None
    classes: int | None = None
    features: bool = False
    names: tuple[str, ...] = ()
    tokens: int = 0
    class_names: tuple[str, ...] = ()
    task: str | None = None
    channels_first: bool = False

    @property
    def of_tokens(self) -> bool:
        """Of checked examples: whether inputs are indices of tokens."""
        return bool(self.tokens) or (self.x.dtype.kind in "iu" and self.x.shape == self.y.shape)


def checked(where: str, raw: Raw, task: str | None) -> Raw:
    """The same with plain arrays, labels as classes or numbers, and `classes`, `class_names` and `task` as they are.

    where: `datasets.a`, for errors; task: what the config says.
    Raises ValueError for everything that no model could be trained on as it is meant.
    """
    x, y = _plain(where, raw)
    _inputs.expect_inputs(where, x, channels_first=raw.channels_first)
    y, positions = _of_inputs(where, x, y, raw.tokens)
    for what, parts in (("input", x), ("label", y)):
        for part, values in parts.items():
            expect_finite(values, f"{where}: {part} {what}")
    names = _names(raw.names) or _columns(where, raw)
    vocabulary = positions and x["training"].dtype.kind in "iu" and x["training"].shape == y["training"].shape
    found = _labels.read(
        where,
        y["training"],
        y.get("test"),
        positions=positions,
        vocabulary=vocabulary and not raw.tokens,
        classes=raw.classes,
        names=_names(raw.class_names),
        task=_task(where, raw.task, task),
    )
    if raw.features:
        _inputs.expect_features(where, x, names)
    if raw.tokens or vocabulary:
        _inputs.expect_tokens(where, x, y["training"].shape, raw.tokens or found.classes, positions=positions)
        x = {part: values.astype(np.int64, copy=False) for part, values in x.items()}
    told = {"classes": found.classes, "names": names, "class_names": found.names}
    told |= {"task": "regression" if found.classes is None else "classification"}
    return replace(raw, x=x["training"], y=found.y, test_x=x.get("test"), test_y=found.test_y, **told)


Parts = dict[str, np.ndarray]  # of the training examples and, where there are any, of the test examples


def _plain(where: str, raw: Raw) -> tuple[Parts, Parts]:
    """Inputs and labels as plain arrays, as many of the one as of the other."""
    if not isinstance(raw, Raw):
        raise ValueError(f"{where}: load must return Raw(x, y, ...), not {_a(raw)}")
    _expect_one_order(where, raw)
    given = {"training": (raw.x, raw.y)}
    if raw.test_x is not None or raw.test_y is not None:
        missing = "test_x" if raw.test_x is None else "test_y" if raw.test_y is None else None
        if missing:
            raise ValueError(
                f"{where}: Raw(...) lacks {missing}; give test_x and test_y, or neither to draw both splits"
            )
        given["test"] = (raw.test_x, raw.test_y)
    x = {part: plain(values, f"{where}: {part} input") for part, (values, _) in given.items()}
    y = {part: plain(values, f"{where}: {part} label") for part, (_, values) in given.items()}
    for part in given:
        if len(x[part]) != len(y[part]):
            counts = f"{len(x[part])} {part} inputs but {len(y[part])} labels"
            raise ValueError(f"{where}: {counts}; expected one label an input")
    return x, y


def _names(given: object) -> tuple[str, ...]:
    return () if given is None else tuple(map(str, given))


def _columns(where: str, raw: Raw) -> tuple[str, ...]:
    """The columns of a table as names of features; what else a table would be is said."""
    pandas = sys.modules.get("pandas")  # what is not imported made no table
    if not pandas or not isinstance(raw.x, pandas.DataFrame):
        return ()
    if raw.tokens:
        return ()
    if not raw.features:
        log.warning("%s: inputs are a table, scaled as one; features=True would scale each column by itself", where)
        return ()
    return _names(raw.x.columns)


def _expect_one_order(where: str, raw: Raw):
    """Tables whose rows have the same labels in another order, or columns in another order, were not meant so."""
    pandas = sys.modules.get("pandas")  # what is not imported made no table
    if not pandas:
        return
    tables = (pandas.DataFrame, pandas.Series)
    for part, x, y in (("training", raw.x, raw.y), ("test", raw.test_x, raw.test_y)):
        if isinstance(x, tables) and isinstance(y, tables) and _in_two_orders(x.index, y.index):
            reason = f"rows of the {part} inputs and labels have one index in two orders"
            if not any(isinstance(each.index, pandas.RangeIndex) for each in (x, y)):
                raise ValueError(f"{where}: {reason}; bring them into one, y.loc[x.index], or give arrays")
            log.warning("%s: %s; they are taken by position, whatever the index says", where, reason)
    if all(isinstance(each, pandas.DataFrame) for each in (raw.x, raw.test_x)) and list(raw.x) != list(raw.test_x):
        given = f"{list(raw.x)[:5]} ... and {list(raw.test_x)[:5]} ..."
        raise ValueError(f"{where}: columns of training and test inputs differ, {given}; expected one order")


def _in_two_orders(first, second) -> bool:
    """Whether two indices of tables hold the same labels, and not in the same order."""
    if len(first) != len(second) or first.equals(second):
        return False
    return not len(first.difference(second, sort=False)) and not len(second.difference(first, sort=False))


def _of_inputs(where: str, x: Parts, y: Parts, tokens: int) -> tuple[Parts, bool]:
    """Labels (N,) where there is one an example, though it be in a column (N, 1); and whether positions have them."""
    if all(each.ndim == 2 and each.shape[1] == 1 for each in y.values()):
        sequences = not tokens and x["training"].dtype.kind in "iu" and x["training"].shape[1:] == (1,)
        if sequences and y["training"].dtype.kind in "iu":
            raise ValueError(
                f"{where}: whole inputs and labels {y['training'].shape} may be sequences of one or not; expected "
                f"labels (N,), y[:, 0]"
            )
        y = {part: each[:, 0] for part, each in y.items()}
    if len({each.ndim for each in y.values()}) > 1:
        raise ValueError(
            f"{where}: labels of training {y['training'].shape} and test {y['test'].shape}; expected one form"
        )
    (positions, *_) = [_inputs.have_positions(f"{where}: {part}", x[part], y[part]) for part in y]
    return y, positions


def _task(where: str, of_loader: str | None, of_config: str | None) -> str | None:
    """Whether labels are classes or numbers, where somebody says so."""
    said = {each for each in (of_loader, of_config) if each is not None}
    if wrong := said - {*_labels.TASKS}:
        raise ValueError(f"{where}: task is {min(map(str, wrong))!r}; expected one of {list(_labels.TASKS)}")
    if len(said) > 1:
        raise ValueError(f"{where}: the loader says that it is a {of_loader}, the config says a {of_config}")
    return next(iter(said), None)


def _a(value: object) -> str:
    """`a tuple of 4`: what a loader gave in place of Raw."""
    held = f" of {len(value)}" if isinstance(value, tuple | list | dict) else ""
    return f"a {type(value).__name__}{held}" if value is not None else "None; does it say `return`?"
