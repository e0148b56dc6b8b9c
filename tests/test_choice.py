"""Dampings chosen by rules, in scores, tables and the pipeline."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, TINY, Project
from test_config import errors

from attriflow import mechanism, provenance, resources, selection, study
from attriflow.config import ConfigError
from attriflow.hyperparameters import RULES
from attriflow.scores import influence
from attriflow.scoring import scored
from attriflow.sizes import EnsembleSize

pytestmark = pytest.mark.slow

SIZES = [EnsembleSize(1), EnsembleSize(2)]


@pytest.fixture(scope="module")
def prepared(members, split):
    return [influence.prepare(member, split) for member in members]


def first(prepared):
    """The prepared members of a size."""
    return lambda size: iter(prepared[: size.members])


def chosen(prepared) -> dict:
    """What the rules choose for ensembles of one and two."""
    found = {}
    for size in (1, 2):
        spectra = [influence.spectrum(member) for member in prepared[:size]]
        found[f"ensemble_size={size}"] = selection.by_every_rule(spectra, selection.curve(spectra))
    return {"takes": [], "chosen": found}


def test_every_rule_chooses_a_damping(prepared):
    found = chosen(prepared)["chosen"]["ensemble_size=2"]
    assert tuple(found) == RULES
    assert all(each["damping"] > 0 for each in found.values())
    assert found["select"]["at"]["0.4"] < found["select"]["damping"] < found["select"]["at"]["0.6"]


@pytest.mark.parametrize("rule", RULES)
def test_scores_at_a_rule_are_scores_at_what_it_chooses(prepared, rule):
    dampings = chosen(prepared)["chosen"]
    point = {"damping": rule, "relatif": "none"}
    for size, found, damping in scored(influence.score, first(prepared), point, SIZES, chosen(prepared)):
        assert damping == dampings[f"ensemble_size={size.written}"][rule]["damping"]
        expected = list(influence.score(prepared[: size.members], damping=damping))[-1]
        np.testing.assert_array_equal(found, expected.astype(found.dtype))


def test_where_a_rule_chooses_nothing_there_are_no_scores(prepared):
    nothing = chosen(prepared)
    nothing["chosen"]["ensemble_size=1"]["select"]["damping"] = None
    found = scored(influence.score, first(prepared), {"damping": "select"}, SIZES, nothing)
    assert [size.written for size, _, _ in found] == [2]


def test_a_rule_needs_a_spectrum():
    found = errors("methods", "datainf", {"damping": [0.1, "select"]})
    assert found == [
        "methods.datainf.damping[1]: datainf has no spectrum from which 'select' could choose a damping; "
        "these have: ['ekfac', 'influence', 'influence_arnoldi', 'logra', 'trak']"
    ]


def test_another_word_is_no_rule():
    (found,) = errors("methods", "influence", {"damping": [0.1, "chosen"]})
    assert found.startswith("methods.influence.damping[1]: must be a number of at least 0, not 'chosen'")


@pytest.fixture(scope="module")
def selecting(tmp_path_factory) -> Project:
    """A tiny project that selects dampings, after its first run."""
    project = Project.create(tmp_path_factory.mktemp("selecting") / "project")
    project.edit("config.yaml", "  influence: {damping: [0.01, 0.1]}", "  influence: {damping: [0.01, 0.1, select]}")
    project.edit("config.yaml", "damping: [0.1, 1.0]}", "damping: [0.1, 1.0, select, mean_mode]}")
    project.edit("config.yaml", "  grad_dot:\n", "")
    project.snakemake("evaluation", "results/figures/mechanism.png", "results/figures/stability.png")
    return project


def test_chosen_dampings_stand_in_the_summary(selecting):
    table = pd.read_csv(selecting.folder / "results/evaluation/summary.csv")
    for method, rule, point in (("influence", "select", ",relative=False"), ("trak", "mean_mode", ",proj_dim=8")):
        (path,) = (selecting.folder / f"results/scores/digits_mlp/independent/{method}").glob("*/selection.json")
        value = json.loads(path.read_text())["chosen"][f"ensemble_size=2{point}"][rule]["damping"]
        rows = table[(table.method == method) & (table.damping_rule == rule) & (table.ensemble_size == 2)]
        rows = rows[rows.proj_dim == 8] if method == "trak" else rows
        np.testing.assert_allclose(rows.damping.unique(), [value], rtol=1e-5)


def test_a_curve_that_chooses_nothing_is_said_and_leaves_no_row(selecting):
    (log,) = (selecting.folder / "logs/scores/digits_mlp/independent/trak").glob("*/selection.log")
    assert "ensemble_size=2,proj_dim=8: the mean indicator" in log.read_text()
    table = pd.read_csv(selecting.folder / "results/evaluation/summary.csv")
    assert table[(table.method == "trak") & (table.damping_rule == "select")].empty


def test_a_run_compares_and_costs_its_choices(selecting):
    folder = selecting.folder / "results/evaluation"
    table = pd.read_csv(folder / "selection.csv")
    found = table[(table.method == "influence") & (table.rule == "select")]
    assert (found.lost_low <= found.lost).all()
    assert (found.lost <= found.lost_high).all()
    assert set(table[table.method == "influence"].rule) == {*RULES, "0.01", "best"}
    costs = pd.read_csv(folder / "selection.costs.csv")
    assert sorted(costs.method) == ["influence", "trak"]
    assert (costs.models == 12).all()  # 6 subsets, trained twice
    assert (costs[["choose_seconds", "prepare_seconds", "score_seconds", "retrain_seconds"]] > 0).all().all()


def test_one_more_damping_reruns_scores_and_not_the_choice(selecting, tmp_path):
    project = selecting.copy(tmp_path / "project")
    project.edit("config.yaml", "damping: [0.01, 0.1, select]", "damping: [0.01, 0.1, 1.0, select]")
    planned = project.planned("evaluation")
    assert not any(stem.startswith("scores/") and stem.endswith(("/selection", "/0")) for stem in planned)
    assert any(stem.startswith("scores/digits_mlp/independent/influence/") for stem in planned)


def test_where_no_rule_chose_anything_the_job_says_so(selecting, tmp_path):
    project = selecting.copy(tmp_path / "project")
    project.edit("config.yaml", "damping: [0.1, 1.0, select, mean_mode]}", "damping: select}")
    failed = project.snakemake("evaluation", check=False)
    assert "no rule chose a damping" in failed.stdout + failed.stderr
    assert "give methods.trak.damping a number, too" in failed.stdout + failed.stderr


# --- why, and from how many test examples --------------------------------------------------------------------


def table(project: Project, name: str) -> pd.DataFrame:
    return pd.read_csv(project.folder / f"results/evaluation/{name}.csv")


def test_the_mechanism_is_measured_for_every_member_of_a_method_with_powers(selecting):
    found = table(selecting, "mechanism")
    assert found.method.unique().tolist() == ["influence"]
    assert found.truth.unique().tolist() == ["subsets"]
    assert found.member.nunique() == 2
    for _, member in found.groupby("member"):
        np.testing.assert_allclose(member.damping, mechanism.dampings([0.01, 0.1]), rtol=1e-5)
        assert (member.test_examples + member.without_indicator + member.constant == 12).all()
        assert member.correlation.between(-1, 1).all()
        assert member.rises.between(0, 1).all()


def test_the_first_member_by_itself_selects_what_the_rule_selects(selecting):
    found = table(selecting, "mechanism")
    (path,) = (selecting.folder / "results/scores/digits_mlp/independent/influence").glob("*/selection.json")
    value = json.loads(path.read_text())["chosen"]["ensemble_size=1,relative=False"]["select"]["damping"]
    np.testing.assert_allclose(found[found.member == found.member.iloc[0]].selected.unique(), [value], rtol=1e-5)


def test_every_choice_is_made_from_fewer_test_examples_too(selecting):
    found = table(selecting, "stability")
    assert set(found.method) == {"influence", "trak"}
    assert set(found[found.method == "trak"].proj_dim) == {4, 8}
    for (method, size), each in found[found.indicator == 1].groupby(["method", "ensemble_size"]):
        (path,) = (selecting.folder / f"results/scores/digits_mlp/independent/{method}").glob("*/selection.json")
        chosen = json.loads(path.read_text())["chosen"]
        for point, some in each.groupby("point"):
            name = f"ensemble_size={size}," + (f"proj_dim={point[-1]}" if method == "trak" else "relative=False")
            value = chosen[name]["select"]["damping"]
            np.testing.assert_allclose(some.of_all, np.nan if value is None else value, rtol=1e-5)


def test_their_jobs_take_no_more_memory_than_was_estimated(selecting, monkeypatch):
    monkeypatch.chdir(selecting.folder)
    plan = study.plan_of(Path())
    for job in plan.jobs.values():
        if job.rule in ("choose", "mechanism", "stability"):
            taken = provenance.read(Path(job.made))["cost"]["peak_mib"] * 2**20 / 10**6
            assert taken <= resources.megabytes(job, plan.registry) <= 3 * taken + 400, job.stem


def planned(**methods) -> set[str]:
    """The rules of the plan of a tiny config with other methods."""
    return {job.rule for job in study.plan(ROOT, yaml.safe_load(TINY) | {"methods": methods}).jobs.values()}


def test_only_methods_whose_damping_a_rule_chooses_have_such_jobs():
    assert planned(influence={"damping": 0.1}).isdisjoint({"choose", "mechanism", "stability"})
    assert planned(influence={"damping": [0.1, "select"]}) >= {"choose", "mechanism", "stability"}
    assert "mechanism" not in planned(logra={"damping": [0.1, "select"], "rank": 4})  # it has no `powers`
    assert "mechanism" not in planned(influence={"damping": [0, "select"]})  # and this no damping to look at


def test_a_figure_of_the_mechanism_needs_subsets():
    config = yaml.safe_load(TINY) | {"methods": {"influence": {"damping": [0.1, "select"]}}}
    config |= {"run": {"ground_truth": ["leave_one_out"], "figures": ["mechanism"]}}
    with pytest.raises(ConfigError, match="'mechanism' has nothing to show; it takes a method with a damping that"):
        study.plan(ROOT, config)
