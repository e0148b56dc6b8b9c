"""What a study came to, small enough to compare commits by: the LDS of each method at its best point, and along the
values of each hyperparameter. Of the test loss, at the largest size of each ensemble.
"""

import pandas as pd

from attriflow import summary
from attriflow.sizes import EnsembleSize

_BY = ["setting", "truth", "ensemble", "method"]
RULE = "select"  # the rule whose choice of a damping stands beside the best of the grid


def best(table: pd.DataFrame) -> dict:
    """Setting -> truth -> ensemble -> method -> its LDS: `lds`, the best of the grid, `at` which point, in words;
    `selected`, the best where the rule `select` chose the damping, of methods with such rows.

    table: a study's summary. A method none of whose LDS is a number is left out.
    """
    content: dict = {}
    for names, rows in _groups(table):
        place = content
        for name in names:
            place = place.setdefault(name, {})
        grid, selected = summary.gridded(rows), rows[rows.damping_rule == RULE]
        if len(grid):
            top = grid.loc[grid.value.idxmax()]
            place |= {"lds": _rounded(top.value), "at": _point(top, _telling(grid))}
        if len(selected):
            place["selected"] = _rounded(selected.value.max())
    return content


def along(table: pd.DataFrame) -> pd.DataFrame:
    """A row for every value of a hyperparameter that is a number and has several, and of every damping: the best LDS
    there.

    curve: setting, truth, ensemble, method and hyperparameter as one text, then these one by one; value; lds.
    """
    columns = ["curve", *_BY, "hyperparameter", "value", "lds"]
    rows = []
    for names, group in _groups(table):
        grid = summary.gridded(group)
        for name in summary.hyperparameters(table):
            values = pd.to_numeric(grid[name].map(summary.written), errors="coerce")  # words are no place on an axis
            tops = grid.value.groupby(values).max()
            if len(tops) > (name != "damping"):
                curve = f"{' '.join(names)}: {name}"
                rows += [(curve, *names, name, value, lds) for value, lds in tops.items()]
    return pd.DataFrame(rows, columns=columns)


def _groups(table: pd.DataFrame):
    """Names and rows of every method on every ensemble, at its largest size."""
    for names, rows in summary.lds_of_loss(table).dropna(subset="value").groupby(_BY, sort=True):
        sizes = rows[["ensemble_size", "models"]].apply(tuple, axis=1)
        yield names, rows[sizes == max(sizes)]


def _telling(rows: pd.DataFrame) -> list[str]:
    """The hyperparameters that are numbers, and the words of which there are several."""
    written = {name: set(rows[name].map(summary.written)) for name in summary.hyperparameters(rows)}
    return [name for name, texts in written.items() if len(texts) > 1 or pd.notna(summary.number(*texts))]


def _point(row: pd.Series, names: list[str]) -> str:
    """`size=5 damping=0.1 proj_dim=512`: where a row was measured."""
    given = {"size": EnsembleSize(row.models, row.per_model).written} | {name: row[name] for name in names}
    return " ".join(f"{name}={text}" for name, value in given.items() if (text := summary.written(value)))


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")  # as tables have it
