"""How well each method predicts retraining, at its best hyperparameters."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _style
from attriflow.summary import OF_SIZE, best, lds_of_loss


def draw(summary: pd.DataFrame) -> Figure:
    """Bars of the LDS (loss) per method and ensemble size, one panel a setting, with intervals and the ceiling."""
    table = lds_of_loss(summary)
    settings = table.setting.unique()
    tops = [best(table[table.setting == setting], ["method", *OF_SIZE]) for setting in settings]
    height = 1.2 + 0.13 * max(len(top) + top.method.nunique() for top in tops)
    figure, panels = plt.subplots(1, len(settings), figsize=(4.2 * len(settings), height), sharex=True, squeeze=False)
    for axes, setting, top in zip(panels[0], settings, tops, strict=True):
        _panel(axes, top)
        axes.set_title(setting, pad=12)
        axes.set_xlabel("LDS (Spearman)")
    _style.caption(
        figure,
        f"Linear datamodelling score of the test loss, {_style.counts(table)}. Each bar at the hyperparameters that "
        f"are best on these very subsets; e: members, models × members of each where these are several; "
        f"ensembles are named where a method scores several. Dashed: the most that retraining noise allows.",
    )
    return figure


def _panel(axes: Axes, top: pd.DataFrame):
    methods = top.groupby("method", sort=False).value.max().sort_values(ascending=False).index
    place, middles = 0.0, []
    for method in methods:
        bars = top[top.method == method].sort_values(OF_SIZE)
        places, several = place + np.arange(len(bars)), bars.ensemble.nunique() > 1
        for number, (y, (_, bar)) in enumerate(zip(places, bars.iterrows(), strict=True)):
            shade = _style.shade(number, len(bars))
            axes.barh(y, bar.value, 0.92, color=_style.colour(method), alpha=shade)
            words = f"{_style.ensemble_label(bar.ensemble)}, " if several else ""
            axes.annotate(
                words + _style.size(bar.models, bar.per_model), (max(bar.high, 0), y), (2, 0),
                textcoords="offset points", va="center", fontsize=5, color="0.3",
            )  # fmt: skip
        axes.errorbar(
            bars.value, places, xerr=_style.errors(bars), fmt="none", ecolor="0.15", elinewidth=0.7, capsize=1.5
        )
        middles.append(places.mean())
        place = places[-1] + 1.8
    _style.draw_ceiling(axes, top, upright=True)
    axes.axvline(0, color="0.2", linewidth=0.6)
    axes.set_yticks(middles, [_style.label(method) for method in methods])
    axes.margins(y=0.02)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
