"""Sensitivity: known ranges, regrets and carried values, intervals that cover, choices scored where nothing chose."""

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, TINY
from effects import effects

from attriflow.config import ConfigError
from attriflow.defaults import DEFAULTS, default, stand_in
from attriflow.registry import Registry
from attriflow.sensitivity import tables
from attriflow.study import plan
from attriflow.summary import arranged, gridded, hyperparameters, ordered, written

pytestmark = pytest.mark.slow

KINDS = {"trak": "trak", "influence": "influence", "mine": "mine", "logra": "logra"}


def rows(values: dict[tuple, float], names: tuple[str, ...], **fixed) -> pd.DataFrame:
    """A table of points (their values of `names`) with their LDS, the same on both halves."""
    common = {
        "setting": "a", "ensemble": "independent", "ensemble_size": 1, "models": 1, "per_model": 1, "method": "trak",
        "truth": "subsets", "metric": "lds", "output": "loss", "confidence": 0.9, "damping_rule": "",
    } | fixed  # fmt: skip
    each = [common | dict(zip(names, point, strict=True)) | {"value": value} for point, value in values.items()]
    table = pd.DataFrame(each)
    halves = {"first_half": table.value, "second_half": table.value}
    return table.assign(low=table.value, high=table.value, **halves, seconds=1.0, peak_mib=1.0, ceiling=0.9)


def made(*parts: pd.DataFrame, noise: np.ndarray | None = None) -> dict[str, pd.DataFrame]:
    """The tables, where every subset says what all say unless given, (points, subsets)."""
    table = pd.concat(parts, ignore_index=True)
    return tables(table, effects(table, np.zeros((len(table), 5)) if noise is None else noise), KINDS)


def row(table: pd.DataFrame, **names) -> pd.Series:
    """The one row with these values."""
    found = table[np.logical_and.reduce([table[name] == value for name, value in names.items()])]
    assert len(found) == 1, found
    return found.iloc[0]


# best at damping 0.1 and proj_dim 512; at 64 a larger damping is best
PLANE = {
    (0.01, 64): 0.1, (0.1, 64): 0.2, (1.0, 64): 0.3,
    (0.01, 512): 0.4, (0.1, 512): 0.6, (1.0, 512): 0.5,
}  # fmt: skip
NAMES = ("damping", "proj_dim")


def test_ranges_are_those_along_one_hyperparameter_through_the_best_point():
    found = made(rows(PLANE, NAMES))["sensitivity"]
    assert list(found.hyperparameter) == ["damping", "proj_dim", "point"]
    damping, proj_dim, point = (row(found, hyperparameter=name) for name in found.hyperparameter)
    assert (damping["best"], damping.worst, damping.lds) == ("0.1", "0.01", 0.6)
    assert damping.range == pytest.approx(0.2)
    assert (proj_dim["best"], proj_dim.worst, proj_dim["values"]) == ("512", "64", 2)
    assert proj_dim.range == pytest.approx(0.4)
    assert (point["best"], point.worst) == ("damping=0.1,proj_dim=512", "damping=0.01,proj_dim=64")
    assert point.range == pytest.approx(0.5)


def test_regret_is_what_the_librarys_default_loses_with_the_nearest_value_in_its_place():
    found = made(rows(PLANE, NAMES))["sensitivity"]
    damping, proj_dim, point = (row(found, hyperparameter=name) for name in ("damping", "proj_dim", "point"))
    assert (damping.default, damping.stand_in) == (0, "0.01")  # traker: 0
    assert damping.regret == pytest.approx(0.2)
    assert (proj_dim.default, proj_dim.stand_in, proj_dim.regret) == (2048, "512", 0)
    assert (point.default, point.stand_in) == ("damping=0,proj_dim=2048", "damping=0.01,proj_dim=512")
    assert point.regret == pytest.approx(0.2)


def test_a_method_that_no_library_has_gets_no_regret_and_one_without_several_values_no_row():
    found = made(
        rows({(1,): 0.2, (2,): 0.3}, ("power",), method="mine"), rows({(0.1,): 0.5}, ("damping",), method="influence")
    )["sensitivity"]
    assert set(found.method) == {"mine"}
    assert found.regret.isna().all()
    assert found.stand_in.isna().all()


def test_a_relative_default_says_nothing_about_an_absolute_damping():
    values = {(1e-5,): 0.1, (1e-3,): 0.3}
    absolute = made(rows(values, ("damping",), method="logra", relative=False))["sensitivity"]
    assert absolute.regret.isna().all()
    relative = made(rows(values, ("damping",), method="logra", relative=True))["sensitivity"]
    assert row(relative, hyperparameter="damping").stand_in == "1e-05"
    both = made(rows({(d, r): 0.3 - d * r for d in (1e-5, 1e-3) for r in (False, True)}, ("damping", "relative"),
                     method="logra"))["sensitivity"]  # fmt: skip
    assert row(both, hyperparameter="point").stand_in == "damping=1e-05,relative=True"


