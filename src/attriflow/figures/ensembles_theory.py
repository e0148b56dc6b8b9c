"""The squared error of an ensemble's mean: predicted from pairs of members, and measured on other models."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _ensembles, _style

_MOMENTS = {"single": "σ²", "within": "$c_w$", "between": "$c_b$"}


def draw(theory: pd.DataFrame) -> Figure:
    """A row a setting, method and ensemble: the moments of both halves, error against changes, and against itself."""
    rows = [each for _, each in theory.groupby(["setting", "method", "ensemble"], sort=False)]
    figure, panels = plt.subplots(len(rows), 3, figsize=(8.6, 2.5 * len(rows) + 0.9), squeeze=False)
    for (left, middle, right), table in zip(panels, rows, strict=True):
        first = table.iloc[0]
        left.set_ylabel(f"{first.setting}, {_style.label(first.method)},\n{_style.ensemble_label(first.ensemble)}")
        _moments(left, table)
        _along(middle, table)
        _against(right, table)
    percent = f"{theory.confidence.iloc[0]:.0%}".replace("%", " %")
    _style.caption(
        figure,
        f"Errors of single members, from the mean of independent models that are not among them, in units of the "
        f"variance of that mean's scores; mean over {theory.test_examples.min()} or more test examples. Left: mean "
        f"square of one error and mean products of two, of the same and of different models, in both halves of the "
        f"models. Middle and right: the squared error of the mean of K models with D members each, measured on one "
        f"half (points, {percent} intervals over test examples) and predicted from the other (lines). "
        f"Dotted: the floor that more members of the same models cannot pass. Dashed: the reference's own error, a "
        f"part of all.",
    )
    return figure


def _moments(axes: Axes, table: pd.DataFrame):
    for half, each in table.groupby("half"):
        # moments stand beside what they predict, the other half
        values = [each[name].iloc[0] for name in _MOMENTS]
        axes.bar(np.arange(3) + 0.4 * half - 0.2, values, 0.36, color=("0.35", "0.7")[1 - half])
    axes.set_yscale("symlog", linthresh=table[[*_MOMENTS]].abs().min().min())  # c may be negative, and far below σ²
    axes.axhline(table.reference_error.iloc[0], color="0.4", linestyle="--", linewidth=0.8)
    axes.axhline(0, color="0.2", linewidth=0.6)
    axes.set_xticks(range(3), _MOMENTS.values())
    axes.grid(axis="x", visible=False)


def _along(axes: Axes, table: pd.DataFrame):
    """The half that has more models."""
    half = table[table.half == table.groupby("half")["models"].max().idxmax()]
    counts = sorted(half.models.unique())
    for place, models in enumerate(counts):
        some = half[half.models == models].sort_values("per_model")
        colour = _style.ensemble_colour("dropout")
        alpha = _style.shade(place, len(counts))
        ends = [some.measured - some.measured_low, some.measured_high - some.measured]
        label = f"K = {models}"
        axes.errorbar(
            some.per_model, some.measured, np.clip(ends, 0, None), fmt="o", color=colour, alpha=alpha, markersize=3,
            elinewidth=0.6, label=label,
        )  # fmt: skip
        axes.plot(some.per_model, some.predicted, color=colour, alpha=alpha, linewidth=1)
        first = some.iloc[0]
        floor = first["within"] / models + (1 - 1 / models) * first["between"]
        axes.axhline(floor, color=colour, alpha=alpha, linestyle=":", linewidth=0.8)
    _ensembles.ticks(axes, half.per_model)
    axes.set_yscale("log")
    axes.set_xlabel("members of each model, D")
    axes.set_ylabel("squared error")
    axes.legend(fontsize=5.5)


def _against(axes: Axes, table: pd.DataFrame):
    numbers = sorted(table.per_model.unique())
    for place, number in enumerate(numbers):
        some = table[table.per_model == number]
        alpha = _style.shade(place, len(numbers))
        looks = {"color": _style.ensemble_colour("dropout_forward"), "alpha": alpha, "markersize": 3}
        ends = [some.measured - some.measured_low, some.measured_high - some.measured]
        mark = _ensembles.MARKS[place % len(_ensembles.MARKS)]
        axes.errorbar(
            some.predicted,
            some.measured,
            np.clip(ends, 0, None),
            fmt=mark,
            elinewidth=0.5,
            label=f"D = {number}",
            **looks,
        )
    ends = [table[["predicted", "measured"]].min().min(), table[["predicted", "measured"]].max().max()]
    axes.plot(ends, ends, color="0.4", linewidth=0.7, zorder=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("predicted squared error")
    axes.set_ylabel("measured")
    axes.legend(fontsize=5.5)
