"""How far each hyperparameter moves a method."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _style


def draw(summary: pd.DataFrame) -> Figure:
    """LDS (loss) against every swept hyperparameter, a row a method and hyperparameter, a column a setting.

    Every other hyperparameter stands at its best value; lines are ensemble sizes.
    """
    table = summary[(summary.metric == "lds") & (summary.output == "loss")]
    settings = list(table.setting.unique())
    swept = [
        (method, name)
        for method in table.method.unique()
        for name in _style.hyperparameters(table)
        if table[table.method == method][name].nunique() > 1
    ]
    if not swept:
        raise ValueError("no method has a hyperparameter with several values; leave this figure out of run.figures")
    figure, panels = plt.subplots(
        len(swept), len(settings), figsize=(3.8 * len(settings), 1.9 * len(swept)), sharey="col", squeeze=False
    )
    for row, (method, name) in zip(panels, swept, strict=True):
        for axes, setting in zip(row, settings, strict=True):
            _panel(axes, table[(table.setting == setting) & (table.method == method)], name)
            axes.set_xlabel(f"{name}")
        row[0].set_ylabel(f"{_style.label(method)}\nLDS")
    for axes, setting in zip(panels[0], settings, strict=True):
        axes.set_title(setting)
    _style.caption(
        figure,
        f"Linear datamodelling score of the test loss, {_style.counts(table)}. Other hyperparameters at the values "
        f"that are best on these very subsets. Dashed: the most that retraining noise allows.",
        width=int(58 * len(settings)),
    )
    return figure


def _panel(axes: Axes, table: pd.DataFrame, name: str):
    if table[name].nunique() < 2:
        axes.set_axis_off()
        return
    lines = _style.best(table, ["ensemble", "ensemble_size", name])
    numbers = pd.to_numeric(lines[name], errors="coerce")
    ordered = not numbers.isna().any()
    if not ordered:
        lines = lines.assign(**{name: lines[name].astype(str)})
    groups = list(lines.groupby(["ensemble", "ensemble_size"], sort=True))
    for place, ((ensemble, size), line) in enumerate(groups):
        line = line.assign(x=pd.to_numeric(line[name])) if ordered else line.assign(x=line[name])
        line = line.sort_values("x")
        shade = 0.45 + 0.55 * (place + 1) / len(groups)
        axes.errorbar(
            line.x,
            line.value,
            _style.errors(line),
            fmt="o-" if ordered else "o",
            markersize=2.5,
            linewidth=1,
            elinewidth=0.5,
            color=_style.colour(line.method.iloc[0]),
            alpha=shade,
            label=f"{ensemble}, e={size}",
        )
    positive = numbers[numbers > 0]
    if ordered and len(positive) and positive.max() > 20 * positive.min():
        axes.set_xscale("symlog" if (numbers <= 0).any() else "log", **_linear_below(numbers))
    _style.draw_ceiling(axes, table)
    axes.legend(fontsize=5.5)


def _linear_below(numbers: pd.Series) -> dict:
    """A zero on a logarithmic axis needs a linear stretch below the smallest positive value."""
    return {"linthresh": numbers[numbers > 0].min()} if (numbers <= 0).any() else {}
