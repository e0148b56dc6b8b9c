"""What loaders hand over, made plain arrays: the rows by their position, whatever index, mask or framework they have.

Lists, numpy arrays and memory maps, pandas objects, tensors, and anything that numpy reads by `__array__` are taken. In
what comes out nothing is missing: a gap is refused by the example that has it.
"""

import array
import sys
from decimal import Decimal
from enum import Enum
from numbers import Real

import numpy as np

NUMBERS, TEXT = "biuf", "U"  # kinds of dtypes that come out
_ARRAYS = "an array, a table, a tensor or a list"
LARGEST = float(np.finfo(np.float32).max)
_BLOCK = 2**22  # numbers that are looked at at once, so that a memory map stays one


def plain(values: object, what: str) -> np.ndarray:
    """Numbers or text, (N, ...), of anything array-like; what: `datasets.a: training input`, for errors.

    Numbers keep their dtype (bool, whole or floating), text is `str`. No row is looked up by a label of its own.
    Raises ValueError naming the first example that is missing, masked, of another shape or no number or text.
    """
    found = _array(values, what)
    if found.ndim == 0:
        raise ValueError(f"{what}s are one {_type(values)}; expected an array with a row for every example")
    if found.dtype.kind == "S":
        found = np.char.decode(found, "utf-8")
    if found.dtype.kind not in NUMBERS + TEXT:
        raise ValueError(f"{what}s are of dtype {found.dtype}; expected numbers{_REMEDIES.get(found.dtype.kind, '')}")
    if found.dtype.kind == TEXT and (blank := np.char.strip(found) == "").any():
        raise ValueError(f"{what} {_first(blank)} is missing: blank text; leave the example out")
    return found.astype(found.dtype.newbyteorder("="), copy=False)


_REMEDIES = {
    "V": ", one column after the other (numpy.lib.recfunctions.structured_to_unstructured)",
    "M": ", such as days since a date",
    "m": ", such as seconds (x / numpy.timedelta64(1, 's'))",
    "c": ", such as real and imaginary parts",
}


