"""Measurements with their paired bootstrap resamples: intervals of what is made of several of them, and halves.

The rule `evaluate` draws the same subsets and test examples for every point on one ground truth, so a percentile of a
difference, or of a ratio, over resamples is one of the difference itself (`attriflow.evaluation`).
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from attriflow.io import load_arrays
from attriflow.summary import lds_of_loss


def load(tables: Iterable[Path], arrays: Iterable[Path]) -> tuple[pd.DataFrame, np.ndarray]:
    """The LDS (loss) of every point, and its resamples (rows, resamples): label i of the table is row i of them."""
    measured, resampled = [], []
    for table, each in zip(tables, arrays, strict=True):
        rows = lds_of_loss(pd.read_csv(table).drop(columns="point"))
        measured.append(rows)
        resampled.append(load_arrays(each)["resampled"][rows.index])
    return pd.concat(measured, ignore_index=True), np.concatenate(resampled)


def interval(resampled: np.ndarray, confidence: float) -> tuple[float, float]:
    """The ends of the percentile interval of resampled values (resamples,)."""
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def halves(table: pd.DataFrame) -> dict[str, float]:
    """The LDS of the point chosen on half of the subsets, on that half and on the other one; the mean of both ways."""
    first, second = table.first_half.idxmax(), table.second_half.idxmax()
    return {
        "same_half": (table.at[first, "first_half"] + table.at[second, "second_half"]) / 2,
        "cross_fitted": (table.at[first, "second_half"] + table.at[second, "first_half"]) / 2,
    }
