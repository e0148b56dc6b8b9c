"""How well scores agree with further training, against its amount."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from attriflow.figures import _further, _style

# (metric, adjustment) -> title of a column of panels
COLUMNS = {
    ("cosine", "centred"): "cosine",
    ("pearson", "centred"): "Pearson",
    ("spearman", "centred"): "Spearman",
    ("cosine", "full_run"): "cosine, minus the full run",
}


def draw(further: pd.DataFrame) -> Figure:
    """Agreement of every method with further training against its amount, a row a setting and ground truth.

    After Wei et al. 2025, figures 2 (cosine), 5 (minus the full run alone) and 6 (Spearman).
    """
    table = _further.at_best(further[further.epochs.notna()], further[further.epochs.notna()])
    parts = list(_further.rows(table))
    figure, panels = plt.subplots(
        len(parts), len(COLUMNS), figsize=(11, 2.1 * len(parts) + 0.8), sharex="row", squeeze=False
    )
    for row, (title, part) in zip(panels, parts, strict=True):
        for axes, ((metric, adjustment), words) in zip(row, COLUMNS.items(), strict=True):
            shown = part[(part.metric == metric) & (part.adjustment == adjustment)]
            _further.lines(axes, shown, "epochs", "mean", band=True)
            axes.set_title(words, fontsize=7)
            axes.axhline(0, color="0.2", linewidth=0.6)
        row[0].set_xscale("log")
        row[0].set_ylabel("mean over test examples")
        _further.name(row[0], title)
    for axes in panels[-1]:
        axes.set_xlabel("further training (epochs)")
    _further.legend(figure)
    seeds, left_out = (" / ".join(map(str, sorted(table[name].unique()))) for name in ("seeds", "left_out"))
    _style.caption(
        figure,
        f"Agreement over {left_out} left-out examples with what leaving them out of further training does, mean of "
        f"{seeds} seeds. Gold scores are centred on their mean over left-out examples, or as they are less the run on "
        f"all examples. {_further.MODELS} Bands: standard error over test examples. {_further.POINTS}",
    )
    return figure
