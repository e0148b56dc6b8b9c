"""How many seeds of further training gold scores must be averaged over."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from attriflow.figures import _further, _style


def draw(further: pd.DataFrame, further_seeds: pd.DataFrame) -> Figure:
    """The highest cosine over all amounts against the number of seeds averaged, a row a setting and ground truth.

    After Wei et al. 2025, figures 3, 7 and 9.
    """
    every = further[further.epochs.notna()]
    table = _further.at_best(further_seeds[further_seeds.estimator != "retraining"], every)
    parts = list(_further.rows(table))
    figure, panels = plt.subplots(
        len(parts), 2, figsize=(7.2, 2.1 * len(parts) + 0.8), sharex=True, sharey="row", squeeze=False
    )
    for row, (title, part) in zip(panels, parts, strict=True):
        for axes, (adjustment, words) in zip(row, _further.ADJUSTMENTS.items(), strict=True):
            _further.lines(axes, part[part.adjustment == adjustment], "seeds_averaged", "value")
            axes.set_title(words, fontsize=7)
            axes.axhline(0, color="0.2", linewidth=0.6)
        row[0].set_ylabel("peak cosine")
        _further.name(row[0], title)
    ticks = sorted(table.seeds_averaged.unique())
    panels[0, 0].set_xscale("log")
    panels[0, 0].set_xticks(ticks, [str(tick) for tick in ticks])
    panels[0, 0].minorticks_off()
    for axes in panels[-1]:
        axes.set_xlabel("seeds averaged")
    _further.legend(figure)
    _style.caption(
        figure,
        f"Gold scores averaged over blocks of so many seeds that do not overlap; cosine, mean over blocks and test "
        f"examples, at the amount of further training where it is highest. {_further.MODELS} {_further.POINTS}",
    )
    return figure
