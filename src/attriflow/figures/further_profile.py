"""How the scores of left-out examples are spread: sorted, and brought to a largest size of one."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from attriflow.figures import _further, _style

GOLD = "further_training"


def draw(further: pd.DataFrame, further_profile: pd.DataFrame) -> Figure:
    """Sorted scores of every method, of further training at the first and at the last amount, a panel a truth.

    After Wei et al. 2025, figure 10.
    """
    every = further[further.epochs.notna()]
    table = _further.at_best(further_profile[further_profile.method != GOLD], every)
    gold = further_profile[further_profile.method == GOLD]
    parts = list(_further.rows(table))
    across = min(3, len(parts))
    down = -(-len(parts) // across)
    figure, panels = plt.subplots(
        down, across, figsize=(3.4 * across + 1.6, 2.4 * down + 0.7), sharey=True, squeeze=False
    )
    for axes in panels.flat[len(parts) :]:
        axes.set_axis_off()
    for axes, (title, part) in zip(panels.flat, parts, strict=False):
        _further.lines(axes, part, "rank", "mean")
        here = gold[(gold.setting == part.setting.iloc[0]) & (gold.truth == part.truth.iloc[0])]
        for epochs, style in ((here.epochs.min(), "-"), (here.epochs.max(), ":")):
            mean = here[here.epochs == epochs].groupby("rank")["mean"].mean()
            label = f"further training, {'first' if style == '-' else 'last'} amount"
            axes.plot(mean.index, mean, color="black", linestyle=style, linewidth=1.6, label=label, zorder=3)
        axes.axhline(0, color="0.2", linewidth=0.6)
        axes.set_title(title, fontsize=8)
        axes.set_xlabel("left-out examples, sorted for each test example")
    for axes in panels[:, 0]:
        axes.set_ylabel("score / largest size")
    _further.legend(figure)
    _style.caption(
        figure,
        f"Scores of the left-out examples from the most helpful to the most harmful, over the largest size among them; "
        f"mean over test examples. Gold scores centred, mean over seeds. {_further.MODELS} {_further.POINTS}",
    )
    return figure