def expect_finite(values: np.ndarray, what: str):
    """Raise ValueError naming the first example with a number that is not finite, or beyond single precision."""
    if values.dtype.kind != "f":
        return
    rows, largest = max(1, _BLOCK // max(1, values[:1].size)), min(LARGEST, float(np.finfo(values.dtype).max))
    for start in range(0, len(values), rows):
        block = values[start : start + rows].reshape(len(values[start : start + rows]), -1)
        usable = np.abs(block) <= largest  # false of what is no number, too
        if not usable.all():
            example = _first(~usable)
            value = block[example][~usable[example]][0]
            reason = (
                f"holds {value:g}, beyond single precision ({LARGEST:.2g})" if np.isfinite(value) else "is not finite"
            )
            raise ValueError(f"{what} {start + example} {reason}")


def _array(values: object, what: str) -> np.ndarray:
    """A numpy array of any dtype but objects."""
    pandas, torch = sys.modules.get("pandas"), sys.modules.get("torch")  # what is not imported made nothing
    if torch and isinstance(values, torch.Tensor):
        return _tensor(values, what)
    if pandas and isinstance(values, pandas.DataFrame):
        return _frame(values, what)
    if pandas and isinstance(values, pandas.Series | pandas.Index | pandas.api.extensions.ExtensionArray):
        return _column(values, what)
    if np.ma.isMaskedArray(values):
        if (mask := np.ma.getmaskarray(values)).any():
            raise ValueError(f"{what} {_first(mask)} is masked; leave the example out, or fill the gap")
        return _array(values.data, what)
    if isinstance(values, list | tuple):
        return _sequence(list(values), what)
    if hasattr(values, "toarray"):
        raise ValueError(f"{what}s are a sparse {_type(values)}; expected a dense array: x.toarray()")
    if not (hasattr(values, "__array__") or hasattr(values, "__array_interface__") or isinstance(values, _BUFFERS)):
        raise ValueError(f"{what}s are of type {_type(values)}; expected {_ARRAYS}")
    found = np.asarray(values)  # of a memory map a view: nothing is read
    if found.dtype.kind == "T":  # numpy's text of any length
        found = found.astype(object)
    return _objects(found, what) if found.dtype == object else found


_BUFFERS = (memoryview, array.array, range)


def _tensor(values, what: str) -> np.ndarray:
    torch = sys.modules["torch"]  # without an import, a data set depends on no release of it
    if values.layout != torch.strided or values.is_quantized or values.is_meta or values.is_nested:
        raise ValueError(f"{what}s are a sparse, nested, quantised or empty tensor; expected a dense one with numbers")
    if values.is_floating_point() and values.dtype not in (torch.float16, torch.float32, torch.float64):
        values = values.float()  # bfloat16 and smaller: numpy has none
    return values.numpy(force=True)


def _frame(frame, what: str) -> np.ndarray:
    """The columns of a table (N, d), each as it is by itself: together, flags and numbers would be objects."""
    names = [str(name) for name in frame.columns]
    columns = [_array(frame.iloc[:, place], f"{what}, column '{name}', example") for place, name in enumerate(names)]
    for name, column in zip(names, columns, strict=True):
        if column.dtype.kind in "USmMcV" and len(columns) > 1:
            kind = "text" if column.dtype.kind in "US" else column.dtype
            raise ValueError(f"{what}s: column '{name}' is {kind}; make numbers of it, such as pandas.get_dummies does")
    return np.stack(columns, 1) if columns else np.empty((len(frame), 0))


def _column(values, what: str) -> np.ndarray:
    """A series, an index or what it holds, by position."""
    if (gaps := np.asarray(values.isna())).any():
        raise ValueError(f"{what} {_first(gaps)} is missing; leave the example out, or fill the gap")
    return _array(values.to_numpy(), what)


def _sequence(values: list, what: str) -> np.ndarray:
    """A list of numbers, of text, of lists or of arrays of one shape."""
    if any(_is_rows(value) for value in values):
        return _stacked(values, what)
    try:
        found = np.asarray(values)
    except (ValueError, OverflowError):
        found = np.empty(0, object)
    if found.dtype.kind not in "USO" and len(found):
        return found
    found = np.empty(len(values), object)  # text and numbers apart: numpy would make text of both
    found[:] = values
    return _objects(found, what)


def _stacked(values: list, what: str) -> np.ndarray:
    """Examples that are arrays or lists themselves, which must have one shape and be all numbers or all text."""
    arrays = [_array(value, f"{what} {place}: entry") for place, value in enumerate(map(_as_rows, values))]
    first = arrays[0]
    for place, each in enumerate(arrays):
        if each.shape != first.shape:
            raise ValueError(f"{what} {place} has shape {each.shape}, the first has {first.shape}; expected one shape")
        if (each.dtype.kind in "US") != (first.dtype.kind in "US"):
            given = f"is of dtype {each.dtype}, the first of {first.dtype}"
            raise ValueError(f"{what} {place} {given}; expected all numbers, or all text")
    return np.stack(arrays)


def _as_rows(value: object) -> object:
    """An example of several; a number or text by itself is one of another shape."""
    return value if _is_rows(value) else np.asarray(value)


def _objects(values: np.ndarray, what: str) -> np.ndarray:
    """An array of Python objects: all text, all numbers, or arrays of one shape."""
    if values.ndim == 0:
        raise ValueError(f"{what}s are of type {_type(values[()])}; expected {_ARRAYS}")
    if any(_is_rows(value) for value in values.flat):
        return _stacked(list(values), what)
    entries = [_named(value) for value in values.flat]
    width = len(entries) // max(1, len(values))  # entries of an example
    for place, value in enumerate(entries):
        if _is_missing(value):
            raise ValueError(f"{what} {place // width} is missing ({value}); leave the example out, or fill the gap")
    kinds = [_kind(value) for value in entries]
    if set(kinds) == {"text"}:
        text = [value.decode() if isinstance(value, bytes) else value for value in entries]
        return np.array(text, np.str_).reshape(values.shape)
    for place, kind in enumerate(kinds):
        if kind != "a number":
            given = f"{what} {place // width} is {kind}, {entries[place]!r:.40}"
            raise ValueError(f"{given}; expected all numbers, or labels that are all text")
    return _numbers(entries).reshape(values.shape)


def _named(value: object) -> object:
    """The name of a member of an enumeration that is no number."""
    return value.name if isinstance(value, Enum) and not isinstance(value, Real) else value


def _numbers(entries: list) -> np.ndarray:
    flags = [isinstance(value, bool | np.bool_) for value in entries]
    if all(flags):
        return np.array(entries, np.bool_)
    if all(isinstance(value, int | np.integer) or flag for value, flag in zip(entries, flags, strict=True)):
        try:
            return np.array([int(value) for value in entries], np.int64)
        except OverflowError:
            pass
    return np.array([float(value) for value in entries], np.float64)


def _kind(value: object) -> str:
    if isinstance(value, Real | Decimal | np.bool_):
        return "a number"
    return "text" if isinstance(value, str | bytes) else f"of type {_type(value)}"


def _is_missing(value: object) -> bool:
    """None, and what is not equal to itself, or cannot say: NaN, NaT, NA."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):
        return True


def _is_rows(value: object) -> bool:
    """Whether an element is an array or a list itself."""
    if isinstance(value, int | float | str | None):
        return False
    held = hasattr(value, "__array__") or hasattr(value, "__array_interface__")
    return isinstance(value, list | tuple) or (held and not isinstance(value, np.generic))


def _first(wrong: np.ndarray) -> int:
    """The first example of which something is wrong."""
    return int(np.argwhere(wrong)[0][0])


def _type(value: object) -> str:
    return type(value).__name__
