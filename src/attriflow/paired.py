"""Measurements with what subsets and test examples do to each: intervals of what is made of several, and halves.

The rule `evaluate` keeps the effects of every point (`attriflow.intervals.Effects`). Points on one ground truth saw the
same subsets and test examples, so the effects of a difference are the differences of effects.
"""

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd

from attriflow.intervals import Effects
from attriflow.io import load_arrays
from attriflow.summary import lds_of_loss


def arrays(effects: list[Effects]) -> dict[str, np.ndarray]:
    """As a file holds them: named arrays, an entry for every measurement."""
    stack = Effects.stacked(effects)
    return {field.name: getattr(stack, field.name) for field in fields(stack)}


def kept(path: Path, places: Iterable[int]) -> Effects:
    """Those of some measurements of a file, in their order."""
    places = list(places)
    return Effects(**{name: np.asarray(array)[places] for name, array in load_arrays(path).items()})


def load(tables: Iterable[Path], files: Iterable[Path]) -> tuple[pd.DataFrame, Effects]:
    """The LDS (loss) of every point that has one, and its effects: label i of the table is entry i of them."""
    measured, effects = [], []
    for table, file in zip(tables, files, strict=True):
        rows = lds_of_loss(pd.read_csv(table).drop(columns="point"))
        measured.append(rows)
        effects.append(kept(file, rows.index))
    return pd.concat(measured, ignore_index=True), Effects.joined(effects)


def lost(effects: Effects, place: int, best: int, confidence: float) -> tuple[float, float]:
    """The interval of how far one measurement lies below another; of itself 0."""
    return (0.0, 0.0) if place == best else effects[best].minus(effects[place]).interval(confidence)


def halves(table: pd.DataFrame) -> dict[str, float]:
    """The LDS of the point chosen on half of the subsets, on that half and on the other one; the mean of both ways.

    NaN where no point has a value on a half.
    """
    if table[["first_half", "second_half"]].isna().all().any():
        return {"same_half": np.nan, "cross_fitted": np.nan}
    first, second = table.first_half.idxmax(), table.second_half.idxmax()
    return {
        "same_half": (table.at[first, "first_half"] + table.at[second, "second_half"]) / 2,
        "cross_fitted": (table.at[first, "second_half"] + table.at[second, "first_half"]) / 2,
    }
