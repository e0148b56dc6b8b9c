"""How good chosen dampings are: a row a rule, beside the best of the grid."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from attriflow.intervals import Effects
from attriflow.paired import halves, lost
from attriflow.sizes import EnsembleSize
from attriflow.summary import best, gridded, hyperparameters, written

_NAMES = ["setting", "ensemble", "ensemble_size", "models", "per_model", "method"]
_FIXED = (0, 1e-3, 1e-2)  # dampings that are used untuned: TRAK's published recipe has none
_THRESHOLDS = {"lds_40": "at_40", "lds_60": "at_60"}
_MEASURED = [
    "truth", "rule", "damping", "lds", "low", "high", "share", "share_low", "share_high", "lost", "lost_low",
    "lost_high", "best_damping", "best_lds", "cross_fitted", "cross_fitted_share", "crossings", "lds_40", "lds_60",
    "warning",
]  # fmt: skip


def table(measured: pd.DataFrame, effects: Effects, chosen: pd.DataFrame, plain: list[str]) -> pd.DataFrame:
    """For every rule the damping that it chose and the LDS (loss) there, beside the highest on the grid.

    measured: rows of LDS (loss); label i has entry i of `effects`. chosen: what the rules said, a row each,
    with the columns of `said`. plain: the methods that are Grad-Dot. A rule that chose none has a row without LDS;
    further rows are the fixed dampings that the grid holds, its best, and Grad-Dot where it was measured with the same
    ensemble and epoch.

    lost, share: LDS below that of the grid's best, and over it, with paired intervals; no share of a best that is not
    above 0, no interval of it where the interval of the best is not. cross_fitted: LDS of the damping that is best on
    one half of the subsets, on the other half, the mean of both ways; cross_fitted_share: the mean of both halves over
    that.
    lds_40, lds_60: of thresholds .4 and .6 of the indicators, interpolated between dampings of the grid (linearly in
    their logarithms), NaN outside of it.
    """
    keys = [*_NAMES, *(name for name in hyperparameters(measured) if name != "damping")]
    rows = _text(measured.dropna(subset="value"), keys)
    found = []
    for point, each in _text(chosen, keys).groupby(keys, dropna=False, sort=False):
        here, beside = _matching(rows, keys, point), _beside(rows[rows.method.isin(plain)], keys, point)
        for truth, some in here.groupby("truth", sort=False):
            grid = gridded(some).sort_values("damping")
            if grid.empty:
                continue
            names = _names(grid) | {"truth": truth}
            for described, place in _rules(each, grid, some, beside[beside.truth == truth]):
                found.append(names | described | _against_best(rows, effects, place, grid))
    return pd.DataFrame(found, columns=_ordered(found))


def said(names: dict, content: dict) -> list[dict]:
    """Rows of what the rules said for one costly point, `names`, at each ensemble size and cheap hyperparameter."""
    rows = []
    for point, rules in content["chosen"].items():
        described = dict(part.split("=", 1) for part in point.split(","))
        described |= EnsembleSize.named(described["ensemble_size"]).columns
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


def _beside(rows: pd.DataFrame, keys: list[str], point: tuple) -> pd.DataFrame:
    """The rows of another method that agree with a point in all that both say."""
    for key, value in zip(keys, point, strict=True):
        if value != "" and key != "method":
            rows = rows[rows[key].isin([value, ""])]
    return rows


def _names(grid: pd.DataFrame) -> dict[str, str]:
    top = grid.loc[grid.value.idxmax()]
    names = {key: top[key] for key in (*_NAMES, *(name for name in hyperparameters(grid) if name != "damping"))}
    return {key: value for key, value in names.items() if value != ""}


def _rules(
    chosen: pd.DataFrame, grid: pd.DataFrame, rows: pd.DataFrame, plain: pd.DataFrame
) -> Iterator[tuple[dict, int | None]]:
    """What there is to say of each rule, and the label of its measurement, None where it has none.

    Hyperparameters that a rule does not know of stand at their best.
    """
    for _, rule in chosen.iterrows():
        thresholds = {name: _interpolated(grid, rule[place]) for name, place in _THRESHOLDS.items()}
        described = {"rule": rule.rule, "damping": rule.chosen, "crossings": rule.crossings, "warning": rule.warning}
        yield described | thresholds, _highest(rows[rows.damping_rule == rule.rule])
    for damping in _FIXED:
        if (grid.damping == damping).any():
            yield {"rule": written(damping), "damping": damping}, _highest(grid[grid.damping == damping])
    top = _highest(grid)
    yield {"rule": "best", "damping": grid.at[top, "damping"]}, top
    if len(plain):
        yield {"rule": "grad_dot"}, _highest(plain)


def _highest(rows: pd.DataFrame) -> int | None:
    return rows.value.idxmax() if len(rows) else None


def _against_best(rows: pd.DataFrame, effects: Effects, place: int | None, grid: pd.DataFrame) -> dict:
    """The LDS at a place beside that of the best of a grid, and of the best of each half on the other."""
    top = _highest(grid)
    oracle = grid.at[top, "value"]
    found = {"best_damping": grid.at[top, "damping"], "best_lds": oracle, "cross_fitted": halves(grid)["cross_fitted"]}
    if place is None:
        return found
    here = rows.loc[place]
    low, high = lost(effects, place, top, here.confidence)
    found |= {"lds": here.value, "low": here.low, "high": here.high, "lost": oracle - here.value}
    found |= {"lost_low": low, "lost_high": high}
    if oracle > 0:
        found["share"] = here.value / oracle
        found["share_low"], found["share_high"] = effects[place].of_ratio(effects[top], here.confidence)
    if found["cross_fitted"] > 0:
        found["cross_fitted_share"] = (here.first_half + here.second_half) / 2 / found["cross_fitted"]
    return found


def _ordered(rows: list[dict]) -> list[str]:
    """Names and hyperparameters, then what was measured."""
    every = dict.fromkeys(name for row in rows for name in row)
    return [*(name for name in every if name not in _MEASURED), *_MEASURED]


def _interpolated(grid: pd.DataFrame, damping: float | None) -> float:
    positive = best(grid[grid.damping > 0], ["damping"]).sort_values("damping")
    if damping is None or np.isnan(damping) or not positive.damping.min() <= damping <= positive.damping.max():
        return np.nan
    return float(np.interp(np.log(damping), np.log(positive.damping), positive.value))
