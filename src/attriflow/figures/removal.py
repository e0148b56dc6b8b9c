"""What removing the training examples that scores name most helpful does, beside random removals."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _style

# (scope, measure) -> title and axis of a column of panels
PANELS = {
    ("test", "loss_change"): ("each test example its own", "change of its loss"),
    ("test", "flipped"): ("each test example its own", "share of right predictions that flip"),
    ("union", "loss_change"): ("one removal for all", "mean change of the loss"),
    ("union", "flipped"): ("one removal for all", "share of right predictions that flip"),
}


def draw(removal: pd.DataFrame) -> Figure:
    """Bars of the mean change of the loss and the share of flips per method and choice of damping, a row a setting."""
    settings = list(removal.setting.unique())
    shown = {
        key: words for key, words in PANELS.items() if key[1] in set(removal.measure)
    }  # a regression flips nothing
    panel = removal[(removal.scope == "test") & (removal.measure == "loss_change")]
    heights = [0.9 + 0.17 * (panel.setting == setting).sum() for setting in settings]
    figure, panels = plt.subplots(
        len(settings),
        len(shown),
        figsize=(2 + 2 * len(shown), sum(heights) + 0.4),
        height_ratios=heights,
        sharey="row",
        squeeze=False,
    )
    for row, setting in zip(panels, settings, strict=True):
        for axes, ((scope, measure), (title, label)) in zip(row, shown.items(), strict=True):
            table = removal[(removal.setting == setting) & (removal.scope == scope) & (removal.measure == measure)]
            if table.empty:
                axes.set_visible(False)
                continue
            _panel(axes, table)
            axes.set_title(title, fontsize=7)
            axes.set_xlabel(label)
            if measure == "flipped":
                axes.set_xlim(left=0)  # also where nothing flips
        row[0].annotate(
            setting, (0, 1), (0, 16), xycoords="axes fraction", textcoords="offset points", fontsize=9, weight="bold"
        )
        row[0].invert_yaxis()  # shared by the row
    numbers = " / ".join(f"{count}" for count in sorted(removal["count"].unique()))
    percent = f"{removal.confidence.iloc[0]:.0%}".replace("%", " %")
    _style.caption(
        figure,
        f"Training without the {numbers} examples of highest score (k), against training on all of them; means of "
        f"{removal.repeats.iloc[0]} repeats and up to {removal.test_examples.max()} test examples, {percent} "
        f"intervals over test examples. Grey: random removals of as many. λ: damping; the other "
        f"hyperparameters are the best at it, by the LDS on the subsets of the run.",
    )
    return figure


def _panel(axes: Axes, table: pd.DataFrame):
    counts = sorted(table["count"].unique())
    place, middles, names = 0.0, [], []
    for (method, choice), bars in table.groupby(["method", "choice"], sort=False):
        bars = bars.sort_values("count")
        places = place + np.arange(len(bars))
        for number, (y, (_, bar)) in enumerate(zip(places, bars.iterrows(), strict=True)):
            axes.barh(y, bar.value, 0.92, color=_style.colour(method), alpha=_style.shade(number, len(bars)))
            if len(counts) > 1:
                axes.annotate(
                    f"k={bar['count']}", (max(bar.high, 0), y), (2, 0), textcoords="offset points",
                    va="center", fontsize=5, color="0.3",
                )  # fmt: skip
        axes.errorbar(
            bars.value, places, xerr=_style.errors(bars), fmt="none", ecolor="0.15", elinewidth=0.7, capsize=1.5
        )
        middles.append(places.mean())
        names.append(_name(method, choice, bars.damping.iloc[0]))
        place = places[-1] + 1.5
    axes.axvline(0, color="0.2", linewidth=0.6)
    axes.set_yticks(middles, names)
    axes.margins(y=0.03)
    axes.grid(axis="y", visible=False)


def _name(method: str, choice: str, damping: float) -> str:
    """The bars of a method at a damping; those of random removals have none."""
    return method if pd.isna(damping) else f"{_style.label(method)}, {choice}: λ = {damping:.2g}"
