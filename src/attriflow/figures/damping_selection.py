"""A damping chosen without retraining, beside the one that retraining would choose."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _style
from attriflow.summary import OF_SIZE, best, gridded, hyperparameters, lds_of_loss, written

_INDICATORS = {1: ("ξ⁽¹⁾", "-", "0.25"), 0: ("ξ⁽⁰⁾", ":", "0.5")}


def draw(summary: pd.DataFrame, selection: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """LDS (loss) and mean indicators against damping, a row a method that chooses, a column a setting.

    Every other hyperparameter, and the ensemble size, stands at its best value.
    """
    table = lds_of_loss(summary)
    settings, methods = list(selection.setting.unique()), list(selection.method.unique())
    figure, panels = plt.subplots(
        len(methods), len(settings), figsize=(3.8 * len(settings), 1.9 * len(methods) + 0.6), squeeze=False
    )
    for row, method in zip(panels, methods, strict=True):
        for axes, setting in zip(row, settings, strict=True):
            here = table[(table.setting == setting) & (table.method == method)]
            if here.empty:
                axes.set_axis_off()
                continue
            _panel(axes, here, _of(selection, setting, method), _of(curves, setting, method))
        row[0].set_ylabel(f"{_style.label(method)}\nLDS")
    for axes, setting in zip(panels[0], settings, strict=True):
        axes.set_title(setting)
    for axes in panels[-1]:
        axes.set_xlabel("damping")
    _style.caption(
        figure,
        f"Coloured: linear datamodelling score of the test loss, {_style.counts(table)}. Grey, right axis: mean "
        f"indicators, made without retraining; the damping is chosen where ξ⁽¹⁾ comes up through one half (star), and "
        f"compared with the best of the grid (circle). Other hyperparameters at the values that are best on these very "
        f"subsets.",
    )
    return figure


def _of(table: pd.DataFrame, setting: str, method: str) -> pd.DataFrame:
    return table[(table.setting == setting) & (table.method == method)]


def _panel(axes: Axes, table: pd.DataFrame, selection: pd.DataFrame, curves: pd.DataFrame):
    grid = gridded(table)
    top = grid.loc[grid.value.idxmax()]
    others = [*OF_SIZE, *(name for name in hyperparameters(grid) if name != "damping")]
    line = best(_alike(grid, top, others), ["damping"]).sort_values("damping")
    colour = _style.colour(top.method)
    axes.errorbar(line.damping, line.value, _style.errors(line), fmt="-", color=colour, linewidth=1, elinewidth=0.6)
    axes.plot(top.damping, top.value, "o", color=colour, markersize=5, fillstyle="none", markeredgewidth=1.2)
    chosen = _alike(selection[selection.rule == "select"], top, others)
    axes.plot(chosen.damping, chosen.lds, "*", color=colour, markersize=8)
    axes.set_xscale("log")
    right = axes.twinx()
    right.grid(visible=False)
    curve = _alike(curves, top, others)
    low, high = line.damping[line.damping > 0].min(), line.damping.max()
    curve = curve[(curve.damping >= low) & (curve.damping <= high)]
    for k, (label, style, shade) in _INDICATORS.items():
        right.plot(curve.damping, curve[f"xi_{k}"], style, color=shade, linewidth=0.9, label=label)
    right.axhline(0.5, color="0.6", linewidth=0.5, linestyle="--")
    right.set_ylim(0, 1.02)
    right.spines["right"].set_visible(True)
    right.tick_params(labelsize=6)
    right.legend(fontsize=6, loc="lower right", handlelength=1.4)


def _alike(table: pd.DataFrame, row: pd.Series, names: list[str]) -> pd.DataFrame:
    """The rows that agree with another in all of these columns that both have."""
    for name in names:
        if name in table.columns and not pd.isna(row[name]):
            table = table[table[name].isna() | (table[name].map(written) == written(row[name]))]
    return table
