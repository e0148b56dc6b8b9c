"""Hyperparameters that interact: the LDS over two of them."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _style
from attriflow.pairs import SIZE
from attriflow.sensitivity import Grid, grids

_COLUMNS = 6  # pairs side by side


def draw(summary: pd.DataFrame, interactions: pd.DataFrame) -> Figure:
    """LDS over every pair of which both have several values, a row a setting; the best of each column is marked."""
    pairs = list(interactions[["ensemble", "method", "tuned", "beneath"]].drop_duplicates().itertuples(index=False))
    found: dict[tuple[str, ...], Grid] = {}
    for grid in grids(summary):  # several of an ensemble whose models have members: that with most sizes is shown
        names = (grid.table.setting.iloc[0], *_names(grid))
        if names not in found or _sizes(grid) >= _sizes(found[names]):
            found[names] = grid
    settings = list(interactions.setting.unique())
    columns = min(_COLUMNS, len(pairs))
    planes = {
        (setting, place): _plane(found[setting, ensemble, method], tuned, beneath)
        for setting in settings
        for place, (ensemble, method, tuned, beneath) in enumerate(pairs)
        if (setting, ensemble, method) in found and {tuned, beneath} <= found[setting, ensemble, method].values.keys()
    }
    ends = {
        setting: np.concatenate([plane.to_numpy().ravel() for (where, _), plane in planes.items() if where == setting])
        for setting in settings
    }
    lines = sorted({(place // columns, settings.index(setting)) for setting, place in planes})
    size = (2.1 * columns, 1.75 * len(lines) + 0.6)
    figure, panels = plt.subplots(len(lines), columns, figsize=size, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for (setting, place), plane in planes.items():
        axes = panels[lines.index((place // columns, settings.index(setting))), place % columns]
        method, ensemble = pairs[place].method, pairs[place].ensemble
        _panel(axes, plane, ends[setting].min(), ends[setting].max())
        several = len({pair.ensemble for pair in pairs if pair.method == method}) > 1
        words = f", {_style.ensemble_label(ensemble)}" if several else ""
        axes.set_title(f"{_style.label(method)}{words}, {setting}", fontsize=6.5, color=_style.colour(method))
    _style.caption(
        figure,
        "Linear datamodelling score of the test loss, in the colours of one scale a setting, over two hyperparameters; "
        "others as at the point that is best on these very subsets, with the largest ensemble. Circles: the best of "
        "each column.",
    )
    return figure


def _sizes(grid: Grid) -> int:
    return len(grid.values.get(SIZE, ()))


def _names(grid: Grid) -> tuple[str, str]:
    return grid.table.ensemble.iloc[0], grid.table.method.iloc[0]


def _plane(grid: Grid, tuned: str, beneath: str) -> pd.DataFrame:
    """The LDS, a row a value of what is tuned, a column a value of what lies beneath."""
    if beneath != SIZE:
        grid = max(grid.of_size(), key=lambda part: int(part.table[SIZE].iloc[0]))
    places = pd.DataFrame(grid.plane(tuned, beneath)).rename_axis(index=tuned, columns=beneath)
    return places.map(lambda place: grid.table.at[place, "value"])


def _panel(axes: Axes, plane: pd.DataFrame, low: float, high: float):
    axes.set_axis_on()
    axes.imshow(plane, cmap="viridis", aspect="auto", origin="lower", vmin=low, vmax=high)
    for (row, column), value in np.ndenumerate(plane.to_numpy()):
        colour = "white" if value < (low + high) / 2 else "black"
        axes.text(column, row, f"{value:.2f}".replace("0.", "."), ha="center", va="center", fontsize=4.5, color=colour)
    best = plane.fillna(-np.inf).to_numpy().argmax(0)
    axes.plot(range(plane.shape[1]), best, "o", markersize=11, fillstyle="none", color="#D55E00")
    for axis, names in ((axes.xaxis, plane.columns), (axes.yaxis, plane.index)):
        axis.set_ticks(range(len(names)), names)
        axis.set_label_text(names.name.replace("_", " "), fontsize=6.5)
        axis.labelpad = 1
    axes.tick_params(labelsize=5.5)
    axes.grid(visible=False)
