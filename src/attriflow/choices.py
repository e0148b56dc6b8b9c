"""How good chosen dampings are: a row a rule, beside the best of the grid."""

import numpy as np
import pandas as pd

from attriflow.summary import gridded, hyperparameters, lds_of_loss, written

_NAMES = ["setting", "ensemble", "ensemble_size", "method"]


def table(summary: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """For every rule the damping that it chose and the LDS (loss) there, beside the highest on the grid.

    chosen: what the rules said, a row each, with the columns of `said`. A rule that chose none has a row without LDS.
    lds_40, lds_60: of thresholds .4 and .6 of the indicators, interpolated between dampings of the grid (linearly in
    their logarithms), NaN outside of it. share: LDS over that of the grid's best.
    """
    rows = lds_of_loss(summary)
    keys = [*_NAMES, *(name for name in hyperparameters(rows) if name != "damping")]
    measured = _text(rows, keys)
    found = []
    for point, each in _text(chosen, keys).groupby(keys, dropna=False, sort=False):
        here = _matching(measured, keys, point)
        for truth, some in here.groupby("truth", sort=False):
            grid = gridded(some).sort_values("damping")
            if not grid.empty:
                found += [_row(rule, grid, some, truth) for _, rule in each.iterrows()]
    return pd.DataFrame(found)


def said(names: dict, content: dict) -> list[dict]:
    """Rows of what the rules said for one costly point, `names`, at each ensemble size and cheap hyperparameter."""
    rows = []
    for point, rules in content["chosen"].items():
        described = dict(part.split("=", 1) for part in point.split(","))
        for rule, each in rules.items():
            at = each.get("at", {})
            rows.append(
                names
                | described
                | {"rule": rule, "chosen": each["damping"], "crossings": each.get("crossings")}
                | {"warning": each.get("warning", ""), "at_40": at.get("0.4"), "at_60": at.get("0.6")}
            )
    return rows


def _text(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Keys as text, so that 5, 5.0 and '5' are one value; empty where there is none."""
    table = table.reindex(columns=[*table.columns, *(key for key in keys if key not in table.columns)])
    return table.assign(**{key: table[key].map(written) for key in keys})


def _matching(rows: pd.DataFrame, keys: list[str], point: tuple) -> pd.DataFrame:
    """The rows that agree with a point in what it says: a rule does not know of hyperparameters without a spectrum."""
    for key, value in zip(keys, point, strict=True):
        if value != "":
            rows = rows[rows[key] == value]
    return rows


def _row(rule: pd.Series, grid: pd.DataFrame, rows: pd.DataFrame, truth: str) -> dict:
    best = grid.loc[grid.value.idxmax()]
    here = rows[rows.damping_rule == rule.rule]
    lds = here.value.max() if len(here) else np.nan
    low, high = (here.loc[here.value.idxmax(), ["low", "high"]]) if len(here) else (np.nan, np.nan)
    names = {key: best[key] for key in (*_NAMES, *(name for name in hyperparameters(grid) if name != "damping"))}
    return {
        **{key: value for key, value in names.items() if value != ""},
        "truth": truth,
        "rule": rule.rule,
        "damping": rule.chosen,
        "lds": lds,
        "low": low,
        "high": high,
        "share": lds / best.value,
        "best_damping": best.damping,
        "best_lds": best.value,
        "crossings": rule.crossings,
        "lds_40": _interpolated(grid, rule.at_40),
        "lds_60": _interpolated(grid, rule.at_60),
        "warning": rule.warning,
    }


def _interpolated(grid: pd.DataFrame, damping: float | None) -> float:
    positive = grid[grid.damping > 0].drop_duplicates("damping")
    if damping is None or np.isnan(damping) or not positive.damping.min() <= damping <= positive.damping.max():
        return np.nan
    return float(np.interp(np.log(damping), np.log(positive.damping), positive.value))
