"""How well self-influence finds mislabelled training examples, against the damping."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _style
from attriflow.summary import best, gridded

BASELINE = "loss"


def draw(mislabel: pd.DataFrame) -> Figure:
    """AUC against the damping, methods without one beside; a row an ensemble and its size, a column a setting."""
    table = gridded(mislabel).rename(columns={"auc": "value"})
    table = table if "damping" in table else table.assign(damping=np.nan)
    settings = list(table.setting.unique())
    sizes = list(table.groupby(["ensemble", "ensemble_size"], sort=True).groups)
    figure, panels = plt.subplots(
        len(sizes), 2 * len(settings), figsize=(5.4 * len(settings), 2.3 * len(sizes) + 0.7), sharey=True,
        squeeze=False, width_ratios=[3, 1] * len(settings),
    )  # fmt: skip
    for row, (ensemble, size) in zip(panels, sizes, strict=True):
        for damped, plain, setting in zip(row[::2], row[1::2], settings, strict=True):
            here = (table.setting == setting) & (table.ensemble == ensemble) & (table.ensemble_size == size)
            lines = best(table[here], ["method", "damping"])
            _damped(damped, lines[lines.damping.notna()])
            _plain(plain, lines[lines.damping.isna() & (lines.method != BASELINE)])
            _baseline(damped, plain, lines[lines.method == BASELINE])
            damped.set_title(f"{setting}, {ensemble}, e={size}")
        row[0].set_ylabel("AUC of flipped labels")
    handles = {name: line for axes in panels.flat for line, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, fontsize=6, loc="outside upper center", ncols=6)
    first = table.iloc[0]
    percent = f"{first.confidence:.0%}".replace("%", " %")
    _style.caption(
        figure,
        f"Area under the ROC curve with which self-influence tells training examples with a flipped label from the "
        f"others, {_counts(table)}; {percent} bootstrap intervals over examples, flipped and others apart. Other "
        f"hyperparameters at the values with the highest AUC. Dashed: the training loss, mean over members, at its "
        f"best epoch; what any method must beat. Dotted: chance. Dampings are in each method's own unit.",
    )
    return figure


def _damped(axes: Axes, lines: pd.DataFrame):
    for method, line in lines.groupby("method", sort=True):
        line = line.sort_values("damping")
        style = {"fmt": "o-", "markersize": 2.5, "linewidth": 1, "elinewidth": 0.7}
        style |= {"color": _style.colour(method), "label": _style.label(method)}
        axes.errorbar(line.damping, line.value, _style.errors(line), **style)
    _style.scale(axes, lines.damping)
    axes.set_xlabel("damping", labelpad=1)


def _plain(axes: Axes, points: pd.DataFrame):
    points = points.sort_values("value", ascending=False)
    for place, (_, point) in enumerate(points.iterrows()):
        ends = [[max(0, point.value - point.low)], [max(0, point.high - point.value)]]
        style = {"fmt": "o", "markersize": 2.5, "elinewidth": 0.7, "color": _style.colour(point.method)}
        axes.errorbar(place, point.value, ends, **style)
    names = [_style.label(method) for method in points.method]
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=6)
    axes.margins(x=0.2)


def _baseline(damped: Axes, plain: Axes, points: pd.DataFrame):
    """The training loss and chance, as lines over both panels."""
    point = points.iloc[0]
    for axes in (damped, plain):
        axes.axhspan(point.low, point.high, color=_style.colour(BASELINE), alpha=0.1, linewidth=0)
        name = _style.label(BASELINE) if axes is damped else None
        axes.axhline(point.value, color=_style.colour(BASELINE), linestyle="--", linewidth=0.8, label=name)
        axes.axhline(0.5, color="0.4", linestyle=":", linewidth=0.8)


def _counts(table: pd.DataFrame) -> str:
    """`100 of 1000 training labels`, of each setting."""
    pairs = table[["flipped", "n"]].drop_duplicates().itertuples(index=False)
    return " / ".join(f"{flipped} of {n}" for flipped, n in pairs) + " training labels flipped"
