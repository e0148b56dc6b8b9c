"""Dampings chosen by rules, in scores, tables and the pipeline."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import Project
from test_config import errors

from attriflow import selection
from attriflow.hyperparameters import RULES
from attriflow.scores import influence
from attriflow.scoring import scored


@pytest.fixture(scope="module")
def prepared(members, split):
    return [influence.prepare(member, split) for member in members]


def first(prepared):
    """The first so many prepared members."""
    return lambda count: iter(prepared[:count])


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
    for size, found, damping in scored(influence.score, first(prepared), point, [1, 2], chosen(prepared)):
        assert damping == dampings[f"ensemble_size={size}"][rule]["damping"]
        expected = list(influence.score(prepared[:size], damping=damping))[-1]
        np.testing.assert_array_equal(found, expected)


def test_where_a_rule_chooses_nothing_there_are_no_scores(prepared):
    nothing = chosen(prepared)
    nothing["chosen"]["ensemble_size=1"]["select"]["damping"] = None
    found = scored(influence.score, first(prepared), {"damping": "select"}, [1, 2], nothing)
    assert [size for size, _, _ in found] == [2]


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
    project.snakemake("evaluation")
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
