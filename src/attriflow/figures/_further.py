"""What the figures of further training share: one hyperparameter point a method, final models as thin lines."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow import gold
from attriflow.figures import _style
from attriflow.summary import gridded, written

ADJUSTMENTS = {"centred": "centred (eq. 13)", "full_run": "minus the full run (eq. 17)"}
MODELS = "Thin lines: final models, which differ in their seed; thick: their mean."
POINTS = (
    "Each method at the hyperparameters whose centred cosine is highest on average over the amounts and final models "
    "shown."
)


def pointed(table: pd.DataFrame) -> pd.DataFrame:
    """The rows whose damping is one of the grid, with a column `point`, their hyperparameters in words."""
    table = gridded(table) if "damping_rule" in table else table
    names = gold.hyperparameters(table)
    words = [
        ", ".join(f"{name}={written(value)}" for name, value in zip(names, row, strict=True) if pd.notna(value))
        for row in table[names].itertuples(index=False)
    ]
    return table.assign(point=words)


def best(further: pd.DataFrame) -> pd.DataFrame:
    """Setting, truth, method and point of the best point of each method there."""
    table = pointed(further)
    table = table[(table.metric == "cosine") & (table.adjustment == "centred") & table.epochs.notna()]
    by = ["setting", "truth", "method", "point"]
    means = table.groupby(by, sort=False)["mean"].mean().fillna(-1).reset_index()
    return means.loc[means.groupby(by[:3], sort=False)["mean"].idxmax(), by]


def at_best(table: pd.DataFrame, further: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table at these points."""
    return pointed(table).merge(best(further), on=["setting", "truth", "method", "point"])


def rows(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """A title and the rows of every setting and ground truth of further training."""
    for (setting, truth), part in table.groupby(["setting", "truth"], sort=True):
        yield f"{setting}, {truth}", part


def lines(axes: Axes, table: pd.DataFrame, x: str, y: str, *, band: bool = False):
    """For every method a thin line a final model and a thick one, their mean; band: with their mean standard error."""
    for method, part in table.groupby("method", sort=False):
        colour = _style.colour(method)
        models = [model.sort_values(x) for _, model in part.groupby("ensemble", sort=False)]
        for model in models if len(models) > 1 else []:
            axes.plot(model[x], model[y], color=colour, linewidth=0.5, alpha=0.5)
        mean = part.groupby(x)[[y, "sem"] if band else [y]].mean().reset_index()
        axes.plot(mean[x], mean[y], color=colour, linewidth=1.6, label=_style.label(method), marker=".", markersize=3)
        if band:
            low, high = mean[y] - mean["sem"], mean[y] + mean["sem"]
            axes.fill_between(mean[x], low, high, color=colour, alpha=0.18, linewidth=0)


def name(axes: Axes, title: str):
    """What a row of panels shows, above its first."""
    axes.annotate(
        title, (0, 1), (0, 16), xycoords="axes fraction", textcoords="offset points", fontsize=9, weight="bold"
    )


def legend(figure: Figure):
    """One legend for all panels, on their right."""
    found = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        found = dict(zip(labels, handles, strict=True)) | found
    figure.legend(found.values(), found.keys(), loc="outside right upper", fontsize=7)
