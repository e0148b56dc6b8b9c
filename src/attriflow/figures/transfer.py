"""What the best point of one setting is worth in another."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _style
from attriflow.pairs import SIZE

_COLUMNS = 5  # matrices side by side


def draw(transfer: pd.DataFrame) -> Figure:
    """A matrix a method: the LDS lost by the best point of one setting (row) in another (column)."""
    table = transfer[transfer.hyperparameter == "point"]
    table = table[table[SIZE] == table.groupby(["truth", "ensemble", "method"])[SIZE].transform("max")]
    settings, groups = list(table.setting.unique()), list(table.groupby(["truth", "ensemble", "method"], sort=False))
    columns = min(_COLUMNS, len(groups))
    lines, side = -(-len(groups) // columns), 0.5 + 0.55 * len(settings)
    figure, panels = plt.subplots(
        lines, columns, figsize=(columns * side + 1.4, lines * (side + 0.2) + 1.2), squeeze=False,
        sharex=True, sharey=True,
    )  # fmt: skip
    most = max(table.lost.max(), 1e-9)
    for axes, ((_, _, method), rows) in zip(panels.flat, groups, strict=False):
        _matrix(axes, rows, settings, most)
        axes.set_title(_style.label(method), color=_style.colour(method), fontsize=7)
    for axes in panels.flat[len(groups) :]:
        axes.set_axis_off()
    for column in range(columns):
        last = (len(groups) - 1 - column) // columns
        panels[last, column].tick_params(axis="x", labelbottom=True)
    figure.supylabel("tuned on", fontsize=8)
    _style.caption(
        figure,
        "Rows: the setting that a method is tuned on; columns: the one that it is used on. LDS (loss) that the best "
        "point of the one loses against the best point of the other, with the largest ensemble, and the "
        "interval of the difference, over subsets and test examples. Both points are the best on the subsets that they "
        "are scored on. On the diagonal the LDS of the best. Grey: the method does not run there.",
    )
    return figure


def _matrix(axes: Axes, table: pd.DataFrame, settings: list[str], most: float):
    lost = np.full((len(settings), len(settings)), np.nan)
    for row in table.itertuples():
        place = settings.index(row.carried_from), settings.index(row.setting)
        lost[place] = row.lost
        words = f"{row.lost:.2f}\n[{row.lost_low:.2f}, {row.lost_high:.2f}]"
        dark = row.lost > 0.6 * most
        axes.text(*place[::-1], words, ha="center", va="center", fontsize=4.5, color="white" if dark else "0.1")
    for setting, rows in table.groupby("setting"):
        place = settings.index(setting)
        lost[place, place] = 0
        best = rows.lds.iloc[0] + rows.lost.iloc[0]
        axes.text(place, place, f"LDS {best:.2f}", ha="center", va="center", fontsize=4.5, color="0.1")
    axes.set_facecolor("0.85")
    axes.imshow(lost, cmap="Reds", vmin=0, vmax=most)
    axes.set_xticks(range(len(settings)), settings, rotation=45, ha="right", fontsize=6)
    axes.set_yticks(range(len(settings)), settings, fontsize=6)
    axes.grid(visible=False)
