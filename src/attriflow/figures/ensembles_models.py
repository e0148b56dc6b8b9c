"""What more models are worth, and what more masks or adapters of each."""

import itertools

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _ensembles, _style
from attriflow.price import NAIVE


def draw(ensembles: pd.DataFrame) -> Figure:
    """LDS against the number of models, a row a setting, a column an ensemble, a line a number of members a model."""
    table = _ensembles.best_points(ensembles)
    table, method = _ensembles.of_main_method(table)
    settings = list(table.setting.unique())
    names = {setting: list(here[here.per_model > 1].ensemble.unique()) for setting, here in table.groupby("setting")}
    shape = (len(settings), max(map(len, names.values())))
    size = (2.3 * shape[1] + 0.4, 2.2 * shape[0] + 0.9)
    figure, panels = plt.subplots(*shape, figsize=size, sharey="row", squeeze=False)
    for row, setting in zip(panels, settings, strict=True):
        here = table[table.setting == setting]
        for axes, name in itertools.zip_longest(row, names[setting]):
            if name is None:
                axes.set_axis_off()
                continue
            _panel(axes, here[here.kind == NAIVE], here[here.ensemble == name])
            axes.set_title(f"{_style.ensemble_label(name)}, {setting}", fontsize=7)
        row[0].set_ylabel("LDS")
    for axes in panels[-1]:
        axes.set_xlabel("independently trained models")
    _style.caption(
        figure,
        f"Linear datamodelling score of the test loss by {method}, {_style.counts(table)}. Black: naive "
        f"ensembles, one member a model; coloured: so many members (masks, adapters, ...) a model, darker for more. "
        f"Each at the hyperparameters that are best on these very subsets.",
    )
    return figure


def _panel(axes: Axes, naive: pd.DataFrame, table: pd.DataFrame):
    numbers = sorted(table.per_model.unique())
    for place, number in enumerate(numbers):
        some = table[table.per_model == number]
        colour = _style.ensemble_colour(table.kind.iloc[0])
        alpha = _style.shade(place, len(numbers))
        label = f"{number} a model"
        _ensembles.line(axes, some, "models", label, color=colour, alpha=alpha, marker=_ensembles.MARKS[place % 9])
    for name in naive.ensemble.unique():
        looks = _ensembles.style(naive, name)
        _ensembles.line(axes, naive[naive.ensemble == name], "models", _style.ensemble_label(name), marker=".", **looks)
    _style.draw_ceiling(axes, table)
    _ensembles.ticks(axes, pd.concat([naive.models, table.models]))
    axes.legend(fontsize=5.5, handlelength=1.5)
