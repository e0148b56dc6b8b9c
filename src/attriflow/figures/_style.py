"""One look for all figures: a method has the same colour and label everywhere."""

import textwrap

import matplotlib
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

matplotlib.use("Agg")
plt.rcParams.update(
    {
        "figure.constrained_layout.use": True,
        "figure.dpi": 100,
        "savefig.dpi": 200,
        "font.size": 8,
        "axes.titlesize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "grid.linewidth": 0.5,
        "legend.frameon": False,
        "pdf.fonttype": 42,
        "svg.hashsalt": "attriflow",
    }
)

# Okabe and Ito's palette, told apart by colour-blind readers
_COLOURS = {
    "influence": "#0072B2",
    "trak": "#D55E00",
    "tracin": "#009E73",
    "grad_dot": "#E69F00",
    "grad_cos": "#CC79A7",
    "random": "#999999",
}
_OTHERS = ("#56B4E9", "#882255", "#44AA99", "#117733", "#AA4499", "#332288")
_LABELS = {"grad_dot": "Grad-Dot", "grad_cos": "Grad-Cos", "tracin": "TracIn", "trak": "TRAK"}
_METRICS = {"lds": "LDS", "leave_one_out": "leave-one-out correlation"}

# columns of the summary that are no hyperparameters
COLUMNS = (
    "setting ensemble ensemble_size method truth metric output value low high ceiling seconds peak_mib rows "
    "test_examples confidence"
).split()


def colour(method: str) -> str:
    """The colour of a method: its own, its family's (`influence_hessian`), or one that its name picks."""
    family = next((name for name in _COLOURS if method == name), None)
    return _COLOURS[family] if family else _OTHERS[sum(map(ord, method)) % len(_OTHERS)]


def label(method: str) -> str:
    """How a method is written."""
    return _LABELS.get(method, method.replace("_", " "))


def metric_label(metric: str) -> str:
    """How a metric is written on an axis."""
    return _METRICS.get(metric, metric.replace("_", " "))


def hyperparameters(summary: pd.DataFrame) -> list[str]:
    """The hyperparameter columns of a summary."""
    return [name for name in summary.columns if name not in COLUMNS]


def best(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Of each group the row with the highest value."""
    return table.loc[table.groupby(by, sort=False, dropna=False)["value"].idxmax()]


def errors(table: pd.DataFrame) -> list:
    """Distances from the values to the ends of their intervals, as matplotlib's error bars take them."""
    return [(table.value - table.low).clip(lower=0), (table.high - table.value).clip(lower=0)]


def caption(figure: Figure, text: str, width: int = 150):
    """Words below the figure."""
    figure.supxlabel("\n".join(textwrap.wrap(text, width)), fontsize=7, x=0.01, ha="left", color="0.3")


def counts(table: pd.DataFrame) -> str:
    """`50 subsets and 200 test examples; 95 % bootstrap intervals over both`."""
    unit = {"lds": "subsets", "leave_one_out": "left-out examples"}.get(table.metric.iloc[0], "rows")
    rows, tests = sorted(table.rows.unique()), sorted(table.test_examples.unique())
    number = lambda values: " / ".join(str(int(value)) for value in values)  # noqa: E731
    percent = f"{table.confidence.iloc[0]:.0%}".replace("%", " %")
    return f"n = {number(rows)} {unit} and {number(tests)} test examples; {percent} bootstrap intervals over both"


def draw_ceiling(axes: Axes, table: pd.DataFrame):
    """The noise ceiling as a dashed line, where repeats give one."""
    values = table.ceiling.dropna()
    if len(values):
        axes.axhline(values.iloc[0], color="0.4", linestyle="--", linewidth=0.8, label="noise ceiling")
