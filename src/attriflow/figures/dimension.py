"""Damping and projected dimension: neither can stand in for the other."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _style
from attriflow.summary import best, gridded, hyperparameters, lds_of_loss, written

SWEPT = ("damping", "proj_dim")
_FIXED = 1e-3
_SELECTED = "0.1"  # seen on top of the best, whose colour is the method's
# how the damping is taken -> label, line
_LINES = {
    "zero": ("no damping", "x:"),
    "fixed": (f"fixed, {_FIXED:g}", "s-."),
    "best": ("best of the grid", "o-"),
    "select": ("selected", "*--"),
}


def draw(summary: pd.DataFrame) -> Figure:
    """LDS (loss) against projected dimension by how the damping is taken, and the dampings; a column a setting.

    The largest ensemble; other hyperparameters stand at their best values. Below, the best and the selected damping
    against projected dimension, and against ensemble size at the best projected dimension.
    """
    table = lds_of_loss(summary)
    columns = [
        (names, each) for names, each in table.groupby(["method", "setting"], sort=False) if each.proj_dim.nunique() > 1
    ]
    figure, panels = plt.subplots(
        3, len(columns), figsize=(max(2.4 * len(columns), 4.8), 5.6), squeeze=False, sharey="row"
    )
    for (high, middle, low), ((method, setting), each) in zip(panels.T, columns, strict=True):
        high.set_title(f"{_style.label(method)}, {setting}", color=_style.colour(method))
        _draw_lds(high, _beneath(each, "proj_dim"))
        _draw_dampings(middle, _beneath(each, "proj_dim"), "proj_dim")
        _draw_dampings(low, _beneath(each, "ensemble_size"), "ensemble_size")
    for row in panels[1:]:
        _scale(row)
    for axes, label in zip(panels[:, 0], ("LDS", "damping", "damping"), strict=True):
        axes.set_ylabel(label)
    every = [pair for axes in panels[0] for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    handles = {label: handle for handle, label in reversed(every)}
    shown = {label: handles[label] for label, _ in _LINES.values() if label in handles}
    panels[0, 0].legend(shown.values(), shown.keys(), fontsize=6, handlelength=2.4)
    _style.caption(
        figure,
        f"Linear datamodelling score of the test loss with the largest ensemble, {_style.counts(table)}; other "
        f"hyperparameters, and in the last row the projected dimension, at the values that are best on these very "
        f"subsets, as is the best damping. A selected damping is made without retraining; where there is no star the "
        f"indicator chose none.",
    )
    return figure


def _beneath(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows along dampings and one more hyperparameter, all others as at the best point of the largest ensemble."""
    grid = gridded(table)
    largest = grid[grid.ensemble_size == grid.ensemble_size.max()]
    top = largest.loc[largest.value.idxmax()]
    for other in ("ensemble", "ensemble_size", "per_model", *hyperparameters(table)):
        if other not in ("damping", name):
            table = table[table[other].map(written) == written(top[other])]
    return table


def _taken(table: pd.DataFrame, name: str) -> dict[str, pd.DataFrame]:
    """The rows of each way to take the damping, along one hyperparameter."""
    grid = gridded(table)
    found = {
        "zero": grid[grid.damping == 0],
        "fixed": grid[grid.damping == _FIXED],
        "best": best(grid, [name]),
        "select": table[table.damping_rule == "select"],
    }
    return {way: rows.sort_values(name) for way, rows in found.items()}


def _draw_lds(axes: Axes, table: pd.DataFrame):
    colour = _style.colour(table.method.iloc[0])
    for way, rows in _taken(table, "proj_dim").items():
        label, line = _LINES[way]
        if len(rows):
            shade = {"best": colour, "select": _SELECTED}.get(way, "0.5")
            axes.errorbar(
                rows.proj_dim, rows.value, _style.errors(rows), fmt=line, color=shade, label=label, markersize=4,
                linewidth=1, elinewidth=0.6,
            )  # fmt: skip
    _style.draw_ceiling(axes, table)
    _dimensions(axes, table.proj_dim)


def _draw_dampings(axes: Axes, table: pd.DataFrame, name: str):
    taken, colour = _taken(table, name), _style.colour(table.method.iloc[0])
    for way, shade in (("best", colour), ("select", _SELECTED)):
        rows = taken[way]
        axes.plot(rows[name], rows.damping, _LINES[way][1], color=shade, markersize=4, linewidth=1)
    if name == "proj_dim":
        _dimensions(axes, table.proj_dim)
    else:
        axes.set_xlabel("members of the ensemble")
        axes.set_xticks(sorted(table[name].unique()))


def _scale(row: np.ndarray):
    """Logarithmic dampings in a row of panels; linear below the smallest where one of them is 0."""
    dampings = np.concatenate([line.get_ydata() for axes in row for line in axes.lines])
    if (dampings > 0).all():
        row[0].set_yscale("log")
    else:
        row[0].set_yscale("symlog", linthresh=dampings[dampings > 0].min(initial=1))


def _dimensions(axes: Axes, values: pd.Series):
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(values.unique()), [written(value) for value in sorted(values.unique())])
    axes.minorticks_off()
    axes.set_xlabel("projected dimension")
