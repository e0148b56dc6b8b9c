"""How far each hyperparameter moves a method."""

import itertools

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _style
from attriflow.summary import OF_SIZE, best, gridded, hyperparameters, lds_of_loss, ordered, written

SWEPT = ()  # of whatever hyperparameter
COLUMNS = 6  # panels side by side, about
FEW = 4  # up to so many values stand side by side under their names; more lie on an axis


def draw(summary: pd.DataFrame) -> Figure:
    """LDS (loss) against every swept hyperparameter of every method, the settings of each side by side.

    Every other hyperparameter stands at its best value; lines are ensemble sizes, or ensembles at their largest where a
    method scores several in a setting.
    """
    table = gridded(lds_of_loss(summary))
    settings = list(table.setting.unique())
    shown = [
        (method, name)
        for method in table.method.unique()
        for name in hyperparameters(table)
        if table[table.method == method][name].nunique() > 1
    ]
    if not shown:
        raise ValueError("no method has a hyperparameter with several values; leave this figure out of run.figures")
    across = max(1, COLUMNS // len(settings))  # hyperparameters side by side
    lines, columns = -(-len(shown) // across), min(across, len(shown)) * len(settings)
    figure, panels = plt.subplots(
        lines, columns, figsize=(max(2.2 * columns, 3.8), 1.5 * lines + 0.6), sharey="row", squeeze=False
    )
    for axes in panels.flat:
        axes.set_axis_off()
    for place, (method, name) in enumerate(shown):
        row, first = panels[place // across], place % across * len(settings)
        for axes, setting in zip(row[first : first + len(settings)], settings, strict=True):
            _panel(axes, table[(table.setting == setting) & (table.method == method)], name)
    for row in panels:
        first = next(axes for axes in row if axes.axison)
        first.set_ylabel("LDS")
        first.tick_params(labelleft=True)
        for axes, right in itertools.pairwise([*row, None]):
            if len({label.partition(",")[0] for label in axes.get_legend_handles_labels()[1]}) > 1:
                beside = (
                    {"loc": "upper left", "bbox_to_anchor": (1, 1)} if right is not None and not right.axison else {}
                )
                axes.legend(fontsize=5, borderaxespad=0.5, handlelength=1.2, **beside).set_in_layout(False)
    panels[0, 0].legend(fontsize=5.5, loc="lower left", borderaxespad=0, handlelength=1.2)
    _style.caption(
        figure,
        f"Linear datamodelling score of the test loss, {_style.counts(table)}. Other hyperparameters at the values "
        f"that are best on these very subsets; e: members of the ensemble. Dashed: the most that retraining noise "
        f"allows.",
    )
    return figure


def _panel(axes: Axes, table: pd.DataFrame, name: str):
    if table[name].nunique() < 2:
        return
    axes.set_axis_on()
    method, setting = table.method.iloc[0], table.setting.iloc[0]
    axes.set_title(f"{_style.label(method)}, {setting}", fontsize=6.5, color=_style.colour(method), pad=9)
    values = table[name].dropna()
    numbers = pd.to_numeric(values.astype(str), errors="coerce")
    on_axis = numbers.notna().all() and values.nunique() > FEW
    several = table.ensemble.nunique() > 1
    if several:  # each at its largest
        table = table[table.ensemble_size == table.groupby("ensemble")["ensemble_size"].transform("max")]
    lines = best(table, [*OF_SIZE, name])
    if on_axis:
        lines = lines.assign(x=pd.to_numeric(lines[name]))
        _style.scale(axes, numbers)
    else:
        named = ordered(map(written, values))
        lines = lines.assign(x=[named.index(written(value)) for value in lines[name]])
        axes.set_xticks(range(len(named)), named)
        axes.margins(x=0.5 / len(named))
    groups = list(lines.groupby(OF_SIZE, sort=True))
    for place, ((ensemble, _, models, per_model), line) in enumerate(groups):
        line = line.sort_values("x")
        axes.errorbar(
            line.x,
            line.value,
            _style.errors(line),
            fmt="o-" if on_axis else "o:",
            markersize=2.5,
            linewidth=1,
            elinewidth=0.7,
            color=_style.colour(method),
            alpha=_style.shade(place, len(groups)),
            label=f"{_style.ensemble_label(ensemble)}, {_style.size(models, per_model)}",
        )
    _style.draw_ceiling(axes, table)
    axes.set_xlabel(name.replace("_", " "), labelpad=1)
