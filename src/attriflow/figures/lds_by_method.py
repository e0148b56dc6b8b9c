"""How well each method predicts retraining, at its best hyperparameters."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _style
from attriflow.summary import best, lds_of_loss


def draw(summary: pd.DataFrame) -> Figure:
    """Bars of the LDS (loss) per method and ensemble size, one panel a setting, with intervals and the ceiling."""
    table = lds_of_loss(summary)
    settings = table.setting.unique()
    figure, panels = plt.subplots(1, len(settings), figsize=(4.2 * len(settings), 3.4), sharey=True, squeeze=False)
    for axes, setting in zip(panels[0], settings, strict=True):
        _panel(axes, table[table.setting == setting])
        axes.set_title(setting)
    panels[0, 0].set_ylabel("LDS (Spearman)")
    _style.caption(
        figure,
        f"Linear datamodelling score of the test loss, {_style.counts(table)}. Each bar at the hyperparameters that "
        f"are best on these very subsets; e: members of the ensemble. Dashed: the most that retraining noise allows.",
    )
    return figure


def _panel(axes: Axes, table: pd.DataFrame):
    top = best(table, ["method", "ensemble", "ensemble_size"])
    methods = top.groupby("method", sort=False).value.max().sort_values(ascending=False).index
    width = 0.84 / top.method.value_counts().max()
    for place, method in enumerate(methods):
        bars = top[top.method == method].sort_values(["ensemble", "ensemble_size"])
        places = place + width * (np.arange(len(bars)) - (len(bars) - 1) / 2)
        for number, (x, (_, bar)) in enumerate(zip(places, bars.iterrows(), strict=True)):
            shade = _style.shade(number, len(bars))
            axes.bar(x, bar.value, width * 0.92, color=_style.colour(method), alpha=shade)
            axes.annotate(
                f"e={bar.ensemble_size}", (x, min(bar.low, 0)), (0, -2), textcoords="offset points",
                ha="center", va="top", fontsize=5.5, color="0.3",
            )  # fmt: skip
        axes.errorbar(places, bars.value, _style.errors(bars), fmt="none", ecolor="0.15", elinewidth=0.8, capsize=2)
    _style.draw_ceiling(axes, table)
    axes.axhline(0, color="0.2", linewidth=0.6)
    axes.set_xticks(range(len(methods)), [_style.label(method) for method in methods], rotation=30, ha="right")
    axes.grid(axis="x", visible=False)
