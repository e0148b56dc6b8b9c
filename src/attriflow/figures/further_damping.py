"""How the damping moves the agreement with further training, at several amounts of it."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _further, _style

AMOUNTS = 4  # lines of a panel, about: the first amount, the last, and some between


def draw(further_dampings: pd.DataFrame) -> Figure:
    """Cosine against the damping, a line an amount of further training; a row a setting and truth, a column a method.

    Other hyperparameters at their best for each.
    """
    table = _further.pointed(further_dampings[further_dampings.epochs.notna() & further_dampings.damping.notna()])
    table = table[(table.metric == "cosine") & (table.adjustment == "centred")]
    methods = [method for method, part in table.groupby("method", sort=False) if part.damping.nunique() > 1]
    parts = list(_further.rows(table[table.method.isin(methods)]))
    figure, panels = plt.subplots(
        len(parts), len(methods), figsize=(max(2.3 * len(methods), 4.6), 2.0 * len(parts) + 0.9), sharey="row",
        squeeze=False,
    )  # fmt: skip
    for row, (title, part) in zip(panels, parts, strict=True):
        for axes, method in zip(row, methods, strict=True):
            _panel(axes, part[part.method == method])
            axes.set_title(_style.label(method), fontsize=7, color=_style.colour(method))
        row[0].set_ylabel("cosine")
        _further.name(row[0], title)
        row[0].legend(fontsize=5.5, title="epochs", title_fontsize=5.5)
    for axes in panels[-1]:
        axes.set_xlabel("damping")
    _style.caption(
        figure,
        "Agreement with centred gold scores, mean over test examples and final models, at each damping of the grid; "
        "other hyperparameters at their best for each. Thin lines: final models.",
    )
    return figure


def _panel(axes: Axes, table: pd.DataFrame):
    if table.empty:
        axes.set_axis_off()
        return
    epochs = sorted(table.epochs.unique())
    step = max(1, round((len(epochs) - 1) / (AMOUNTS - 1)))
    shown = sorted({*epochs[::step], epochs[-1]})
    for place, amount in enumerate(shown):
        here = table[table.epochs == amount]
        each = here.groupby(["ensemble", "damping"])["mean"].max().reset_index()
        colour = plt.cm.viridis(0.9 * place / max(1, len(shown) - 1))
        for _, model in each.groupby("ensemble"):
            axes.plot(model.damping, model["mean"], color=colour, linewidth=0.4, alpha=0.5)
        mean = each.groupby("damping")["mean"].mean()
        axes.plot(mean.index, mean, ".-", color=colour, linewidth=1.4, markersize=4, label=f"{amount:g}")
    _style.scale(axes, table.damping)
    axes.axhline(0, color="0.2", linewidth=0.6)
