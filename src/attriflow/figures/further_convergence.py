"""How the agreement with further training turns on how far the final model has converged."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from attriflow.figures import _further, _style

MEASURES = {"lamb": "mean squared gradient entry", "gradient_norm": "gradient norm of the mean loss"}


def draw(further: pd.DataFrame, further_convergence: pd.DataFrame) -> Figure:
    """Cosine after an epoch against the mean squared gradient and the gradient norm; a point a final model and method.

    A row a setting and ground truth.
    """
    every = further[further.epochs.notna()]
    table = _further.at_best(every[(every.metric == "cosine") & (every.adjustment == "centred")], every)
    table = table.merge(further_convergence, on=["setting", "ensemble", "model_seed"])
    parts = list(_further.rows(table))
    figure, panels = plt.subplots(
        len(parts), len(MEASURES), figsize=(7.4, 2.1 * len(parts) + 0.8), sharey="row", squeeze=False
    )
    for row, (title, part) in zip(panels, parts, strict=True):
        whole = part.epochs[part.epochs >= 1]
        epochs = whole.min() if len(whole) else part.epochs.max()
        shown = part[part.epochs == epochs]
        for axes, (measure, words) in zip(row, MEASURES.items(), strict=True):
            for method, points in shown.groupby("method", sort=False):
                points = points.sort_values(measure)
                axes.errorbar(
                    points[measure], points["mean"], points["sem"], color=_style.colour(method), fmt="o-",
                    markersize=3.5, linewidth=0.5, elinewidth=0.7, label=_style.label(method),
                )  # fmt: skip
            _scale(axes, shown[measure])
            axes.set_xlabel(words)
            axes.axhline(0, color="0.2", linewidth=0.6)
        row[0].set_ylabel(f"cosine, {epochs:g} epoch{'' if epochs == 1 else 's'}")
        _further.name(row[0], title)
    _further.legend(figure)
    _style.caption(
        figure,
        f"Agreement with centred gold scores after one epoch of further training, or the amount next to it. A point a "
        f"final model of the setting, which differ in their seed alone; gradients of all training examples at it. "
        f"Lines: standard error over test examples. {_further.POINTS}",
    )
    return figure


def _scale(axes: Axes, values: pd.Series):
    """Logarithmic over more than a decade; a few ticks in scientific notation within one."""
    if values.max() > 10 * values.min():
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.ticklabel_format(axis="x", style="sci", scilimits=(0, 0))
