"""Ensembles by every method that was tried with them."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _ensembles, _style


def draw(ensembles: pd.DataFrame) -> Figure:
    """LDS against the number of models, a row a setting, a column a method; each ensemble with most members a model."""
    table = _ensembles.best_points(ensembles)
    settings, methods = list(table.setting.unique()), list(table.method.unique())
    size = (2.3 * len(methods) + 0.4, 2.2 * len(settings) + 1.1)
    figure, panels = plt.subplots(len(settings), len(methods), figsize=size, squeeze=False)
    for row, setting in zip(panels, settings, strict=True):
        for axes, method in zip(row, methods, strict=True):
            here = table[(table.setting == setting) & (table.method == method)]
            _panel(axes, here)
            if not here.empty:
                axes.set_title(f"{_style.label(method)}, {setting}", fontsize=7, color=_style.colour(method))
        row[0].set_ylabel("LDS")
    for axes in panels[-1]:
        axes.set_xlabel("independently trained models")
    _ensembles.legend(figure, list(panels.flat))
    _style.caption(
        figure,
        f"Linear datamodelling score of the test loss, {_style.counts(table)}; heights of panels differ. Every "
        f"ensemble with the largest number of members a model that was measured with so many models. Each at the "
        f"hyperparameters that are best on these very subsets.",
    )
    return figure


def _panel(axes: Axes, table: pd.DataFrame):
    if table.empty:
        axes.set_axis_off()
        return
    for name in table.ensemble.unique():
        some = table[table.ensemble == name]
        some = some.loc[some.groupby("models")["per_model"].idxmax()]
        mark = _ensembles.mark(some.kind.iloc[0])
        _ensembles.line(axes, some, "models", _style.ensemble_label(name), marker=mark, **_ensembles.style(table, name))
    _style.draw_ceiling(axes, table)
    _ensembles.ticks(axes, table.models)
