"""How ground truths of one final model agree, how noisy they are, and what retraining from scratch says instead."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _further, _style

STYLES = {"centred": "-", "full_run": "--"}
NOISE = "variance_of_a_seed"


def draw(further: pd.DataFrame, further_truths: pd.DataFrame) -> Figure:
    """A row a setting: cosine between ground truths, variance of a seed, cosine of methods to retraining.

    The last after Wei et al. 2025, figure 11, where some setting retrains.
    """
    settings = sorted(further_truths.setting.unique())
    retrained = further[further.estimator == "retraining"]
    columns = 2 if retrained.empty else 3
    figure, panels = plt.subplots(
        len(settings), columns, figsize=(3.7 * columns, 2.4 * len(settings) + 0.9), squeeze=False
    )
    for row, setting in zip(panels, settings, strict=True):
        table = further_truths[further_truths.setting == setting]
        pairs = table[table.metric == "cosine"]
        _lines(row[0], pairs, pairs.truth + " and " + pairs.other)
        row[0].set_ylabel("cosine between two")
        row[0].axhline(0, color="0.2", linewidth=0.6)
        noise = table[table.metric == NOISE]
        _lines(row[1], noise, noise.truth)
        row[1].set_ylabel("variance of one seed / mean square")
        row[1].set_yscale("log")
        for axes in row[:2]:
            axes.set_xscale("log")
            axes.set_xlabel("further training (epochs)")
        if columns == 3:
            _bars(row[2], retrained[retrained.setting == setting])
        _further.name(row[0], setting)
    words = (
        "Ground truths of the same final models; means over test examples and final models. Solid: scores centred on "
        "their mean over left-out examples; dashed: less the run on all examples. Variance over seeds of a score of "
        "one seed, over the mean square of their mean."
    )
    if columns == 3:
        words += (
            " Right: cosine of centred scores of retraining from scratch without the same examples to every method, at "
            "the hyperparameters that are best at it; points: final models."
        )
    _style.caption(figure, words)
    return figure


def _lines(axes: Axes, table: pd.DataFrame, names: pd.Series):
    """A colour a name, a line style an adjustment; mean over final models."""
    for place, name in enumerate(dict.fromkeys(names)):
        for adjustment, style in STYLES.items():
            part = table[(names == name) & (table.adjustment == adjustment)]
            mean = part.groupby("epochs")["mean"].mean()
            label = name if adjustment == "centred" else None
            axes.plot(mean.index, mean, style, color=f"C{place}", marker=".", markersize=3, label=label)
    if len(names):
        axes.legend(fontsize=5.5)


def _bars(axes: Axes, table: pd.DataFrame):
    table = _further.pointed(table[(table.metric == "cosine") & (table.adjustment == "centred")])
    if table.empty:
        axes.set_axis_off()
        return
    means = table.groupby(["method", "point"], sort=False)["mean"].mean().fillna(-1).reset_index()
    best = means.loc[means.groupby("method", sort=False)["mean"].idxmax()].sort_values("mean", ascending=False)
    for place, (method, point) in enumerate(zip(best.method, best.point, strict=True)):
        here = table[(table.method == method) & (table.point == point)]
        axes.barh(place, here["mean"].mean(), 0.8, color=_style.colour(method), alpha=0.75)
        axes.plot(here["mean"], np.full(len(here), place), ".", color="0.15", markersize=3)
    axes.set_yticks(range(len(best)), [_style.label(method) for method in best.method])
    axes.invert_yaxis()
    axes.axvline(0, color="0.2", linewidth=0.6)
    axes.set_xlabel("cosine to retraining from scratch")
    axes.grid(axis="y", visible=False)
