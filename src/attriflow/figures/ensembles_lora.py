"""LoRA ensembles beside naive and dropout ones of the same models."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from attriflow.figures import _ensembles, _style
from attriflow.figures.ensembles_cost import panel

KINDS = ("lora",)
_SHOWN = ("independent", "dropout", "dropout_forward", "lora")
_COSTS = {
    "train_flops": "operations of training",
    "serve_flops": "operations of serving all queries",
    "flops_a_query": "operations of one more query",
    "stored_bytes": "bytes of weights and adapters",
}


def draw(ensembles: pd.DataFrame) -> Figure:
    """LDS against four costs, a row a setting and method that has a LoRA ensemble."""
    table = _ensembles.best_points(ensembles)
    rows = list(table[table.kind == "lora"].groupby(["setting", "method"], sort=False).groups)
    figure, panels = plt.subplots(len(rows), len(_COSTS), figsize=(10.5, 2.3 * len(rows) + 1.0), squeeze=False)
    for axes, (setting, method) in zip(panels, rows, strict=True):
        here = table[(table.setting == setting) & (table.method == method) & table.kind.isin(_SHOWN)]
        for each, (cost, name) in zip(axes, _COSTS.items(), strict=True):
            panel(each, here, cost)
            each.set_xlabel(name)
        axes[0].set_ylabel(f"LDS, {_style.label(method)},\n{setting}")
    _ensembles.legend(figure, list(panels.flat))
    _style.caption(
        figure,
        f"Linear datamodelling score of the test loss, {_style.counts(table)}. Naive ensembles, joined, with the "
        f"interval of the largest as a band; dropout ensembles, and LoRA ensembles, whose gradients are those of the "
        f"adapters alone. Points of the Pareto front (grey steps) are named as models x members of each. Each at the "
        f"hyperparameters that are best on these very subsets.",
    )
    return figure
