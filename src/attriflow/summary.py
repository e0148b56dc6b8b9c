"""The tidy tables of a study, a row a measurement: at a setting, ensemble, method and hyperparameter point.

`summary`: of a truth, by a metric, for an output. `mislabel`: the AUC with which flipped training labels are found.
"""

import math
from collections.abc import Iterable

import pandas as pd

OF_SIZE = ["ensemble", "ensemble_size", "models", "per_model"]  # an ensemble at one of its sizes
_NAMES = ["setting", *OF_SIZE, "method"]
_CHOSEN = ["damping_rule"]  # how the damping of the row was chosen, empty for one of the grid
_MEASURED = [
    "truth", "metric", "output", "value", "auc", "low", "high", "first_half", "second_half", "ceiling", "seconds",
    "peak_mib",
]  # fmt: skip
_COUNTS = ["rows", "test_examples", "constant", "flipped", "n", "confidence"]
_POINT = ["point"]  # says what the hyperparameters say


def hyperparameters(table: pd.DataFrame) -> list[str]:
    """The columns that are hyperparameters."""
    return [name for name in table.columns if name not in _NAMES + _CHOSEN + _MEASURED + _COUNTS + _POINT]


def arranged(table: pd.DataFrame) -> pd.DataFrame:
    """The columns in their order: names, hyperparameters, measurements, counts."""
    measured = [name for name in _MEASURED + _COUNTS if name in table]
    return table[[*_NAMES, *hyperparameters(table), *_CHOSEN, *measured]]


def lds_of_loss(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the field's usual measure: the linear datamodelling score of the test loss."""
    return table[(table.metric == "lds") & (table.output == "loss")]


def gridded(table: pd.DataFrame) -> pd.DataFrame:
    """The rows whose damping is one of the grid, or that have none."""
    return table[table.damping_rule.isna() | (table.damping_rule == "")]


def best(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Of each group the row with the highest value; of those without a number none."""
    table = table.dropna(subset="value")
    return table.loc[table.groupby(by, sort=False, dropna=False)["value"].idxmax()]


def number(value: str) -> float:
    """What a written value is as a number, NaN for a word."""
    try:
        return float(value)
    except ValueError:
        return math.nan


def written(value: object) -> str:
    """A value as the config has it, whatever a table's column made of it; empty where there is none.

    >>> written(64.0), written("1e-6"), written("last"), written(True), written(math.nan)
    ('64', '1e-06', 'last', 'True', '')
    """
    if isinstance(value, str):
        return value if math.isnan(number(value)) else written(number(value))
    if pd.api.types.is_bool(value):
        return str(bool(value))
    if pd.isna(value):
        return ""
    return str(int(value)) if float(value).is_integer() else f"{value:g}"


def ordered(values: Iterable[str]) -> list[str]:
    """Written values, each once: numbers as they grow, then words as they come.

    >>> ordered(["last", "10", "5", "10"])
    ['5', '10', 'last']
    """
    return sorted(dict.fromkeys(values), key=lambda value: (math.isnan(number(value)), number(value)))
