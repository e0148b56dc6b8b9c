"""The words a signature uses for its hyperparameters, and what a value must be to fit them.

A new kind (a method, a model, a data set, ...) states its hyperparameters as keyword-only arguments annotated with
these words; the config is checked against them by reading the file, without importing it.
"""

import ast
import math
import re
import reprlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from attriflow.words import did_you_mean

NonNegative = float
Positive = float
PositiveInt = int
Index = int
Fraction = float
Probability = float
Epoch = int | str
Examples = int | list[int]
Parameters = str
Target = str

TARGETS = ("loss", "margin", "last_token_loss")

# words that stand for a damping in a grid: rules that choose it from the spectrum (attriflow.selection)
RULES = ("select", "select_0", "mean_eigenvalue", "mean_mode", "effective_dimension")

LARGEST = 2**63  # no whole number reaches it: arrays hold none
TEXT_FOR_A_NUMBER = " (text: YAML reads 1e-5 as text, write 1.0e-5)"

# What a method's hyperparameter may be where it is text: it becomes part of a file's name, and a cell of a table, which
# a spreadsheet must not take for a formula.
IN_FILE_NAMES = re.compile(r"[A-Za-z0-9_.*?\[][A-Za-z0-9_.*?!\[\]-]{,99}")
OF_FILE_NAMES = "at most 100 letters, digits and characters of _.*?![]- (it is part of the names of files)"


def _is_number(value) -> bool:
    return _is_int(value) or (isinstance(value, float) and math.isfinite(value))


def _is_int(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST


def _is_examples(value) -> bool:
    if _is_int(value):
        return value >= 1
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(_is_int(index) and index >= 0 for index in value)
        and len(set(value)) == len(value)
    )


_LONGEST_PATH = 4096  # of Linux

# word -> (test, what would be right)
WORDS = {
    "float": (_is_number, "a number"),
    "int": (_is_int, "a whole number"),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "str": (lambda value: isinstance(value, str), "text"),
    "None": (lambda value: value is None, "null"),
    "NonNegative": (lambda value: _is_number(value) and value >= 0, "a number of at least 0"),
    "Positive": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    "PositiveInt": (lambda value: _is_int(value) and value >= 1, "a whole number of at least 1"),
    "Index": (lambda value: _is_int(value) and value >= 0, "a whole number of at least 0"),
    "Fraction": (lambda value: _is_number(value) and 0 < value < 1, "a number strictly between 0 and 1"),
    "Probability": (lambda value: _is_number(value) and 0 <= value < 1, "a number from 0 to below 1"),
    "Epoch": (
        lambda value: value == "last" or (_is_int(value) and value >= 1),
        "an epoch that the setting keeps under `checkpoints`, or 'last'",
    ),
    "Parameters": (
        lambda value: isinstance(value, str) and IN_FILE_NAMES.fullmatch(value) is not None,
        f"'all', 'last' for the last layer, or a pattern of parameter names such as 'blocks.*', {OF_FILE_NAMES}",
    ),
    "Target": (
        lambda value: value in TARGETS,
        f"the output of a test example that scores explain, one of {TARGETS}",
    ),
    "Path": (
        lambda value: isinstance(value, str) and 0 < len(value) < _LONGEST_PATH and value.isprintable(),
        "the path of a file, relative to the working directory",
    ),
    "Examples": (_is_examples, "how many (at least 1), or a list of distinct indices of at least 0"),
}


def problem(value, annotation: str) -> str | None:
    """Why `value` does not fit the annotation, as "must be ..., not ...", or None where it fits.

    >>> problem(-1.0, "NonNegative")
    'must be a number of at least 0, not -1.0'
    >>> problem("fisher", "Literal['fisher', 'ggn']") is None
    True
    """
    fits, words = _read(ast.parse(annotation, mode="eval").body)
    if fits(value):
        return None
    hint = TEXT_FOR_A_NUMBER if isinstance(value, str) and "number" in words else ""
    return f"must be {words}, not {shown(value)}{did_you_mean(value, _choices(annotation)) or hint}"


