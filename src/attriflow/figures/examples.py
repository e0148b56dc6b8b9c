"""What the best scores point at: the training examples that help and hurt a few test examples most.

Images are shown; of a table the features in which a training example differs most from the test example.
"""

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _style

_FEATURES, _LETTERS = 3, 10  # of a table's row that are named, and of a name
_LETTERS_OF_CLASS = 8  # behind a row's number


def draw(examples: list[dict[str, np.ndarray]]) -> Figure:
    """A block of rows a setting: test example, its most helpful and its most harmful training examples."""
    count = examples[0]["helpful"].shape[1]
    rows = [(each, row) for each in examples for row in range(len(each["tests"]))]
    tables = any(each["features"] for each in examples)
    width = 1.15 if tables else 0.85
    figure, panels = plt.subplots(
        len(rows), 2 * count + 1, figsize=(width * (2 * count + 1), 1.02 * len(rows) + 0.5), squeeze=False
    )
    for line, (each, row) in zip(panels, rows, strict=True):
        test = each["test_x"][row]
        words = _words(f"test {each['tests_rows'][row]}", each["test_y"][row])
        _panel(line[0], each, test, each["mean"], words, "black")
        for side, colour, first in (("helpful", "#0072B2", 1), ("harmful", "#D55E00", 1 + count)):
            for place in range(count):
                words = _words(each[f"{side}_rows"][row, place], each[f"{side}_y"][row, place])
                _panel(line[first + place], each, each[f"{side}_x"][row, place], test, words, colour)
        if row == 0:
            line[0].annotate(
                str(each["setting"]), (0, 1), (0, 16), xycoords="axes fraction", textcoords="offset points", fontsize=8
            )
    described = "; ".join(
        f"{each['setting']}: {_style.label(str(each['method']))} ({each['point']}), "
        f"{_style.metric_label(str(each['metric']))} {float(each['value']):.2f}"
        for each in examples
    )
    said = (
        " Of a table: the features in which it differs most from the test example, which itself does from the mean; in "
        "brackets by how much, in deviations of the training examples."
    )
    _style.caption(
        figure,
        f"Left: the first test examples. Blue: the {count} training examples whose presence lowers its loss most, by "
        f"the scores that predict retraining best ({described}). Red: those that raise it most. {_rows(examples)}"
        f"{said if tables else ''}",
    )
    return figure


def _rows(examples: list[dict[str, np.ndarray]]) -> str:
    """What the numbers of examples count."""
    pools = {bool(each["one_pool"]) for each in examples}
    words = {True: "one table for training and test", False: "the training and the test data each by themselves"}
    return f"Row of {', or '.join(words[pool] for pool in sorted(pools, reverse=True))}, from 0: label."


def _words(row: object, label: np.ndarray) -> str:
    """The row in the user's data, and the label where there is one an example."""
    return f"{row}: {_label(label)}" if label.ndim == 0 else str(row)


def _label(value: np.ndarray) -> str:
    return f"{value:.4g}" if value.dtype.kind == "f" else _printable(str(value))[:_LETTERS_OF_CLASS]


def _panel(axes: Axes, each: dict[str, np.ndarray], x: np.ndarray, other: np.ndarray, words: str, colour: str):
    """One example: its index and label, and its image, or how its features differ from another's."""
    if each["features"]:
        _differences(axes, each, x, other)
    else:
        _image(axes, x)
    axes.set_title(words, fontsize=6, color=colour, pad=2, parse_math=False)  # a class may be called US$
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linewidth=0.8)


def _differences(axes: Axes, each: dict[str, np.ndarray], x: np.ndarray, other: np.ndarray):
    """The features of a row (d,) that differ most from another's, with their values; of `colour=red` the category."""
    names = [_name(name) for name in each["names"]] or [f"x{place}" for place in range(len(x))]
    x = np.where(np.abs(x) < 1e-5 * each["std"], 0, x)  # what standardising and back leaves of 0
    far = (x - other) / each["std"]
    most = np.argsort(-np.abs(far), kind="stable")[:_FEATURES]
    lines = [f"{names[place][:_LETTERS]} {x[place]:.4g} ({far[place]:+.1f})" for place in most]
    style = {"fontsize": 5, "va": "center", "linespacing": 1.6, "transform": axes.transAxes}
    axes.text(0.04, 0.5, "\n".join(lines), parse_math=False, **style)  # a column may be called US$


def _name(column: str) -> str:
    """A column's name on one line, of a category its value; letters that are none are left out."""
    return _printable(column.rpartition("=")[2])


def _printable(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())


def _image(axes: Axes, pixels: np.ndarray):
    """An image (channels, height, width), of any other shape as a strip of its values."""
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3):
        shown = pixels[0] if pixels.shape[0] == 1 else np.moveaxis(pixels, 0, -1)
    else:
        shown = pixels.reshape(1, -1)
    axes.imshow(shown, cmap="gray_r", aspect="auto" if shown.shape[0] == 1 else "equal")
