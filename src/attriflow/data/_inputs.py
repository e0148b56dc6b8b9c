"""Inputs: numbers, or indices of tokens where the loader says so; refused where they are in no form that we know."""

import numpy as np

PADDING = 0  # the token behind the end of a sequence with one label
_WHOLE = "iu"
_COLOURS = (1, 3, 4)  # channels of images: grey, colour, with transparency


def have_positions(what: str, x: np.ndarray, y: np.ndarray) -> bool:
    """Whether labels (N, ...) stand at every position of inputs; what: `datasets.a: training`.

    Raises ValueError for labels in another form.
    """
    if y.ndim < 2:
        return False
    if x.dtype.kind in _WHOLE and y.dtype.kind in _WHOLE and x.shape == y.shape:
        return True
    one_hot = y.ndim == 2 and y.dtype.kind in "biuf" and ((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all()
    if one_hot:
        raise ValueError(f"{what} labels {y.shape} are one-hot; give the class of each example: y.argmax(1)")
    if y.dtype.kind == "f":
        raise ValueError(
            f"{what} labels are numbers, {y.shape}; expected one an example, ({len(y)},): of several targets make a "
            f"data set each"
        )
    axes = y.shape[1:]
    if y.dtype.kind in _WHOLE and x.ndim > 2 and axes in (x.shape[1 : 1 + len(axes)], x.shape[-len(axes) :]):
        return True
    raise ValueError(
        f"{what} labels {y.shape} of {y.dtype} for inputs {x.shape}; expected one an example, (N,), or whole numbers "
        f"at every position of sequences (N, t); several targets an example are not supported"
    )


def expect_inputs(where: str, parts: dict[str, np.ndarray], *, channels_first: bool = False):
    """Raise ValueError unless inputs are numbers in one form, of one kind and one shape in training and test.

    channels_first: the loader says that images are (N, channels, height, width), whatever their shape suggests.
    """
    for part, x in parts.items():
        if x.dtype.kind == "U":
            raise ValueError(f"{where}: {part} inputs are text, such as {str(x.flat[0])!r:.40}; make numbers of it")
        if not len(x):
            raise ValueError(f"{where}: there are no {part} inputs; expected at least one example")
        if x.ndim < 2 or 0 in x.shape:
            raise ValueError(
                f"{where}: {part} inputs have shape {x.shape}; expected examples (N, ...), such as x[:, None]"
            )
        if not channels_first:
            _expect_channels_first(where, part, x)
    if "test" in parts:
        x, test_x = parts.values()
        if x.shape[1:] != test_x.shape[1:]:
            shapes = f"training inputs have shape {x.shape[1:]} and test inputs {test_x.shape[1:]}"
            raise ValueError(f"{where}: {shapes}; expected one shape")
        if (x.dtype.kind == "f") != (test_x.dtype.kind == "f"):
            dtypes = f"training inputs are {x.dtype} and test inputs {test_x.dtype}"
            raise ValueError(f"{where}: {dtypes}, so their units may differ; give both in one dtype")


def _expect_channels_first(where: str, part: str, x: np.ndarray):
    """Images (N, height, width, channels) would be taken for others of many channels."""
    if x.ndim != 4 or x.shape[1] in _COLOURS[:2] or x.shape[3] not in _COLOURS or min(x.shape[1:3]) <= x.shape[3]:
        return
    raise ValueError(
        f"{where}: {part} inputs {x.shape} are images with their {x.shape[3]} channels last; expected (N, channels, "
        f"height, width): x.transpose(0, 3, 1, 2), or Raw(..., channels_first=True) if they are"
    )


def expect_tokens(where: str, parts: dict[str, np.ndarray], labels: tuple[int, ...], tokens: int, *, positions: bool):
    """Raise ValueError unless inputs are sequences (N, t) of so many tokens, and, with one label each, end in padding.

    labels: their shape, with one at every position or not.
    """
    for part, x in parts.items():
        if x.ndim != 2 or x.dtype.kind not in _WHOLE or not 0 <= x.min() <= x.max() < tokens:
            given = (
                f"{part} inputs {x.shape} {x.dtype} from {x.min()} to {x.max()} and labels {labels}{_beyond(x, tokens)}"
            )
            right = "a label at every position" if positions else "one label each"
            raise ValueError(f"{where}: {given}; expected sequences (N, t) of {tokens} tokens, from 0, with {right}")
        if not positions:
            _expect_padding_at_the_end(f"{where}: {part} input", x)


def _beyond(x: np.ndarray, tokens: int) -> str:
    """The first example with a token that is none."""
    wrong = ~((x >= 0) & (x < tokens))
    return f", example {int(np.argwhere(wrong)[0][0])} the first beyond" if wrong.any() else ""


def _expect_padding_at_the_end(what: str, x: np.ndarray):
    padding = x == PADDING
    if (empty := padding.all(1)).any():
        raise ValueError(
            f"{what} {_first(empty)} is empty, all of it is padding ({PADDING}); {empty.sum()} such, leave them out"
        )
    if (left := padding[:, 0]).any():
        raise ValueError(
            f"{what} {_first(left)} begins with token {PADDING}, which is padding and belongs at the end; pad there, "
            f"or count tokens from {PADDING + 1}"
        )
    if (inside := (padding[:, :-1] & ~padding[:, 1:]).any(1)).any():
        raise ValueError(
            f"{what} {_first(inside)} has token {PADDING} before its end, which is padding; count tokens from "
            f"{PADDING + 1}, and pad at the end"
        )


def expect_features(where: str, parts: dict[str, np.ndarray], names: tuple[str, ...]):
    """Raise ValueError unless inputs are columns (N, d), with a name each or without."""
    for part, x in parts.items():
        if x.ndim != 2 or (names and len(names) != x.shape[1]):
            given = f" and {len(names)} names" if names else ""
            raise ValueError(
                f"{where}: {part} inputs {x.shape}{given}; features are columns (N, d), with a name each or without"
            )


def numbers(x: np.ndarray) -> np.ndarray:
    """Inputs of any dtype as floating ones that hold the same numbers."""
    if x.dtype.kind == "f":
        return x.astype(np.float64) if x.dtype.itemsize > 8 else x
    return x.astype(np.float32 if x.dtype.itemsize <= 2 else np.float64)


def _first(wrong: np.ndarray) -> int:
    return int(np.flatnonzero(wrong)[0])
