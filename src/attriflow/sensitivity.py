"""Sensitivity: how much each hyperparameter matters to a method, and what a value from elsewhere costs.

All of it is the LDS (loss) at points of a method's grid. Differences between two points, on the same subsets and test
examples, have intervals of their own (`attriflow.paired`). The points that are compared are chosen once, on all
subsets; the intervals do not count that choice. A point whose LDS is no number is neither the best nor the worst.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from attriflow.defaults import default, stand_in
from attriflow.hyperparameters import point_name
from attriflow.intervals import Effects
from attriflow.paired import halves
from attriflow.paired import lost as interval_of_lost
from attriflow.pairs import PAIRS, SIZE
from attriflow.summary import gridded, hyperparameters, lds_of_loss, ordered, written

POINT = "point"  # in a column `hyperparameter`: all of them together
_METHOD = ["setting", "truth", "ensemble", "per_model", "method"]
_WHERE = ["setting", "truth", "ensemble", SIZE, "per_model", "method"]
_LOST = ["lds", "lost", "lost_low", "lost_high"]
_COLUMNS = {
    "sensitivity": [
        *_WHERE, "hyperparameter", "values", "best", "lds", "low", "high", "same_half", "cross_fitted",
        "worst", "range", "range_low", "range_high", "default", "stand_in", "regret", "regret_low", "regret_high",
    ],
    "transfer": ["carried_from", *_WHERE, "hyperparameter", "value", "best", *_LOST],
    "interactions": [*_WHERE, "tuned", "beneath", "tuned_at", "used_at", "value", "best", *_LOST],
}  # fmt: skip


class Grid:
    """The points of one method in one setting, a row of `table` each, and the hyperparameters that have several values.

    Values are written ones (`attriflow.summary.written`); a place is a label of a row.
    """

    def __init__(self, table: pd.DataFrame):
        self.table = table
        self.values = {
            name: found
            for name in [*hyperparameters(table), SIZE]
            if len(found := ordered(value for value in table[name] if value)) > 1
        }
        rows = table[list(self.values)].itertuples(index=False, name=None)
        self._places = dict(zip(rows, table.index, strict=True)) if self.values else {}
        self.best = table.value.idxmax()

    def of_size(self) -> list["Grid"]:
        """One grid an ensemble size."""
        return [Grid(table) for _, table in self.table.groupby(SIZE, sort=False) if table.value.notna().any()]

    def at(self, place: int, **changes: str) -> int:
        """The place of the point that differs from that of `place` by these values.

        Raises ValueError if there is none.
        """
        point = self.point(place) | changes
        try:
            return self._places[tuple(point[name] for name in self.values)]
        except KeyError:
            row = self.table.iloc[0]
            raise ValueError(f"{row.method} on {row.setting} has no point {point_name(point)}") from None

    def point(self, place: int) -> dict[str, str]:
        """The values of a point, of what has several."""
        return {name: self.table.at[place, name] for name in self.values}

    def line(self, name: str) -> dict[str, int]:
        """The places along one hyperparameter, all others as at the best point; of POINT all there are."""
        if name == POINT:
            return {point_name(self.point(place)): place for place in self.table.index}
        return {value: self.at(self.best, **{name: value}) for value in self.values[name]}

    def plane(self, tuned: str, beneath: str) -> dict[str, dict[str, int]]:
        """The places over two hyperparameters, by the value of the second, then of the first; others at the best."""
        return {
            under: {value: self.at(self.best, **{tuned: value, beneath: under}) for value in self.values[tuned]}
            for under in self.values[beneath]
        }

    def highest(self, places: dict[str, int]) -> str:
        """The value whose place has the highest LDS."""
        return max(places, key=lambda value: np.nan_to_num(self.table.at[places[value], "value"], nan=-np.inf))

    def lowest(self, places: dict[str, int]) -> str:
        """The value whose place has the lowest LDS."""
        return min(places, key=lambda value: np.nan_to_num(self.table.at[places[value], "value"], nan=np.inf))


def grids(table: pd.DataFrame) -> Iterator[Grid]:
    """The grid of every setting, ground truth, ensemble and method, over all its ensemble sizes; a summary's rows.

    Sizes with another number of members of each model are another grid.
    """
    table = gridded(lds_of_loss(table))
    table = table.assign(**{name: table[name].map(written) for name in [*hyperparameters(table), SIZE]})
    for _, found in table.groupby(_METHOD, sort=False):
        if found.value.notna().any():
            yield Grid(found)


def tables(table: pd.DataFrame, effects: Effects, kinds: dict[str, str]) -> dict[str, pd.DataFrame]:
    """The three tables of a study, by name: `sensitivity`, `transfer`, `interactions`.

    table: the measurements, of which place i has entry i of `effects`. kinds: the kind of each method.
    """
    every = list(grids(table))
    found = {
        "sensitivity": [row for grid in every for row in _sensitivity(grid, effects, kinds)],
        "transfer": list(_transfer(every, effects)),
        "interactions": [row for grid in every for row in _interactions(grid, effects)],
    }
    return {name: pd.DataFrame(rows, columns=_COLUMNS[name]) for name, rows in found.items()}


def _sensitivity(grid: Grid, effects: Effects, kinds: dict[str, str]) -> Iterator[dict]:
    for part in grid.of_size():
        for name in [*part.values, POINT] if part.values else []:
            yield _where(part) | _row(part, name, effects, kinds)
    if SIZE in grid.values:
        yield _where(grid) | _row(grid, SIZE, effects, kinds)


def _row(grid: Grid, name: str, effects: Effects, kinds: dict[str, str]) -> dict:
    line, top = grid.line(name), grid.table.loc[grid.best]
    worst = grid.lowest(line)
    values = {"hyperparameter": name, "values": len(line), "best": _value(grid, name), "worst": worst}
    values |= {"lds": top.value, "low": top.low, "high": top.high} | halves(grid.table)
    values |= _renamed(_lost(grid, line[worst], grid.best, effects), "range")
    given, used = _default(grid, name, kinds[top.method])
    values |= {"default": given, "stand_in": used}
    return values | (_renamed(_lost(grid, line[used], grid.best, effects), "regret") if used else {})


def _default(grid: Grid, name: str, kind: str) -> tuple[object, str | None]:
    """The libraries' value, and the value of the grid that stands for it; of POINT those of all that have one."""
    at, given, used = dict(grid.table.loc[grid.best]), {}, {}
    for each in sorted(grid.values, key="damping".__eq__) if name == POINT else [name]:  # damping last: it has a unit
        value = default(kind, each, at)
        if value is not None:
            given[each] = value
            at[each] = used[each] = stand_in(value, grid.values[each])
    if name != POINT:
        return given.get(name), used.get(name)
    if not given or None in used.values():
        return None, None
    named = point_name({each: given[each] for each in grid.values if each in given})
    return named, point_name(grid.point(grid.at(grid.best, **used)))


