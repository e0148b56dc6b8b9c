"""Why a damping is best: the indicator and the ratio that asks for retraining, beside the measured correlation."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _style
from attriflow.selection import THRESHOLD

_TOP = 1.3  # of the axis of indicators and ratios
_XI, _RATIO, _POOLED, _CHOSEN = "0.35", "#D55E00", "#E69F00", "#009E73"


def draw(mechanism: pd.DataFrame) -> Figure:
    """Indicators, ratios and correlations against the damping, a row a method and epoch, a column a setting.

    Ensemble, ground truth and every other hyperparameter as at the highest mean correlation.
    """
    table = mechanism if "epoch" in mechanism else mechanism.assign(epoch="")
    table = table.assign(row=[_written(*each) for each in zip(table.method, table.epoch.fillna(""), strict=True)])
    settings, rows = list(table.setting.unique()), list(table.row.unique())
    figure, panels = plt.subplots(
        len(rows), len(settings), figsize=(4.2 * len(settings), 2.1 * len(rows) + 1), squeeze=False
    )
    for line, row in zip(panels, rows, strict=True):
        for axes, setting in zip(line, settings, strict=True):
            here = table[(table.setting == setting) & (table.row == row)]
            if here.empty:
                axes.set_axis_off()
                continue
            _panel(axes, _best(here))
            axes.set_title(f"{setting}, {row}")
        line[0].set_ylabel("ξ⁽¹⁾, r")
    for axes in panels[-1]:
        axes.set_xlabel("damping")
    handles = {name: line for axes in figure.axes for line, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, fontsize=6, loc="outside upper center", ncols=4)
    tests = " / ".join(str(count) for count in sorted(table.test_examples.unique()))
    _style.caption(
        figure,
        f"Does the quantity that asks for retraining cross the indicator where the measured correlation is highest? "
        f"In theory a test example's correlation rises with the damping as long as its ξ⁽¹⁾ is below its r. Grey: mean "
        f"ξ⁽¹⁾ of each member by itself, over {tests} test examples; the rule takes the damping at which it reaches "
        f"{THRESHOLD}. Red: r, median over test examples with its quartiles, median over members, clipped to the axis; "
        f"yellow: the pooled ratio, which crosses mean ξ⁽¹⁾ where in theory the mean correlation is highest. Right "
        f"axis: mean Pearson correlation, over subsets, of summed scores with minus the test loss. Upright: selected "
        f"dampings (green) and those of the highest mean correlation (dotted), a line a member.",
    )
    return figure


def _written(method: str, epoch: object) -> str:
    return f"{_style.label(method)}, epoch {epoch}" if epoch != "" else _style.label(method)


def _best(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the ensemble, truth and point with the highest correlation, mean over members."""
    names = ["ensemble", "truth", "point"]
    means = table.groupby([*names, "damping"]).correlation.mean()
    best = dict(zip(names, means.idxmax(), strict=False))
    return table[np.logical_and.reduce([table[name] == value for name, value in best.items()])]


def _panel(axes: Axes, table: pd.DataFrame):
    axes.set_xscale("log")
    axes.set_ylim(0, _TOP)
    axes.axhline(THRESHOLD, color="0.6", linewidth=0.5, linestyle="--")
    right = axes.twinx()
    right.grid(visible=False)
    right.spines["right"].set_visible(True)
    right.tick_params(labelsize=6)
    blue = _style.colour(table.method.iloc[0])
    for _, member in table.groupby("member", sort=False):
        member = member.sort_values("damping")
        axes.plot(member.damping, member.xi_1, color=_XI, linewidth=0.6, label="mean ξ⁽¹⁾, each member")
        axes.axvline(member.selected.iloc[0], color=_CHOSEN, linewidth=0.6, label="selected, each member")
        right.plot(member.damping, member.correlation, color=blue, linewidth=0.6, label="mean correlation, each member")
        highest = member.damping[member.correlation.idxmax()]
        axes.axvline(highest, color=blue, linewidth=0.6, linestyle=":", label="highest correlation, each member")
    middle = table.groupby("damping")[["ratio", "ratio_25", "ratio_75", "pooled_ratio"]].median().clip(0, _TOP)
    axes.fill_between(middle.index, middle.ratio_25, middle.ratio_75, color=_RATIO, alpha=0.15, linewidth=0)
    axes.plot(middle.index, middle.ratio, color=_RATIO, linewidth=1.1, label="r, median and quartiles")
    axes.plot(middle.index, middle.pooled_ratio, color=_POOLED, linewidth=1.1, linestyle="--", label="pooled ratio")
    right.set_ylim(bottom=min(0, table.correlation.min()))
    right.set_ylabel("mean correlation", fontsize=6)
