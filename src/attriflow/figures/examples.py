"""What the best scores point at: the training examples that help and hurt a few test examples most."""

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _style


def draw(examples: list[dict[str, np.ndarray]]) -> Figure:
    """A block of rows a setting: test image, its most helpful and its most harmful training images."""
    count = examples[0]["helpful"].shape[1]
    rows = [(each, row) for each in examples for row in range(len(each["tests"]))]
    figure, panels = plt.subplots(
        len(rows), 2 * count + 1, figsize=(0.85 * (2 * count + 1), 1.02 * len(rows) + 0.5), squeeze=False
    )
    for line, (each, row) in zip(panels, rows, strict=True):
        _image(line[0], each["test_x"][row], _words(f"test {each['tests'][row]}", each["test_y"][row]), "black")
        for side, colour, first in (("helpful", "#0072B2", 1), ("harmful", "#D55E00", 1 + count)):
            for place in range(count):
                words = _words(each[side][row, place], each[f"{side}_y"][row, place])
                _image(line[first + place], each[f"{side}_x"][row, place], words, colour)
        if row == 0:
            line[0].annotate(
                str(each["setting"]), (0, 1), (0, 16), xycoords="axes fraction", textcoords="offset points", fontsize=8
            )
    described = "; ".join(
        f"{each['setting']}: {_style.label(str(each['method']))} ({each['point']}), "
        f"{_style.metric_label(str(each['metric']))} {float(each['value']):.2f}"
        for each in examples
    )
    _style.caption(
        figure,
        f"Left: the first test images. Blue: the {count} training images whose presence lowers its loss most, by the "
        f"scores that predict retraining best ({described}). Red: those that raise it most. Index: label.",
    )
    return figure


def _words(index: object, label: np.ndarray) -> str:
    """The index, and the label where there is one an example."""
    return f"{index}: {label}" if label.ndim == 0 else str(index)


def _image(axes: Axes, pixels: np.ndarray, words: str, colour: str):
    """An image (channels, height, width), of any other shape as a strip of its values."""
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3):
        shown = pixels[0] if pixels.shape[0] == 1 else np.moveaxis(pixels, 0, -1)
    else:
        shown = pixels.reshape(1, -1)
    axes.imshow(shown, cmap="gray_r", aspect="auto" if shown.shape[0] == 1 else "equal")
    axes.set_title(words, fontsize=6, color=colour, pad=2)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linewidth=0.8)
