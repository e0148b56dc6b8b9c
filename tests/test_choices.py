"""Chosen dampings beside the best of the grid."""

import numpy as np
import pandas as pd
import pytest
from effects import effects

from attriflow import choices
from attriflow.intervals import Effects

GRID = {0.0: 0.3, 0.001: 0.1, 0.01: 0.2, 0.1: 0.5, 1.0: 0.4}
HALVES = {0.1: (0.54, 0.46), 1.0: (0.30, 0.50)}  # of a damping; others have their value on both


def measured() -> tuple[pd.DataFrame, Effects]:
    """A grid of dampings, what a rule chose, and Grad-Dot, at two values of a hyperparameter; 40 subsets, paired."""
    rows = []
    for epoch, scale in (("5", 1.0), ("last", 0.5)):
        named = {"setting": "s", "ensemble": "e", "ensemble_size": 1, "models": 1, "per_model": 1, "epoch": epoch}
        fixed = {"truth": "subsets", "metric": "lds", "output": "loss", "low": 0, "high": 1, "ceiling": 0.9}
        costs = {"seconds": 1, "peak_mib": 1, "rows": 10, "test_examples": 5, "confidence": 0.9}
        points = [(damping, value, "") for damping, value in GRID.items()] + [(0.3, 0.45, "select")]
        for damping, value, rule in points:
            first, second = HALVES.get(damping, (value, value))
            row = {"method": "trak", "relatif": True, "damping": damping, "damping_rule": rule}
            row |= {"value": scale * value, "first_half": scale * first, "second_half": scale * second}
            rows.append(named | fixed | costs | row)
        plain = {"value": 0.25 * scale, "first_half": 0.25 * scale, "second_half": 0.25 * scale, "damping_rule": ""}
        rows.append(named | fixed | costs | {"method": "plain"} | plain)
    table = pd.DataFrame(rows)
    random = np.random.default_rng(0)
    return table, effects(table, random.normal(0, 0.02, 40) + random.normal(0, 0.001, (len(table), 40)))


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
    return choices.table(*measured(), pd.DataFrame(chosen), ["plain"]).set_index(["epoch", "rule"])


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
    assert row[["lds", "share", "lost", "lost_low", "cross_fitted_share"]].isna().all()
    assert row.best_lds == 0.5


@pytest.mark.parametrize(("rule", "damping", "lds"), [("0", 0, 0.3), ("0.001", 0.001, 0.1), ("best", 0.1, 0.5)])
def test_fixed_dampings_of_the_grid_and_its_best_have_rows(rule, damping, lds):
    row = compared().loc[("5", rule)]
    assert (row.damping, row.lds) == (damping, lds)
    assert row.lost == pytest.approx(0.5 - lds)


def test_grad_dot_of_the_same_epoch_stands_beside_the_rules():
    table = compared()
    assert [table.loc[(epoch, "grad_dot")].lds for epoch in ("5", "last")] == [0.25, 0.125]
    assert (table.method == "trak").all()


def test_a_damping_that_the_grid_lacks_has_no_row():
    table, found = measured()
    rows = table[(table.damping != 0) & (table.method == "trak")].reset_index(drop=True)
    chosen = pd.DataFrame(choices.said({"setting": "s", "ensemble": "e", "method": "trak", "epoch": 5}, CONTENT))
    found = choices.table(rows, found[: len(rows)], chosen, [])
    assert list(found.rule) == ["select", "mean_mode", "0.001", "0.01", "best"]


def test_differences_and_shares_have_paired_intervals():
    row = compared().loc[("5", "select")]
    assert row.lost == pytest.approx(0.05)
    assert row.lost_low < 0.05 < row.lost_high
    assert row.share_low < 0.9 < row.share_high
    assert row.lost_high - row.lost_low < 0.01  # 0.02 is what both points share
    best = compared().loc[("5", "best")]
    assert (best.lost, best.lost_low, best.lost_high, best.share_low) == (0, 0, 0, 1)


def test_a_damping_whose_lds_is_no_number_is_not_the_best():
    table, found = measured()
    table.loc[table.damping == 0.1, "value"] = np.nan
    chosen = pd.DataFrame(choices.said({"setting": "s", "ensemble": "e", "method": "trak", "epoch": 5}, CONTENT))
    row = choices.table(table, found, chosen, []).set_index("rule").loc["best"]
    assert (row.damping, row.lds) == (1.0, 0.4)
    table.loc[table.method == "trak", "value"] = np.nan
    assert choices.table(table, found, chosen, []).empty


def test_the_oracle_is_cross_fitted():
    row = compared().loc[("5", "select")]
    assert row.cross_fitted == pytest.approx((0.46 + 0.30) / 2)  # 0.1 is best on the first half, 1 on the second
    assert row.cross_fitted_share == pytest.approx(0.45 / 0.38)


def test_there_is_no_share_of_a_best_that_is_not_above_zero():
    table, _ = measured()
    columns = ["value", "first_half", "second_half"]
    chosen = pd.DataFrame(choices.said({"setting": "s", "ensemble": "e", "method": "trak", "epoch": 5}, CONTENT))
    table = table.assign(**{name: table[name] - 0.5 for name in columns})
    found = choices.table(table, effects(table, np.random.default_rng(0).normal(0, 0.02, (len(table), 40))), chosen, [])
    assert found[["share", "share_low", "share_high", "cross_fitted_share"]].isna().all().all()
    assert found.set_index("rule").lost["select"] == pytest.approx(0.05)
