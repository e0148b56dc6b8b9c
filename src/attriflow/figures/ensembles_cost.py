"""What ensembles are worth for what they cost: training, serving, and space."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from attriflow.figures import _ensembles, _style
from attriflow.price import NAIVE, front

_ROWS = (
    {
        "train_flops": "operations of training",
        "serve_flops": "operations of serving all queries",
        "stored_bytes": "bytes of weights and adapters",
    },
    {
        "train_seconds": "seconds of training",
        "serve_seconds": "seconds of serving all queries",
        "cached_bytes": "bytes of arrays kept for queries",
    },
)


def draw(ensembles: pd.DataFrame) -> Figure:
    """LDS against each cost, two rows a setting: counted, and measured; naive ensembles and the front in each panel."""
    table = _ensembles.best_points(ensembles)
    table, method = _ensembles.of_main_method(table)
    settings = list(table.setting.unique())
    size = (9.0, 2.4 * 2 * len(settings) + 1.1)
    figure, panels = plt.subplots(2 * len(settings), 3, figsize=size, sharey=False, squeeze=False)
    for place, setting in enumerate(settings):
        here = table[table.setting == setting]
        for axes, words in zip(panels[2 * place : 2 * place + 2], _ROWS, strict=True):
            for each, (cost, name) in zip(axes, words.items(), strict=True):
                panel(each, here, cost)
                each.set_xlabel(name)
            axes[0].set_ylabel(f"LDS, {setting}")
    _ensembles.legend(figure, list(panels.flat))
    _style.caption(
        figure,
        f"Linear datamodelling score of the test loss by {method}, {_style.counts(table)}; intervals "
        f"are left out but for that of the largest naive ensemble, the grey band. A point is an ensemble at the "
        f"hyperparameters that are best on these very subsets; naive ones are joined. Grey steps: the Pareto front, "
        f"its points named as models x members of each. Operations are counted and depend on no machine.",
    )
    return figure


def panel(axes: Axes, table: pd.DataFrame, cost: str):
    """One setting and method along one cost."""
    table = table[table[cost].notna() & (table[cost] > 0)].sort_values([cost, "value"])
    if table.empty:
        axes.set_axis_off()
        return
    _ensembles.band(axes, table)
    for name in table.ensemble.unique():
        some = table[table.ensemble == name]
        looks = _ensembles.style(table, name)
        kind = some.kind.iloc[0]
        looks |= {"marker": _ensembles.mark(kind), "linestyle": looks["linestyle"] if kind == NAIVE else "none"}
        label = _style.ensemble_label(name)
        axes.plot(some[cost], some.value, markersize=3.5, linewidth=1, alpha=0.8, label=label, **looks)
    best = table[front(table[cost], table.value)]
    axes.step(best[cost], best.value, where="post", color="0.35", linewidth=0.7, zorder=1)
    for _, row in best.iterrows():
        words = f"{row.models}x{row.per_model}" if row.per_model > 1 else str(row.models)
        axes.annotate(words, (row[cost], row.value), (2, 3), textcoords="offset points", fontsize=4.5, color="0.3")
    if table[cost].max() > 20 * table[cost].min():
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.ticklabel_format(axis="x", scilimits=(-2, 4))
