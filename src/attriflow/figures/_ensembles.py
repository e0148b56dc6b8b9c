"""What the figures of ensembles share: the best point of every size, and lines and marks by kind."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attriflow.figures import _style
from attriflow.price import NAIVE, tops

MARKS = "os^Dv<>ph"
_MARKS = {
    "dropout": "s",
    "dropout_forward": "^",
    "dropout_kernel": "v",
    "gaussian": "<",
    "projection": ">",
    "lora": "D",
}
_DASHES = ("-", "--", ":", "-.")


def best_points(ensembles: pd.DataFrame) -> pd.DataFrame:
    """Of each setting's first ground truth, the best point of every method, ensemble and size."""
    first = ensembles.groupby("setting", sort=False)["truth"].transform("first")
    return tops(ensembles[ensembles.truth == first])


def of_main_method(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Of every setting the method that was measured with the most ensembles and sizes; and these methods in words."""
    main = {setting: each.groupby("method", sort=False).size().idxmax() for setting, each in table.groupby("setting")}
    words = dict.fromkeys(_style.label(method) for method in main.values())
    return table[table.method == table.setting.map(main)], " / ".join(words)


def naive_last(table: pd.DataFrame) -> pd.DataFrame:
    """The largest naive ensemble, as a table of one row; none where there is no naive one."""
    naive = table[table.kind == NAIVE]
    return naive[naive.models == naive.models.max()].head(1)


def mark(kind: str) -> str:
    """The mark of a kind of ensemble."""
    return "." if kind == NAIVE else _MARKS.get(kind, "p")


def style(table: pd.DataFrame, ensemble: str) -> dict:
    """Colour of its kind; ensembles of one kind and setting differ in dashes, whatever the order of the table."""
    first = table[table.ensemble == ensemble].iloc[0]
    kind = first.kind
    same = sorted(table[(table.kind == kind) & (table.setting == first.setting)].ensemble.unique(), key=_short)
    return {"color": _style.ensemble_colour(kind), "linestyle": _DASHES[same.index(ensemble) % len(_DASHES)]}


def _short(name: str) -> tuple[int, str]:
    return len(name), name


def line(axes: Axes, table: pd.DataFrame, along: str, label: str | None = None, **style):
    """LDS along one of the columns, with intervals."""
    table = table.sort_values(along)
    axes.errorbar(
        table[along], table.value, _style.errors(table), label=label, markersize=3.5, linewidth=1.1, elinewidth=0.5,
        **style,
    )  # fmt: skip


def band(axes: Axes, table: pd.DataFrame):
    """The interval of the largest naive ensemble, behind everything."""
    for _, row in naive_last(table).iterrows():
        axes.axhspan(row.low, row.high, color="0.5", alpha=0.13, linewidth=0)


def ticks(axes: Axes, values: pd.Series):
    """Whole numbers, as they are, on a logarithmic axis."""
    values = sorted(values.unique())
    axes.set_xscale("log")
    axes.set_xticks(values, [str(int(value)) for value in values])
    axes.minorticks_off()


def legend(figure: Figure, axes: list[Axes], columns: int = 5):
    """One legend above all panels."""
    found = {}
    for each in axes:
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        figure.legend(found.values(), found, fontsize=6.5, loc="outside upper center", ncols=columns)
