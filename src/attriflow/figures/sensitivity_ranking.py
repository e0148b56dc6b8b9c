"""Which hyperparameter matters: how far each moves its method, and what its default costs."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _style
from attriflow.pairs import SIZE


def draw(sensitivity: pd.DataFrame) -> Figure:
    """Sorted bars of the LDS range of every method and hyperparameter, a panel a setting, with intervals."""
    table = sensitivity[sensitivity.hyperparameter != "point"]
    largest = table.groupby(["setting", "truth", "ensemble", "method"])[SIZE].transform("max")
    table = table[table[SIZE].isna() | (table[SIZE] == largest)]
    settings = list(table.setting.unique())
    height = 1.1 + 0.16 * table.setting.value_counts().max()
    figure, panels = plt.subplots(1, len(settings), figsize=(4.4 * len(settings), height), sharex=True, squeeze=False)
    for axes, setting in zip(panels[0], settings, strict=True):
        _panel(axes, table[table.setting == setting].sort_values("range", ascending=False))
        axes.set_title(setting)
        axes.set_xlabel("LDS lost")
    panels[0, -1].legend(loc="lower right")
    _style.caption(
        figure,
        "Bars: LDS (loss) at the best point less that at the worst value of one hyperparameter, all others as at the "
        "best point, with the largest ensemble. Diamonds: less that at the value that a library sets by itself, or at "
        "the nearest of the grid. Lines: intervals of the difference, over subsets and test examples; best "
        "and worst are chosen on these very subsets.",
    )
    return figure


def _panel(axes: Axes, table: pd.DataFrame):
    places = range(len(table))
    colours = [_style.colour(method) for method in table.method]
    axes.barh(places, table.range, 0.8, color=colours, alpha=0.75)
    _intervals(axes, table, "range", places, fmt="none", ecolor="0.15", capsize=1.5, label=None)
    style = {"fmt": "D", "color": "white", "markeredgecolor": "0.1", "ecolor": "none", "markersize": 3.5, "zorder": 4}
    _intervals(axes, table, "regret", places, markeredgewidth=0.8, label="library's default", **style)
    axes.axvline(0, color="0.2", linewidth=0.6)
    several = table.groupby("method")["ensemble"].transform("nunique") > 1
    axes.set_yticks(places, [_name(row, named) for (_, row), named in zip(table.iterrows(), several, strict=True)])
    axes.tick_params(axis="y", labelsize=6.5)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)


def _name(row: pd.Series, named: bool) -> str:
    """Method and hyperparameter; the ensemble, and how many members a model it has, where there are others."""
    each = f" x {row.per_model}" if row.per_model > 1 else ""
    ensemble = f", {_style.ensemble_label(row.ensemble)}{each}" if named else ""
    return f"{_style.label(row.method)}{ensemble}: {row.hyperparameter.replace('_', ' ')}"


def _intervals(axes: Axes, table: pd.DataFrame, name: str, places: range, **style):
    ends = table[[f"{name}_low", name, f"{name}_high"]].rename(columns=lambda column: column.removeprefix(f"{name}_"))
    errors = _style.errors(ends.rename(columns={name: "value"}))
    axes.errorbar(table[name], places, xerr=errors, elinewidth=0.7, **style)