def test_ensemble_sizes_have_their_own_rows_and_are_a_hyperparameter_themselves():
    found = made(
        rows({(0.1,): 0.3, (1.0,): 0.4}, ("damping",)), rows({(0.1,): 0.6, (1.0,): 0.5}, ("damping",), ensemble_size=5)
    )
    table = found["sensitivity"]
    assert row(table, hyperparameter="damping", ensemble_size="1")["best"] == "1"
    assert row(table, hyperparameter="damping", ensemble_size="5")["best"] == "0.1"
    size = row(table, hyperparameter="ensemble_size")
    assert (size["best"], size.worst) == ("5", "1")
    assert pd.isna(size.ensemble_size)
    assert size.range == pytest.approx(0.3)  # at damping 0.1
    lost = row(found["interactions"], beneath="ensemble_size", tuned_at="1", used_at="5")
    assert (lost.value, lost["best"]) == ("1", "0.1")
    assert lost.lost == pytest.approx(0.1)


def test_values_tuned_beneath_one_projection_lose_beneath_another():
    found = made(rows(PLANE, NAMES))["interactions"]
    assert len(found) == 4
    carried = row(found, tuned_at="64", used_at="512")
    assert (carried.value, carried["best"], carried.lds) == ("1", "0.1", 0.5)
    assert carried.lost == pytest.approx(0.1)
    assert (found[found.tuned_at == found.used_at].lost == 0).all()


def test_values_are_carried_between_settings_alone_and_together():
    there = {(0.01, 64): 0.5, (0.1, 64): 0.1, (1.0, 64): 0.1, (0.01, 512): 0.3, (0.1, 512): 0.1, (1.0, 512): 0.1}
    found = made(rows(PLANE, NAMES), rows(there, NAMES, setting="b"))["transfer"]
    assert len(found) == 6
    damping = row(found, carried_from="b", setting="a", hyperparameter="damping")
    assert (damping.value, damping["best"], damping.lds) == ("0.01", "0.1", 0.4)
    assert damping.lost == pytest.approx(0.2)
    point = row(found, carried_from="b", setting="a", hyperparameter="point")
    assert (point.value, point.lds) == ("damping=0.01,proj_dim=64", 0.1)
    assert row(found, carried_from="a", setting="b", hyperparameter="point").lost == pytest.approx(0.4)


def test_nothing_is_carried_within_one_setting_or_from_where_a_method_did_not_run():
    assert made(rows(PLANE, NAMES))["transfer"].empty
    other = rows({(0.1,): 0.5, (1.0,): 0.4}, ("damping",), setting="b", method="influence")
    assert made(rows(PLANE, NAMES), other)["transfer"].empty


def test_a_value_that_a_setting_does_not_have_is_refused():
    other = {(damping, 1024 if k == 64 else k): value for (damping, k), value in PLANE.items()}
    other[(1.0, 1024)] = 0.9
    with pytest.raises(ValueError, match=r"trak on a has no point damping=0.1,proj_dim=1024"):
        made(rows(PLANE, NAMES), rows(other, NAMES, setting="b"))


def test_the_half_that_chooses_does_not_score():
    table = rows({(0.1,): 0.5, (1.0,): 0.5, (10.0,): 0.5}, ("damping",))
    table["first_half"], table["second_half"] = [0.9, 0.4, 0.5], [0.1, 0.6, 0.5]
    found = made(table)["sensitivity"].iloc[0]
    assert found.same_half == pytest.approx((0.9 + 0.6) / 2)
    assert found.cross_fitted == pytest.approx((0.1 + 0.4) / 2)


def test_values_chosen_by_a_rule_are_no_points_of_the_grid():
    plain = rows(PLANE, NAMES)
    chosen = rows({(0.07, 512): 0.99}, NAMES, damping_rule="select")
    for none in ("", np.nan):
        found = made(plain.assign(damping_rule=none), chosen)
        expected = made(plain)
        for name, table in expected.items():
            pd.testing.assert_frame_equal(found[name], table)
    assert len(gridded(pd.concat([plain.assign(damping_rule=""), chosen]))) == len(plain)


def test_halves_and_rules_are_no_hyperparameters_and_stay_in_the_summary():
    table = rows(PLANE, NAMES, damping_rule="").assign(rows=50, test_examples=7)
    assert hyperparameters(table) == list(NAMES)
    assert set(arranged(table)) == set(table)


def test_nothing_swept_makes_empty_tables_with_their_columns():
    for table in made(rows({(0.1,): 0.5}, ("damping",))).values():
        assert table.empty
        assert "setting" in table


