"""What a study came to: few numbers, each of them in its summary."""

import pandas as pd
import pytest

from attriflow import outcome

ROW = {
    "setting": "s", "ensemble": "e", "ensemble_size": 2, "models": 2, "per_model": 1, "method": "trak", "epoch": "last",
    "damping": 0.1, "proj_dim": 8.0, "damping_rule": None, "truth": "subsets", "metric": "lds", "output": "loss",
    "value": 0.5, "low": 0.4, "high": 0.6, "seconds": 1.0, "rows": 6, "test_examples": 3, "confidence": 0.95,
}  # fmt: skip


def table(*changes: dict) -> pd.DataFrame:
    return pd.DataFrame([ROW | change for change in changes])


def trak(found: dict) -> dict:
    return found["s"]["subsets"]["e"]["trak"]


def test_the_best_point_of_the_grid_is_named_by_its_numbers_and_by_words_of_which_there_are_several():
    rows = table({"value": 0.3}, {"value": 0.70000049, "damping": 1e-5}, {"value": 0.6, "epoch": 5})
    assert trak(outcome.best(rows)) == {"lds": 0.7, "at": "size=2 epoch=last damping=1e-05 proj_dim=8"}
    assert trak(outcome.best(rows[:2]))["at"] == "size=2 damping=1e-05 proj_dim=8"


def test_a_chosen_damping_stands_beside_the_best_and_is_none_of_the_grid():
    rows = table({"value": 0.3}, {"value": 0.4, "damping_rule": "select"}, {"value": 0.9, "damping_rule": "mean_mode"})
    assert trak(outcome.best(rows)) == {"lds": 0.3, "selected": 0.4, "at": "size=2 damping=0.1 proj_dim=8"}
    assert trak(outcome.best(rows[1:2])) == {"selected": 0.4}


@pytest.mark.parametrize(
    "other", [{"metric": "leave_one_out"}, {"output": "margin"}, {"ensemble_size": 1, "models": 1}]
)
def test_other_measures_and_smaller_ensembles_are_left_out(other):
    rows = table({"value": 0.3}, {"value": 0.9} | other)
    assert trak(outcome.best(rows))["lds"] == 0.3
    assert outcome.along(rows).lds.tolist() == [0.3]


def test_of_equally_many_members_more_models_are_the_largest():
    rows = table(
        {"ensemble_size": 6, "models": 2, "per_model": 3, "value": 0.9},
        {"ensemble_size": 6, "models": 3, "per_model": 2, "value": 0.3},
    )
    assert trak(outcome.best(rows)) == {"lds": 0.3, "at": "size=3x2 damping=0.1 proj_dim=8"}


def test_what_is_no_number_is_left_out_with_its_method():
    rows = table({"value": float("nan")}, {"value": 0.2, "method": "random", "damping": None, "proj_dim": None})
    assert outcome.best(rows)["s"]["subsets"]["e"] == {"random": {"lds": 0.2, "at": "size=2"}}
    assert outcome.best(rows[:1]) == {}
    assert outcome.along(rows).empty


def test_along_each_hyperparameter_the_best_over_the_others():
    points = [(0.1, 4, 0.2), (0.1, 8, 0.5), (1.0, 4, 0.6), (1.0, 8, 0.3)]
    rows = table(*({"damping": damping, "proj_dim": k, "value": value} for damping, k, value in points))
    found = outcome.along(rows)
    assert found[["curve", "value", "lds"]].to_numpy().tolist() == [
        ["s subsets e trak: damping", 0.1, 0.5],
        ["s subsets e trak: damping", 1.0, 0.6],
        ["s subsets e trak: proj_dim", 4.0, 0.6],
        ["s subsets e trak: proj_dim", 8.0, 0.5],
    ]


def test_a_single_damping_is_shown_and_another_single_value_is_not():
    assert outcome.along(table({"value": 0.3})).hyperparameter.tolist() == ["damping"]
