"""How far each hyperparameter moves a method."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _style
from attriflow.summary import best, gridded, hyperparameters, lds_of_loss

FEW = 4  # up to so many values stand side by side under their names; more lie on an axis


def draw(summary: pd.DataFrame) -> Figure:
    """LDS (loss) against every swept hyperparameter, a row a method and hyperparameter, a column a setting.

    Every other hyperparameter stands at its best value; lines are ensemble sizes.
    """
    table = gridded(lds_of_loss(summary))
    settings = list(table.setting.unique())
    swept = [
        (method, name)
        for method in table.method.unique()
        for name in hyperparameters(table)
        if table[table.method == method][name].nunique() > 1
    ]
    if not swept:
        raise ValueError("no method has a hyperparameter with several values; leave this figure out of run.figures")
    figure, panels = plt.subplots(
        len(swept), len(settings), figsize=(3.8 * len(settings), 1.5 * len(swept) + 0.5), sharey="col", squeeze=False
    )
    for row, (method, name) in zip(panels, swept, strict=True):
        for axes, setting in zip(row, settings, strict=True):
            _panel(axes, table[(table.setting == setting) & (table.method == method)], name)
        row[0].set_ylabel(f"{_style.label(method)}\nLDS")
    for axes, setting in zip(panels[0], settings, strict=True):
        axes.set_title(setting)
    _style.caption(
        figure,
        f"Linear datamodelling score of the test loss, {_style.counts(table)}. Other hyperparameters at the values "
        f"that are best on these very subsets; e: members of the ensemble. Dashed: the most that retraining noise "
        f"allows.",
    )
    return figure


def _panel(axes: Axes, table: pd.DataFrame, name: str):
    if table[name].nunique() < 2:
        axes.set_axis_off()
        return
    values = table[name].dropna()
    numbers = pd.to_numeric(values.astype(str), errors="coerce")
    on_axis = numbers.notna().all() and values.nunique() > FEW
    lines = best(table, ["ensemble", "ensemble_size", name])
    if on_axis:
        lines = lines.assign(x=pd.to_numeric(lines[name]))
        _style.scale(axes, numbers)
    else:
        named = list(values.unique())
        lines = lines.assign(x=[named.index(value) for value in lines[name]])
        axes.set_xticks(range(len(named)), [_written(value) for value in named])
        axes.margins(x=0.5 / len(named))
    groups = list(lines.groupby(["ensemble", "ensemble_size"], sort=True))
    for place, ((ensemble, size), line) in enumerate(groups):
        line = line.sort_values("x")
        axes.errorbar(
            line.x,
            line.value,
            _style.errors(line),
            fmt="o-" if on_axis else "o:",
            markersize=2.5,
            linewidth=1,
            elinewidth=0.7,
            color=_style.colour(line.method.iloc[0]),
            alpha=_style.shade(place, len(groups)),
            label=f"{ensemble}, e={size}",
        )
    _style.draw_ceiling(axes, table)
    axes.set_xlabel(name, labelpad=1)
    if len(groups) > 1:
        axes.legend(fontsize=5.5, loc="lower left", ncols=len(groups), borderaxespad=0, handlelength=1.2)
        axes.margins(y=0.15)


def _written(value: object) -> str:
    """A value as the config has it (a table turns whole numbers with gaps between them into 64.0)."""
    return f"{value:g}" if isinstance(value, float) else str(value)
