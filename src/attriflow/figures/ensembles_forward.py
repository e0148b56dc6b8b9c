"""What of a dropout ensemble's gain is the masks in gradients, in residuals, or the projections alone?"""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _ensembles, _style

KINDS = ("dropout", "dropout_forward")  # a study without one of these has nothing to compare
_SHOWN = ("dropout", "dropout_forward", "dropout_kernel", "gaussian", "projection", "checkpoints")


def draw(ensembles: pd.DataFrame) -> Figure:
    """LDS against the number of members made of each model, a row a setting, a column a number of models."""
    table = _ensembles.best_points(ensembles)
    main, method = _ensembles.of_main_method(table[table.kind == "dropout_forward"])
    table = table.merge(main[["setting", "method"]].drop_duplicates())
    shown = table[table.kind.isin(_SHOWN)]
    settings, counts = list(shown.setting.unique()), sorted(shown.models.unique())
    size = (max(5.0, 2.6 * len(counts) + 0.3), 2.3 * len(settings) + 1.2)
    figure, panels = plt.subplots(len(settings), len(counts), figsize=size, sharey="row", squeeze=False)
    for row, setting in zip(panels, settings, strict=True):
        for axes, models in zip(row, counts, strict=True):
            _panel(axes, table[table.setting == setting], shown[(shown.setting == setting) & (shown.models == models)])
            if axes.axison:
                axes.set_title(f"{models} model{'s' if models > 1 else ''}, {setting}", fontsize=7)
        row[0].set_ylabel("LDS")
    for axes in panels[-1]:
        axes.set_xlabel("members of each model")
    _ensembles.legend(figure, list(panels.flat), columns=3)
    _style.caption(
        figure,
        f"Linear datamodelling score of the test loss by {method}, {_style.counts(table)}; at equal "
        f"numbers of members. Dropout changes gradients and residuals, forward-only dropout the residuals Q, "
        f"kernel-only dropout the gradients; projections alone change neither. Dashed and dotted: naive ensembles of "
        f"as many models as the number beside the line says. Each at the hyperparameters that are best on these very "
        f"subsets.",
    )
    return figure


def _panel(axes: Axes, table: pd.DataFrame, shown: pd.DataFrame):
    if shown.empty:
        axes.set_axis_off()
        return
    for name in shown.ensemble.unique():
        some = shown[shown.ensemble == name]
        mark = _ensembles.mark(some.kind.iloc[0])
        _ensembles.line(
            axes, some, "per_model", _style.ensemble_label(name), marker=mark, **_ensembles.style(table, name)
        )
    naive = table[(table.kind == "independent") & (table.models <= shown.ensemble_size.max())]
    naive = naive[naive.models >= shown.models.min()]
    for _, row in naive.sort_values("models").iterrows():
        dashes = {"-": (0, (4, 2)), "--": ":"}.get(_ensembles.style(table, row.ensemble)["linestyle"], "-.")
        label = f"{_style.ensemble_label(row.ensemble)}, so many models"
        axes.axhline(row.value, color="black", linewidth=0.7, linestyle=dashes, label=label)
        axes.annotate(
            str(row.models), (1, row.value), (1, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            fontsize=5, va="center",
        )  # fmt: skip
    _ensembles.ticks(axes, shown.per_model)