def _choices(annotation: str) -> list[str]:
    """The texts that an annotation has literally, and the outputs where it is one."""
    nodes = [*ast.walk(ast.parse(annotation, mode="eval"))]
    targets = TARGETS if any(isinstance(node, ast.Name) and node.id == "Target" for node in nodes) else ()
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)] + [*targets]


def expected(annotation: str) -> str:
    """What a value of this annotation is, in words. Raises TypeError for an annotation that is not known.

    >>> expected("list[Positive]")
    'a list, each a number above 0'
    """
    return _read(ast.parse(annotation, mode="eval").body)[1]


def fits_a_list(annotation: str) -> bool:
    """Whether a value of this annotation may be a list.

    >>> fits_a_list("PositiveInt | list[PositiveInt]"), fits_a_list("Examples"), fits_a_list("Literal['list']")
    (True, True, False)
    """
    fits, _ = _read(ast.parse(annotation, mode="eval").body)
    return fits([]) or fits([1])


def files(value, annotation: str) -> list[Path]:
    """The files that a value names, where its annotation says `Path`.

    >>> files(["a.csv", "b.csv"], "list[Path]"), files("none", "Literal['none'] | Path"), files(None, "Path | None")
    ([PosixPath('a.csv'), PosixPath('b.csv')], [], [])
    """
    found: list[Path] = []

    def note(path: str):
        found.append(Path(path))

    _with_paths(value, ast.parse(annotation, mode="eval").body, note)
    return found


def handed(value, annotation: str):
    """A value of the config as its function gets it: texts that name a file as paths.

    >>> handed(["a.csv"], "list[Path] | None"), handed("a.csv", "str")
    ([PosixPath('a.csv')], 'a.csv')
    """
    return _with_paths(value, ast.parse(annotation, mode="eval").body, Path)


def _with_paths(value, node: ast.expr, change: Callable):
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            fits_left, _ = _read(left)
            return _with_paths(value, left if fits_left(value) else right, change)
        case ast.Subscript(value=ast.Name(id="list"), slice=item) if isinstance(value, list):
            return [_with_paths(each, item, change) for each in value]
        case ast.Name(id="Path") if isinstance(value, str):
            return change(value)
    return value


def shown(value) -> str:
    """A value as Python writes it, on one line of readable length."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist, _SHORT.maxlong = 3, 8, 16, 60
_SHORT.maxstring = _SHORT.maxother = 100


def point_name(point: dict) -> str:
    """`damping=0.01,proj_dim=512`: a hyperparameter point as the name of an array, and in tables."""
    return ",".join(f"{name}={value}" for name, value in point.items())


def point_folder(point: dict) -> str:
    """`damping=0.01+proj_dim=512`: a hyperparameter point as part of a path.

    Without commas and quotes: a workflow takes a job whose wildcards have some for another one on a cluster.
    """
    return "+".join(f"{name}={quote(str(value), safe='')}" for name, value in point.items())


def _read(node: ast.expr):
    """The test and the description of one annotation: a word, `A | B`, `list[A]` or `Literal[...]`."""
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            (fits_left, left_text), (fits_right, right_text) = _read(left), _read(right)
            return (lambda value: fits_left(value) or fits_right(value)), f"{left_text}, or {right_text}"
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            allowed = ast.literal_eval(choices)
            allowed = list(allowed) if isinstance(allowed, tuple) else [allowed]
            return (lambda value: value in allowed and type(value) in map(type, allowed)), f"one of {allowed}"
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            fits_item, item_text = _read(item)
            return (
                lambda value: isinstance(value, list) and all(fits_item(each) for each in value)
            ), f"a list, each {item_text}"
        case ast.Constant(value=None):
            return WORDS["None"]
        case ast.Name(id=word) if word in WORDS:
            return WORDS[word]
    raise TypeError(f"hyperparameter annotation '{ast.unparse(node)}' is not known; known: {sorted(WORDS)}")