def test_columns_of_mixed_types_hold_the_same_values():
    text = rows(
        {("5", "1e-2"): 0.1, ("last", "1e-2"): 0.2, ("5", "0.1"): 0.3, ("last", "0.1"): 0.4}, ("epoch", "damping")
    )
    mixed = rows({(5, 0.01): 0.1, ("last", 0.01): 0.2, (5, 0.1): 0.3, ("last", 0.1): 0.4}, ("epoch", "damping"))
    for name, table in made(text).items():
        pd.testing.assert_frame_equal(table, made(mixed)[name])
    assert [written(value) for value in (512.0, np.bool_(True), np.float64(1e-6), None)] == ["512", "True", "1e-06", ""]
    assert ordered(["all", "3", "1e-05"]) == ["1e-05", "3", "all"]


def test_paired_intervals_hold_the_true_difference_and_are_narrower_than_unpaired_ones():
    """Of 100 experiments of 40 subsets, nearly all 90 % intervals hold the difference of the means."""
    random = np.random.default_rng(0)
    covered, widths = 0, []
    for _ in range(100):
        common = random.standard_normal((40, 1))  # what subsets do to every point alike
        samples = np.array([0.5, 0.4]) + 0.1 * common + 0.02 * random.standard_normal((40, 2))
        means = samples.mean(0)
        found = made(rows({(0.1,): means[0], (1.0,): means[1]}, ("damping",)), noise=samples.T)["sensitivity"]
        one = row(found, hyperparameter="damping")
        covered += one.range_low <= 0.1 <= one.range_high
        widths.append((one.range_high - one.range_low) / (2 * 1.68 * samples[:, 0].std() / np.sqrt(40)))
    assert 80 <= covered <= 98
    assert np.mean(widths) < 0.5


def test_the_nearest_value_by_ratio_stands_for_a_default():
    assert stand_in(10, ["5", "20", "all"]) in ("5", "20")
    assert stand_in(100, ["20", "all"]) == "20"
    assert stand_in(1e-8, ["0", "1e-06", "1"]) == "1e-06"
    assert stand_in(0, ["0", "1e-06"]) == "0"
    assert stand_in(False, ["False", "True"]) == "False"
    assert stand_in(64, ["all"]) is None


def test_every_default_is_a_hyperparameter_of_ours_and_a_value_that_it_may_have():
    from attriflow.hyperparameters import problem

    registry = Registry()
    for kind, values in DEFAULTS.items():
        takes = registry.hyperparameters("scores", kind, "prepare") | registry.hyperparameters("scores", kind, "score")
        for name, value in values.items():
            positive = 1e-3 if value == 0 and takes[name].annotation == "Positive" else value  # theirs may be 0
            assert problem(positive, takes[name].annotation) is None, (kind, name)
            relative = {"relative": str(values.get("relative", False))}
            assert default(kind, name, relative) == value


# --- the pipeline --------------------------------------------------------------------------------------------


def test_a_run_makes_the_tables_from_paired_effects(finished):
    folder = finished.folder / "results/evaluation"
    found = pd.read_csv(folder / "sensitivity.csv")
    assert set(found.method) == {"grad_dot", "influence", "trak"}
    assert set(found[found.method == "grad_dot"].hyperparameter) == {"ensemble_size"}
    assert set(found[found.method == "trak"].hyperparameter) == {"damping", "proj_dim", "ensemble_size", "point"}
    assert (found.range >= 0).all()
    assert ((found.range_low <= found.range) & (found.range <= found.range_high)).all()
    measured = pd.read_csv(folder / "summary.csv", dtype={"damping": str, "proj_dim": str})
    top = measured[(measured.method == "trak") & (measured.metric == "lds") & (measured.output == "loss")]
    assert row(found, method="trak", hyperparameter="ensemble_size").lds == pytest.approx(top.value.max())
    assert pd.read_csv(folder / "sensitivity.transfer.csv").empty
    pairs = pd.read_csv(folder / "sensitivity.interactions.csv")[["method", "tuned", "beneath"]].drop_duplicates()
    assert set(pairs.itertuples(index=False, name=None)) == {
        ("influence", "damping", "ensemble_size"),
        ("trak", "damping", "ensemble_size"),
        ("trak", "damping", "proj_dim"),
    }


def test_every_row_of_a_table_has_effects_of_which_the_interval_is_made(finished):
    from attriflow.paired import kept

    for path in (finished.folder / "results/evaluation/digits_mlp").rglob("*.csv"):
        table = pd.read_csv(path)
        found = kept(path.with_suffix(".npz"), table.index)
        assert len(found) == len(table)
        for place, measured in enumerate(table.itertuples()):
            low, high = found[place].of_correlation(measured.confidence)  # of projected interactions
            assert [low, high] == pytest.approx([measured.low, measured.high], abs=0.1, nan_ok=True)
            assert found[place].value == pytest.approx(measured.value, abs=1e-5)


