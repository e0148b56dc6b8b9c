"""How well self-influence finds mislabelled training examples, against the damping."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from attriflow.figures import _style
from attriflow.summary import OF_SIZE, best, gridded

BASELINE = "loss"
TICKS = (0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)


def draw(mislabel: pd.DataFrame) -> Figure:
    """AUC against the damping, methods without one beside; a row an ensemble and its size, a column a setting.

    On a logit axis: what differs lies near 1. An AUC of 1 is drawn as if half a pair of examples were in wrong order.
    """
    table = gridded(mislabel).rename(columns={"auc": "value"})
    table = table if "damping" in table else table.assign(damping=np.nan)
    half = 0.5 / (table.flipped * (table.n - table.flipped))
    table = table.assign(**{name: table[name].clip(half, 1 - half) for name in ("value", "low", "high")})
    settings = list(table.setting.unique())
    plain_methods = list(table.method[table.damping.isna() & (table.method != BASELINE)].unique())
    sizes = list(table.groupby(OF_SIZE, sort=True).groups)
    figure, panels = plt.subplots(
        len(sizes), 2 * len(settings), figsize=(5.4 * len(settings), 1.7 * len(sizes) + 1.5),
        sharex="col", sharey=True, squeeze=False, width_ratios=[3, 1] * len(settings),
    )  # fmt: skip
    for row, of_size in zip(panels, sizes, strict=True):
        for damped, plain, setting in zip(row[::2], row[1::2], settings, strict=True):
            here = (table.setting == setting) & (table[OF_SIZE] == of_size).all(axis=1)
            lines = best(table[here], ["method", "damping"])
            _damped(damped, lines[lines.damping.notna()])
            _plain(plain, lines[lines.damping.isna()], plain_methods)
            _baseline(damped, plain, lines[lines.method == BASELINE])
            damped.set_yscale("logit")
            damped.set_yticks(TICKS, TICKS)
            damped.yaxis.set_minor_locator(NullLocator())
            damped.set_title(f"{setting}, {of_size[0]}, {_style.size(*of_size[2:])}")
        row[0].set_ylabel("AUC of flipped labels")
    low, high = table.low.min(), table.high.max()
    panels[0, 0].set_ylim(low - 0.3 * low * (1 - low), high + 0.3 * high * (1 - high))
    for axes in panels[-1, ::2]:
        axes.set_xlabel("damping", labelpad=1)
    handles = {name: line for axes in panels.flat for line, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, fontsize=6, loc="outside upper center", ncols=6)
    first = table.iloc[0]
    percent = f"{first.confidence:.0%}".replace("%", " %")
    _style.caption(
        figure,
        f"Area under the ROC curve with which self-influence tells training examples with a flipped label from the "
        f"others, on a logit axis, {_counts(table)}; {percent} intervals over examples, flipped and others "
        f"apart. Other hyperparameters at the values with the highest AUC. Dashed: the training loss, mean over "
        f"members, at its best epoch; what any method must beat. Dotted: chance. Dampings: each method's own unit.",
    )
    return figure


def _damped(axes: Axes, lines: pd.DataFrame):
    for method, line in lines.groupby("method", sort=True):
        line = line.sort_values("damping")
        style = {"fmt": "o-", "markersize": 2.5, "linewidth": 1, "elinewidth": 0.7}
        style |= {"color": _style.colour(method), "label": _style.label(method)}
        axes.errorbar(line.damping, line.value, _style.errors(line), **style)
    _style.scale(axes, lines.damping)


def _plain(axes: Axes, points: pd.DataFrame, methods: list[str]):
    for _, point in points[points.method.isin(methods)].iterrows():
        ends = [[max(0, point.value - point.low)], [max(0, point.high - point.value)]]
        style = {"fmt": "o", "markersize": 2.5, "elinewidth": 0.7, "color": _style.colour(point.method)}
        axes.errorbar(methods.index(point.method), point.value, ends, **style)
    names = [_style.label(method) for method in methods]
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=6)
    axes.margins(x=0.2)


def _baseline(damped: Axes, plain: Axes, points: pd.DataFrame):
    """The training loss and chance, as lines over both panels."""
    colour = _style.colour(BASELINE)
    for axes in (damped, plain):
        axes.axhline(0.5, color="0.4", linestyle=":", linewidth=0.8)
        for _, point in points.iterrows():  # none where another setting alone has this ensemble size
            axes.axhspan(point.low, point.high, color=colour, alpha=0.1, linewidth=0)
            axes.axhline(point.value, color=colour, linestyle="--", linewidth=0.8, label=_style.label(BASELINE))


def _counts(table: pd.DataFrame) -> str:
    """`100 of 1000 training labels`, of each setting."""
    pairs = table[["flipped", "n"]].drop_duplicates().itertuples(index=False)
    return " / ".join(f"{flipped} of {n}" for flipped, n in pairs) + " training labels flipped"
