"""One look for all figures: a method has the same colour and label everywhere."""

import textwrap

import matplotlib
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

matplotlib.use("Agg")
matplotlib.rcdefaults()  # whatever a matplotlibrc in the folder, or a user's own, says
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
    "influence_exact": "#004468",
    "influence_cg": "#56B4E9",
    "influence_arnoldi": "#88CCEE",
    "influence_lissa": "#6699CC",
    "influence_corrected": "#0099AA",
    "unrolled": "#117733",
    "ekfac": "#332288",
    "logra": "#AA4499",
    "datainf": "#882255",
    "knn_shapley": "#999933",
    "rps": "#DDCC77",
    "trak": "#D55E00",
    "tracin": "#009E73",
    "dvemb": "#EE3377",
    "grad_dot": "#E69F00",
    "grad_cos": "#CC79A7",
    "random": "#999999",
    "loss": "#000000",
}
_OTHERS = ("#44AA99", "#CC6677", "#661100", "#DDAA33", "#BBBBBB")
_LABELS = {
    "grad_dot": "Grad-Dot", "grad_cos": "Grad-Cos", "tracin": "TracIn", "dvemb": "DVEmb", "trak": "TRAK",
    "influence_cg": "influence, CG",
    "influence_arnoldi": "influence, Arnoldi", "influence_lissa": "influence, LiSSA", "ekfac": "EK-FAC",
    "influence_corrected": "influence, corrected", "unrolled": "unrolled descent",
    "influence_exact": "influence, exact", "datainf": "DataInf", "logra": "LoGra", "rps": "representer points",
    "knn_shapley": "KNN-Shapley", "loss": "training loss",
}  # fmt: skip
# kinds of ensembles
_ENSEMBLE_COLOURS = {
    "independent": "#000000",
    "dropout": "#D55E00",
    "dropout_forward": "#0072B2",
    "dropout_kernel": "#CC79A7",
    "gaussian": "#009E73",
    "projection": "#E69F00",
    "checkpoints": "#882255",
    "lora": "#56B4E9",
}
_ENSEMBLE_LABELS = {
    "independent": "naive", "dropout_forward": "forward-only dropout", "dropout_kernel": "kernel-only dropout",
    "gaussian": "Gaussian noise", "projection": "projections only", "lora": "LoRA",
}  # fmt: skip
_METRICS = {"lds": "LDS", "leave_one_out": "leave-one-out correlation"}


def colour(method: str) -> str:
    """The colour of a method: its own, or one that its name picks."""
    return _COLOURS.get(method) or _OTHERS[sum(map(ord, method)) % len(_OTHERS)]


def label(method: str) -> str:
    """How a method is written."""
    return _LABELS.get(method, method.replace("_", " "))


def ensemble_colour(kind: str) -> str:
    """The colour of a kind of ensemble: its own, or one that its name picks."""
    return _ENSEMBLE_COLOURS.get(kind) or _OTHERS[sum(map(ord, kind)) % len(_OTHERS)]


def ensemble_label(ensemble: str) -> str:
    """How an ensemble, or a kind of them, is written."""
    return _ENSEMBLE_LABELS.get(ensemble, ensemble.replace("_", " "))


def metric_label(metric: str) -> str:
    """How a metric is written on an axis."""
    return _METRICS.get(metric, metric.replace("_", " "))


def errors(table: pd.DataFrame) -> list:
    """Distances from the values to the ends of their intervals, as matplotlib's error bars take them."""
    return [(table.value - table.low).clip(lower=0), (table.high - table.value).clip(lower=0)]


def size(models: int, per_model: int) -> str:
    """The size of an ensemble, as legends have it.

    >>> size(5, 1), size(5, 3)
    ('e=5', 'e=5×3')
    """
    return f"e={models}" if per_model == 1 else f"e={models}×{per_model}"


def shade(place: int, count: int) -> float:
    """The opacity of the place-th of `count` ensemble sizes: the largest is full."""
    return 1 if count == 1 else 0.45 + 0.55 * place / (count - 1)


def scale(axes: Axes, numbers: pd.Series):
    """Logarithmic where the values span more than a factor 20; with a zero among them, linear below the smallest."""
    positive = numbers[numbers > 0]
    if len(positive) and positive.max() > 20 * positive.min():
        if (numbers <= 0).any():
            axes.set_xscale("symlog", linthresh=positive.min())
        else:
            axes.set_xscale("log")


def caption(figure: Figure, text: str):
    """Words below the figure, as wide as it is."""
    width = int(18 * figure.get_figwidth())
    figure.supxlabel("\n".join(textwrap.wrap(text, width)), fontsize=7, x=0.01, ha="left", color="0.3")


def counts(table: pd.DataFrame) -> str:
    """`50 subsets and 200 test examples; 95 % intervals over both`."""
    unit = {"lds": "subsets", "leave_one_out": "left-out examples"}.get(table.metric.iloc[0], "rows")
    rows, tests = sorted(table.rows.unique()), sorted(table.test_examples.unique())
    number = lambda values: " / ".join(str(int(value)) for value in values)  # noqa: E731
    percent = f"{table.confidence.iloc[0]:.0%}".replace("%", " %")
    return f"n = {number(rows)} {unit} and {number(tests)} test examples; {percent} intervals over both"


def draw_ceiling(axes: Axes, table: pd.DataFrame, *, upright: bool = False):
    """The noise ceiling as a dashed line with its name, where repeats give one."""
    values = table.ceiling.dropna()
    if values.empty:
        return
    value, words = values.iloc[0], f"noise ceiling {values.iloc[0]:.2f}"
    style = {"color": "0.4", "linestyle": "--", "linewidth": 0.8}
    text = {"textcoords": "offset points", "fontsize": 5.5, "color": "0.4", "va": "bottom"}
    if upright:
        axes.axvline(value, **style)
        axes.annotate(words, (value, 1), (0, 2), xycoords=("data", "axes fraction"), ha="center", **text)
    else:
        axes.axhline(value, **style)
        axes.annotate(words, (1, value), (-2, 2), xycoords=("axes fraction", "data"), ha="right", **text)