def test_a_point_whose_lds_is_no_number_is_neither_best_nor_worst():
    found = made(rows(PLANE | {(0.1, 512): np.nan, (0.01, 512): np.nan}, NAMES))["sensitivity"]
    damping = row(found, hyperparameter="damping")
    assert (damping["best"], damping.worst, damping.lds) == ("1", "1", 0.5)
    assert all(table.empty for table in made(rows(dict.fromkeys(PLANE, np.nan), NAMES)).values())


def test_figures_of_empty_tables_are_left_out():
    drawn = {job.settings["figure"] for job in plan(ROOT, yaml.safe_load(TINY)).room("figures")}
    assert {"sensitivity_ranking", "heatmaps", "dimension"} <= drawn
    assert "transfer" not in drawn
    leave_one_out = plan(ROOT, yaml.safe_load(TINY) | {"run": {"ground_truth": ["leave_one_out"]}})
    drawn = {job.settings["figure"] for job in leave_one_out.room("figures")}
    assert not {"sensitivity_ranking", "dimension"} & drawn
    one = yaml.safe_load(TINY)
    one["methods"]["trak"]["proj_dim"] = 8
    assert "dimension" not in {job.settings["figure"] for job in plan(ROOT, one).room("figures")}


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            {"figures": ["transfer"]},
            "'transfer' has nothing to show; it takes two settings in which a method has several",
        ),
        ({"figures": ["heatmaps"], "methods": ["grad_dot"]}, "it takes a method with several values of both of a pair"),
        (
            {"figures": ["dimension"], "methods": ["influence"]},
            r"it takes a method with several values of each of \['damping', 'proj_dim'\]",
        ),
        ({"figures": ["dimension"], "ground_truth": ["leave_one_out"]}, "it takes a ground truth of the kind"),
        (
            {"figures": ["lds_by_hyperparameter"], "methods": ["grad_dot"]},
            "it takes a method with several values of a hyperparameter",
        ),
        (
            {"figures": ["sensitivity_ranking"], "ground_truth": ["leave_one_out"]},
            "it takes a ground truth of the kind",
        ),
    ],
)
def test_a_figure_that_is_asked_for_and_has_nothing_to_show_is_refused(run, message):
    with pytest.raises(ConfigError, match=message):
        plan(ROOT, yaml.safe_load(TINY) | {"run": run})


@pytest.mark.parametrize(
    "figure", ["dimension", "heatmaps", "lds_by_hyperparameter", "sensitivity_ranking", "transfer"]
)
def test_figures_are_drawn_where_a_setting_lacks_a_method(figure):
    both = [rows(PLANE, NAMES, setting=setting, rows=50, test_examples=7) for setting in ("a", "b")]
    alone = rows({(0.1,): 0.2, (1.0,): 0.3}, ("damping",), method="influence", rows=50, test_examples=7)
    found = {"summary": pd.concat([*both, alone])} | made(*both, alone)
    registry = Registry()
    drawn = registry.load("figures", figure).draw(
        **{name: found[name] for name in registry.arguments("figures", figure, "draw")}
    )
    words = [text.get_text() for axes in drawn.axes for text in (axes.title, *axes.get_yticklabels())]
    assert any("TRAK" in each for each in words)


def test_every_way_to_take_a_damping_is_a_line_against_the_projected_dimension():
    plane = PLANE | {(0.0, 64): 0.05, (0.001, 64): 0.1, (0.0, 512): 0.02, (0.001, 512): 0.2}
    large, small = (
        rows({at: value - less for at, value in plane.items()}, NAMES, ensemble_size=size, rows=50, test_examples=7)
        for size, less in ((5, 0), (1, 0.01))
    )
    chosen = rows({(0.07, 512): 0.59}, NAMES, ensemble_size=5, rows=50, test_examples=7, damping_rule="select")
    table = pd.concat([large, small, chosen], ignore_index=True)
    high, middle, low = Registry().load("figures", "dimension").draw(table).axes
    labels = [text.get_text() for text in high.get_legend().get_texts()]
    assert labels == ["no damping", "fixed, 0.001", "best of the grid", "selected"]
    lines = {each.get_label(): each[0].get_ydata().tolist() for each in high.containers}
    assert lines["no damping"] == [0.05, 0.02]
    assert lines["best of the grid"] == [0.3, 0.6]
    assert lines["selected"] == [0.59]
    assert [line.get_ydata().tolist() for line in middle.lines] == [[1.0, 0.1], [0.07]]
    assert [line.get_xdata().tolist() for line in low.lines] == [[1, 5], [5]]
