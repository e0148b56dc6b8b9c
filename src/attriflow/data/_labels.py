"""Labels: classes from 0, with the names that the user has for them, or numbers to predict; never guessed which.

What a loader declares decides. Where it declares nothing, whole numbers, text and flags are classes, and numbers with
fractions are the targets of a regression; where both are likely, the user is asked.
"""

import logging
from dataclasses import dataclass
from numbers import Integral

import numpy as np

IGNORED = -100  # the label of a position that counts for nothing, as torch's losses have it
TASKS = ("classification", "regression")
_FEW = 20  # so many different numbers may be classes, whatever their dtype and the number of examples

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labels:
    """y (N, ...), test_y (or None): classes from 0, int64, and how many; or numbers, floating, and None.

    names: of the classes, () where the labels were their own indices.
    """

    y: np.ndarray
    test_y: np.ndarray | None
    classes: int | None
    names: tuple[str, ...] = ()


def read(
    where: str,
    y: np.ndarray,
    test_y: np.ndarray | None,
    *,
    positions: bool,
    vocabulary: bool,
    classes: int | None,
    names: tuple[str, ...],
    task: str | None,
) -> Labels:
    """What plain labels (N,) are, or (N, ...) where `positions` of an example have one each; where: `datasets.a`.

    vocabulary: inputs are tokens of the same kinds as these labels, which need not show all.
    classes, names: of the loader; with them, whole numbers are the model's own and stay what they are.
    Raises ValueError where classes or numbers could be meant, for labels outside of the classes, and for one class.
    """
    _expect_one_kind(where, y, test_y)
    task = task or _task(where, y, test_y, counted=positions or classes is not None or bool(names))
    if task == "regression":
        return _numbers(where, y, test_y, classes, names)
    parts = {"training": y} | ({} if test_y is None else {"test": test_y})
    parts = {part: _whole(f"{where}: {part} label", values) for part, values in parts.items()}
    classes = _declared(where, classes, names)
    if positions:
        found = _of_positions(where, parts, classes, names, vocabulary)
    elif classes is not None:
        found = _in_declared(where, parts, classes, names)
    else:
        found = _counted(where, parts)
    found_y = found.y[found.y != IGNORED] if positions else found.y
    if len(alone := np.unique(found_y)) == 1:
        raise ValueError(f"{where}: every training label is {_shown(found, alone[0])}; expected at least two classes")
    return found


def _expect_one_kind(where: str, y: np.ndarray, test_y: np.ndarray | None):
    if test_y is not None and y.dtype.kind.replace("u", "i") != test_y.dtype.kind.replace("u", "i"):
        raise ValueError(f"{where}: training labels are {y.dtype} and test labels {test_y.dtype}; expected one kind")