def _transfer(every: list[Grid], effects: Effects) -> Iterator[dict]:
    """The best values of each setting in every other, one at a time and all together."""
    parts = [part for grid in every for part in grid.of_size() if part.values]
    for part in parts:
        here = _where(part)
        for other in parts:
            there = _where(other)
            if there["setting"] == here["setting"] or there | {"setting": here["setting"]} != here:
                continue
            for name in [*part.values, POINT]:
                carried = other.point(other.best)
                place = part.at(part.best, **(carried if name == POINT else {name: carried[name]}))
                values = {"hyperparameter": name, "value": _value(other, name), "best": _value(part, name)}
                yield {"carried_from": there["setting"]} | here | values | _lost(part, place, part.best, effects)


def _interactions(grid: Grid, effects: Effects) -> Iterator[dict]:
    """What is tuned at one value of what lies beneath, used at another."""
    for tuned, beneath in PAIRS:
        for part in [grid] if beneath == SIZE else grid.of_size():
            if not {tuned, beneath} <= part.values.keys():
                continue
            plane = part.plane(tuned, beneath)
            tops = {under: part.highest(places) for under, places in plane.items()}
            for tuned_at in plane:
                for used_at, places in plane.items():
                    names = {"tuned": tuned, "beneath": beneath, "tuned_at": tuned_at, "used_at": used_at}
                    names |= {"value": tops[tuned_at], "best": tops[used_at]}
                    lost = _lost(part, places[tops[tuned_at]], places[tops[used_at]], effects)
                    yield _where(part) | names | lost


def _where(grid: Grid) -> dict:
    """The names of a grid; no ensemble size where it has several."""
    top = grid.table.loc[grid.best]
    return {name: None if name in grid.values else top[name] for name in _WHERE}


def _value(grid: Grid, name: str) -> str:
    point = grid.point(grid.best)
    return point_name(point) if name == POINT else point[name]


def _lost(grid: Grid, place: int, best: int, effects: Effects) -> dict[str, float]:
    """The LDS at a place, and how far it lies below that at the best, with its interval."""
    low, high = interval_of_lost(effects, place, best, grid.table.at[place, "confidence"])
    value = grid.table.at[place, "value"]
    return {"lds": value, "lost": grid.table.at[best, "value"] - value, "lost_low": low, "lost_high": high}


def _renamed(lost: dict[str, float], name: str) -> dict[str, float]:
    return {name: lost["lost"], f"{name}_low": lost["lost_low"], f"{name}_high": lost["lost_high"]}
