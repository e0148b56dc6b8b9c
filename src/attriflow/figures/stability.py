"""How many test examples a damping takes that is chosen without retraining."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _style
from attriflow.selection import INDICATOR
from attriflow.summary import OF_SIZE

_STYLES = ("-", "--", ":", "-.")  # epochs of a method
_FEW = 0.05  # of the draws: where more choose nothing, the others are a selection of their own


def draw(stability: pd.DataFrame) -> Figure:
    """Dampings that few test examples choose, relative to what all choose, against their number; a panel a setting.

    Of the ensembles, their sizes and the other hyperparameters of a method and epoch those with the widest spread.
    """
    table = stability[(stability.indicator == INDICATOR) & stability.of_all.notna()]
    table = table.assign(epoch=table.epoch.fillna("") if "epoch" in table else "")
    settings, epochs = list(stability.setting.unique()), list(table.epoch.unique())
    figure, panels = plt.subplots(1, len(settings), figsize=(3.8 * len(settings), 3.4), sharey=True, squeeze=False)
    for axes, setting in zip(panels[0], settings, strict=True):
        for (method, epoch), each in table[table.setting == setting].groupby(["method", "epoch"], sort=False):
            name = f"{_style.label(method)}, epoch {epoch}" if epoch != "" else _style.label(method)
            style = {"linestyle": _STYLES[epochs.index(epoch) % len(_STYLES)], "color": _style.colour(method)}
            _line(axes, _widest(each), {"label": name} | style)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.axhline(1, color="0.4", linewidth=0.5)
        axes.set_title(setting)
        axes.set_xlabel("test examples")
    panels[0, 0].set_ylabel("selected damping / that of all")
    handles = {name: line for axes in panels[0] for line, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, fontsize=6, loc="outside upper center", ncols=4)
    _style.caption(
        figure,
        f"Dampings at which mean ξ⁽¹⁾ reaches one half, from {stability.draws.max()} random draws of so many test "
        f"examples without replacement, over what all test examples choose: median, and 16 to 84 % of the draws. Of "
        f"the ensemble sizes and other hyperparameters those with the widest spread. Draws that choose none are left "
        f"out; circled where these are more than {100 * _FEW:.0f} %.",
    )
    return figure


def _widest(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the ensemble, size and point whose choices spread most, in the mean over numbers of test examples."""
    names = [*OF_SIZE, "point"]
    groups = dict(list(table.groupby(names, sort=False)))
    return max(groups.values(), key=lambda each: np.nan_to_num(each.log10_sd.mean()))


def _line(axes: Axes, table: pd.DataFrame, style: dict):
    table = table.sort_values("test_examples")
    middle, low, high = (table[name] / table.of_all for name in ("damping", "low", "high"))
    axes.fill_between(table.test_examples, low, high, color=style["color"], alpha=0.12, linewidth=0)
    axes.plot(table.test_examples, middle, marker="o", markersize=2.5, linewidth=1, **style)
    some = table.without > _FEW
    axes.plot(table.test_examples[some], middle[some], "o", color=style["color"], markersize=5, fillstyle="none")