def _task(where: str, y: np.ndarray, test_y: np.ndarray | None, *, counted: bool) -> str:
    """What labels are where nobody says so; counted: whole ones are classes, as the loader says how many or at which
    positions. Raises ValueError for what they do not tell.
    """
    if y.dtype.kind in "bU":
        return "classification"
    every = y.ravel() if test_y is None else np.concatenate([y.ravel(), test_y.ravel()])
    different = np.unique(every)
    if counted and (different == np.round(different)).all():
        return "classification"
    if y.dtype.kind == "f":
        if not 2 <= len(different) <= max(_FEW, len(every) // 10) or (different != np.round(different)).any():
            return "regression"
        given = f"are {len(different)} whole numbers in a floating dtype, {_some(different)}"
    else:
        if len(different) <= max(_FEW, len(every) // 2):
            return "classification"
        given = f"are whole numbers, {len(different)} different ones of {len(every)}"
    raise ValueError(f"{where}: labels {given}: classes, or numbers to predict? {ASK}")


ASK = "Say `task: classification` or `task: regression` of the data set, or Raw(..., task=...)"


def _numbers(where: str, y: np.ndarray, test_y: np.ndarray | None, classes: int | None, names: tuple) -> Labels:
    if y.dtype.kind == "U":
        raise ValueError(f"{where}: labels are text, such as {str(y.flat[0])!r}, and the task is a regression")
    if y.ndim > 1:
        raise ValueError(
            f"{where}: labels {y.shape} stand at every position, and the task is a regression of one number"
        )
    if classes is not None or names:
        said = f"{classes} classes" if classes is not None else f"the names {list(names)}"
        raise ValueError(f"{where}: labels are numbers, {y.shape} and {said}; expected them without classes")
    y, test_y = (each if each is None or each.dtype.kind == "f" else each.astype(np.float64) for each in (y, test_y))
    return Labels(y, test_y, None)


def _whole(what: str, values: np.ndarray) -> np.ndarray:
    """Labels of classes, int64 where they are numbers. Raises ValueError naming the first that is no whole number."""
    if values.dtype.kind == "f" and (wrong := values != np.round(values)).any():
        example = int(np.argwhere(wrong)[0][0])
        raise ValueError(f"{what} {example} is {values[wrong][0]:g}; the task is a classification, of whole numbers")
    if values.dtype.kind == "u" and len(values) and values.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{what}s go up to {values.max()}; expected classes below 2^63")
    return values if values.dtype.kind in "bU" else values.astype(np.int64)


def _declared(where: str, classes: int | None, names: tuple[str, ...]) -> int | None:
    """How many classes the loader says there are."""
    if classes is None:
        classes = len(names) or None
    if classes is not None and (isinstance(classes, bool) or not isinstance(classes, Integral) or classes < 2):
        raise ValueError(f"{where}: classes is {classes!r}; expected a whole number of at least 2")
    if names and len(names) != classes:
        raise ValueError(f"{where}: {len(names)} class_names for {classes} classes; expected a name for each")
    if len(set(names)) != len(names):
        raise ValueError(f"{where}: class_names {list(names)} has a name twice; expected different ones")
    return None if classes is None else int(classes)


def _in_declared(where: str, parts: dict[str, np.ndarray], classes: int, names: tuple[str, ...]) -> Labels:
    """Labels of classes that the loader counts or names: whole numbers are their indices, text is one of the names."""
    if parts["training"].dtype.kind == "U":
        if not names:
            names = tuple(str(name) for name in np.unique(np.concatenate([*parts.values()])))
            if len(names) != classes:
                raise ValueError(
                    f"{where}: labels are text of {len(names)} kinds, and classes is {classes}; name them all in their "
                    f"order: class_names=(...)"
                )
        parts = {part: _among(f"{where}: {part} label", values, names) for part, values in parts.items()}
    for part, values in parts.items():
        if (wrong := (values < 0) | (values >= classes)).any():
            example = int(np.argwhere(wrong)[0][0])
            raise ValueError(
                f"{where}: {part} label {example} is {values[wrong][0]}, and there are {classes} classes, counted from "
                f"0 to {classes - 1}{_counted_from_one(parts, classes)}"
            )
    parts = {part: values.astype(np.int64) for part, values in parts.items()}
    return Labels(parts["training"], parts.get("test"), classes, names)


def _counted_from_one(parts: dict[str, np.ndarray], classes: int) -> str:
    every = np.concatenate([*parts.values()])
    if (every.min(), every.max()) == (1, classes):
        return "; labels start at 1: take 1 away, or leave out `classes`"
    return ""


def _among(what: str, values: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """The index (N,) of every text in a list of names."""
    places = {name: place for place, name in enumerate(names)}
    if unknown := [example for example, value in enumerate(values) if str(value) not in places]:
        raise ValueError(f"{what} {unknown[0]} is {str(values[unknown[0]])!r}; expected one of {list(names)}")
    return np.array([places[str(value)] for value in values], np.int64)


def _counted(where: str, parts: dict[str, np.ndarray]) -> Labels:
    """Labels of classes that nobody counted: those there are, in their order, from 0; with their names if others."""
    for part, values in parts.items():
        _expect_present(f"{where}: {part} label", values)
    known = np.unique(parts["training"])
    if "test" in parts and (wrong := ~np.isin(parts["test"], known)).any():
        example = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"{where}: test label {example} is {parts['test'][example]}; training examples have {_some(known)}; leave "
            f"such examples out, or say how many classes there are: Raw(..., classes=...)"
        )
    found = {part: np.searchsorted(known, values).astype(np.int64) for part, values in parts.items()}
    own = known.dtype.kind == "i" and np.array_equal(known, np.arange(len(known)))
    names = () if own else tuple(str(name) for name in known)
    if names:
        log.warning("%s: labels become classes from 0, in their order: %s", where, mapping(names))
    return Labels(found["training"], found.get("test"), len(known), names)


def _expect_present(what: str, values: np.ndarray):
    """Negative numbers say that a label is missing, but for -1 with 1."""
    if values.dtype.kind != "i" or set(np.unique(values)) <= {-1, 1}:
        return
    if (wrong := values < 0).any():
        raise ValueError(
            f"{what} {int(np.flatnonzero(wrong)[0])} is {values[wrong][0]}: if that says that it is missing, leave the "
            f"example out; if it is a class, count classes from 0"
        )


def _of_positions(
    where: str, parts: dict[str, np.ndarray], classes: int | None, names: tuple[str, ...], vocabulary: bool
) -> Labels:
    """Labels at every position: their classes' own indices, which stay what they are; some positions are IGNORED."""
    for part, values in parts.items():
        if values.dtype.kind != "i":
            raise ValueError(f"{where}: {part} labels {values.shape} are {values.dtype}; expected whole numbers from 0")
        ignored = values == IGNORED
        limit = np.inf if classes is None else classes
        if (wrong := ~ignored & ((values < 0) | (values >= limit))).any():
            example = int(np.argwhere(wrong)[0][0])
            right = "a whole number of at least 0" if classes is None else f"0 to {classes - 1}"
            raise ValueError(
                f"{where}: {part} label {example} holds {values[wrong][0]}; expected {right}, or {IGNORED} at "
                f"positions that do not count"
            )
        if (empty := ignored.reshape(len(values), -1).all(1)).any():
            example = int(np.flatnonzero(empty)[0])
            raise ValueError(f"{where}: {part} label {example} is {IGNORED} at every position; leave the example out")
    shown = np.setdiff1d(np.concatenate([values.ravel() for values in parts.values()]), [IGNORED])
    counted = classes or 1 + int(shown[-1])
    if classes is None and not vocabulary and len(shown) < counted:
        raise ValueError(
            f"{where}: labels of positions are {_some(shown)}; say how many there are: Raw(..., classes=...)"
        )
    return Labels(parts["training"], parts.get("test"), counted, names)


def mapping(names: tuple[str, ...]) -> str:
    """`cat -> 0, dog -> 1`: which class a label has become."""
    return _some([f"{name} -> {place}" for place, name in enumerate(names)])


def _some(values, most: int = 10) -> str:
    shown = ", ".join(str(value) for value in values[:most])
    return shown if len(values) <= most else f"{shown}, ... ({len(values)})"


def _shown(found: Labels, label: int) -> str:
    return found.names[label] if found.names else str(label)
