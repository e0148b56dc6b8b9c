"""Chosen dampings beside the best of the grid."""

import numpy as np
import pandas as pd
import pytest

from attriflow import choices

GRID = {0.01: 0.2, 0.1: 0.5, 1.0: 0.4}


def summary() -> pd.DataFrame:
    """A grid of three dampings, and what a rule chose, at two values of a hyperparameter."""
    rows = []
    for epoch, scale in (("5", 1.0), ("last", 0.5)):
        named = {"setting": "s", "ensemble": "e", "ensemble_size": 1, "method": "trak", "epoch": epoch, "relatif": True}
        measured = {"truth": "subsets", "metric": "lds", "output": "loss", "low": 0, "high": 1, "ceiling": 0.9}
        costs = {"seconds": 1, "peak_mib": 1, "rows": 10, "test_examples": 5, "confidence": 0.95}
        points = [(damping, value, "") for damping, value in GRID.items()] + [(0.3, 0.45, "select")]
        for damping, value, rule in points:
            row = {"damping": damping, "value": scale * value, "damping_rule": rule}
            rows.append(named | measured | costs | row)
    return pd.DataFrame(rows)


CONTENT = {
    "takes": [],
    "chosen": {
        "ensemble_size=1": {
            "select": {"damping": 0.3, "crossings": 1, "warning": "", "at": {"0.4": 10**-1.5, "0.6": 5.0}},
            "mean_mode": {"damping": None},
        }
    },
}


def compared() -> pd.DataFrame:
    names = {"setting": "s", "ensemble": "e", "method": "trak"}
    chosen = [row for epoch in (5, "last") for row in choices.said(names | {"epoch": epoch}, CONTENT)]
    return choices.table(summary(), pd.DataFrame(chosen)).set_index(["epoch", "rule"])


@pytest.mark.parametrize(("epoch", "scale"), [("5", 1.0), ("last", 0.5)])
def test_a_rule_is_compared_with_the_best_of_its_own_grid(epoch, scale):
    row = compared().loc[(epoch, "select")]
    assert (row.damping, row.best_damping) == (0.3, 0.1)
    assert row.lds == pytest.approx(0.45 * scale)
    assert row.share == pytest.approx(0.9)


def test_other_thresholds_are_interpolated_between_dampings_and_not_beyond():
    row = compared().loc[("5", "select")]
    assert row.lds_40 == pytest.approx(0.35)
    assert np.isnan(row.lds_60)


def test_a_rule_that_chose_nothing_keeps_its_row():
    row = compared().loc[("5", "mean_mode")]
    assert np.isnan(row.lds)
    assert row.best_lds == 0.5
