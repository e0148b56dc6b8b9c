"""Mislabelled examples: the AUC is sklearn's, flipped labels are found, and only label noise makes jobs."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, TINY, Project, itself, toy_split, trained_members
from sklearn.metrics import roc_auc_score

from attriflow import mislabel, provenance, resources, study
from attriflow.config import ConfigError
from attriflow.registry import Registry

pytestmark = pytest.mark.slow

REGISTRY = Registry()
NOISY = copy.deepcopy(yaml.safe_load(TINY))
NOISY["datasets"]["digits"]["label_noise"] = {"fraction": 0.1}
NOISY["methods"] = {"grad_dot": None, "influence": {"damping": [0.01, 0.1, "mean_mode"]}}


def changed(config: dict, **values) -> dict:
    """A copy of a config with other top-level values."""
    return copy.deepcopy(config) | values


def numbers(n: int = 30, count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Suspicions (n,) with ties, and which are flipped, (n,)."""
    random = np.random.default_rng(0)
    wrong = np.zeros(n, bool)
    wrong[random.permutation(n)[:count]] = True
    return np.round(random.standard_normal(n) + wrong, 1), wrong


def detected(suspicion: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    return mislabel.detection(suspicion, wrong, 0.95)


@pytest.fixture(scope="module")
def noisy_split():
    """The toy problem, with 12 of its 120 labels moved to the next class."""
    split = toy_split(n=120)
    labels = split.train_y.copy()
    labels[::10] = (labels[::10] + 1) % split.classes
    return replace(split, train_y=labels)


@pytest.fixture(scope="module")
def noisy_members(noisy_split, build):
    return trained_members(noisy_split, build, 2)


def test_the_auc_is_that_of_sklearn_with_ties_counted_half():
    suspicion, wrong = numbers()
    assert detected(suspicion, wrong)["auc"] == pytest.approx(roc_auc_score(wrong, suspicion), abs=1e-12)
    assert detected(np.full(30, 0.1), wrong)["auc"] == 0.5
    assert detected(-suspicion, wrong)["auc"] == pytest.approx(1 - detected(suspicion, wrong)["auc"], abs=1e-12)


def test_the_interval_is_about_as_wide_as_the_auc_varies():
    random, widths, found = np.random.default_rng(1), [], []
    wrong = np.arange(200) < 40
    for _ in range(200):
        each = detected(random.standard_normal(200) + wrong, wrong)
        widths.append(each["high"] - each["low"])
        found.append(each["auc"])
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(found), rel=0.15)


def test_the_order_of_the_examples_does_not_matter():
    suspicion, wrong = numbers()
    order = np.random.default_rng(2).permutation(30)
    assert detected(suspicion[order], wrong[order]) == pytest.approx(detected(suspicion, wrong))


def test_labels_that_are_told_apart_without_an_error_have_an_interval_all_the_same():
    wrong = np.arange(100) < 5
    found = detected(wrong * 1.0, wrong)
    assert found["auc"] == found["high"] == 1
    assert 0.6 < found["low"] < 0.95
    more = detected(np.arange(1000) < 50, np.arange(1000) < 50)
    assert found["low"] < more["low"] < 1


def test_one_flipped_example_is_enough():
    suspicion, wrong = numbers(count=1)
    found = detected(suspicion, wrong)
    assert 0 <= found["low"] <= found["auc"] <= found["high"] <= 1


def test_labels_of_which_none_or_all_are_flipped_are_refused(split):
    with pytest.raises(ValueError, match="0 of 40 training labels are flipped; an AUC needs flipped ones and others"):
        mislabel.flipped(split)
    with pytest.raises(ValueError, match="40 of 40 training labels are flipped"):
        mislabel.flipped(replace(split, train_y=split.train_y + 1))


def test_suspicions_that_are_not_finite_or_of_another_length_are_refused():
    suspicion, wrong = numbers()
    with pytest.raises(ValueError, match="suspicions have shape"):
        detected(suspicion[1:], wrong)
    suspicion[3] = np.nan
    with pytest.raises(ValueError, match=r"suspicions are not finite at index \(3,\)"):
        detected(suspicion, wrong)


POINTS = {
    **{name: {"damping": 0.01} for name in ("datainf", "ekfac", "influence", "logra")},
    "trak": {"damping": 0.1, "proj_dim": 64},
    "unrolled": {"steps": 20, "learning_rate": 0.01},
}
# fitted to the model's own probabilities, representer points see a flipped label once the model has fitted it
COSTLY = {"trak": {"proj_dim": 64}, "logra": {"rank": 4}, "rps": {"targets": "labels"}}
FINDERS = [kind for kind in REGISTRY.kinds("scores") if "self_influence" in REGISTRY.functions("scores", kind)]


@pytest.mark.parametrize("method", FINDERS)
def test_high_self_influence_points_at_flipped_labels(noisy_members, noisy_split, method):
    module = REGISTRY.load("scores", method)
    prepared = [module.prepare(member, itself(noisy_split), **COSTLY.get(method, {})) for member in noisy_members]
    wrong = mislabel.flipped(noisy_split)
    *_, suspicion = module.self_influence(prepared, **POINTS.get(method, {}))
    found = detected(suspicion, wrong)
    assert (found["flipped"], found["n"]) == (12, 120)
    assert found["low"] > 0.6


def test_the_training_loss_points_at_flipped_labels(noisy_members, noisy_split):
    wrong = mislabel.flipped(noisy_split)
    for member in noisy_members:
        losses = mislabel.losses(member, noisy_split, "last")
        probabilities = np.exp(-losses)
        assert ((probabilities > 0) & (probabilities < 1)).all()
        assert detected(losses, wrong)["low"] > 0.7


# --- in the pipeline -----------------------------------------------------------------------------------------

PLACE = "evaluation/digits_mlp/independent"
JOBS = {
    f"{PLACE}/grad_dot/epoch=last+parameters=all+target=loss/mislabel",
    f"{PLACE}/influence/curvature=fisher+epoch=last+parameters=all+target=loss/mislabel",
    f"{PLACE}/mislabel_baseline",
    "evaluation/mislabel",
    "figures/mislabel",
}


def stems(config: dict) -> set[str]:
    """The jobs of a plan that are about flipped labels."""
    return {stem for stem in study.plan(ROOT, config).jobs if "mislabel" in stem}


def test_only_a_setting_with_label_noise_has_jobs():
    assert stems(yaml.safe_load(TINY)) == set()
    assert stems(NOISY) == JOBS


def test_a_method_without_self_influence_has_no_job():
    assert stems(changed(NOISY, methods={"random": None, "knn_shapley": {"neighbours": 5}})) == {
        f"{PLACE}/mislabel_baseline", "evaluation/mislabel", "figures/mislabel",
    }  # fmt: skip


def test_only_hyperparameters_that_self_influence_takes_vary():
    swept = {"damping": [0.01, 0.1], "relatif": ["none", "loss"]}
    methods = {"influence": swept, "tracin": {"normalise": [False, True]}}
    jobs = study.plan(ROOT, changed(NOISY, methods=methods)).jobs
    points = {job.settings["method"]: job.settings["cheap"] for job in jobs.values() if job.rule == "mislabel"}
    found = [{"damping": damping, "relative": False} for damping in (0.01, 0.1)]
    assert points == {"influence": found, "tracin": [{"checkpoints": "all"}]}


def test_the_baseline_has_every_ensemble_size_that_a_method_has():
    ensembles = {"independent": {"count": 4, "sizes": [4]}}
    methods = {"grad_dot": None, "influence": {"damping": 1, "only": {"members": 3}}}
    config = changed(NOISY, ensembles=ensembles, methods=methods)
    assert study.plan(ROOT, config).jobs[f"{PLACE}/mislabel_baseline"].settings["sizes"] == [3, 4]


def test_only_evaluations_are_told_how_many_numbers_to_keep():
    jobs = study.plan(ROOT, NOISY).jobs.values()
    assert {job.rule for job in jobs if "resamples" in job.settings} == {"evaluate"}
    assert {"evaluate", "mislabel", "mislabel_baseline"} <= {job.rule for job in jobs if "confidence" in job.settings}


def test_a_figure_without_its_table_is_refused():
    with pytest.raises(ConfigError, match=r"run.figures: 'mislabel' has nothing to show; it takes a setting"):
        study.plan(ROOT, yaml.safe_load(TINY) | {"run": {"figures": ["mislabel"]}})
    assert "figures/mislabel" in stems(changed(NOISY, run={"figures": ["mislabel"]}))


@pytest.mark.parametrize(("fraction", "count"), [(0.001, 0), (0.999, 60)])
def test_noise_that_leaves_nothing_to_find_or_to_tell_it_from_is_refused_early(fraction, count):
    noisy = copy.deepcopy(NOISY)
    noisy["datasets"]["digits"]["label_noise"]["fraction"] = fraction
    message = f"datasets.digits.label_noise.fraction: {fraction} of 60 training labels is {count}; at least one must be"
    with pytest.raises(ConfigError, match=message):
        study.plan(ROOT, noisy)


@pytest.fixture(scope="module")
def noisy_project(tmp_path_factory) -> Project:
    """A tiny project with label noise, after its first run."""
    project = Project.create(tmp_path_factory.mktemp("noisy") / "project")
    config = changed(NOISY, ground_truth={"subsets": {"count": 6, "repeats": 1, "block": 6}})
    (project.folder / "config.yaml").write_text(yaml.safe_dump(config | {"run": {"figures": ["mislabel"]}}))
    project.snakemake()
    return project


def test_a_run_with_label_noise_ends_in_one_tidy_table_and_a_figure(noisy_project):
    table = pd.read_csv(noisy_project.folder / "results/evaluation/mislabel.csv")
    assert list(table.columns) == [
        "setting", "ensemble", "ensemble_size", "models", "per_model", "method", "epoch", "parameters", "target",
        "curvature", "damping", "relative", "damping_rule", "auc", "low", "high", "flipped", "n", "confidence",
    ]  # fmt: skip
    assert table.groupby("method").size().to_dict() == {"grad_dot": 2, "influence": 6, "loss": 4}
    ruled = table[table.damping_rule == "mean_mode"]
    assert len(ruled) == 2
    assert (ruled.damping > 0).all()
    assert set(table.flipped) == {6}
    assert (table.low <= table.auc).all()
    assert (table.auc <= table.high).all()
    for kind in ("pdf", "png"):
        assert (noisy_project.folder / f"results/figures/mislabel.{kind}").stat().st_size > 0


def test_a_second_run_does_nothing(noisy_project):
    assert noisy_project.planned() == set()


def test_no_job_takes_more_memory_than_was_estimated(noisy_project, monkeypatch):
    monkeypatch.chdir(noisy_project.folder)
    plan = study.plan_of(Path())
    for job in plan.jobs.values():
        if job.rule.startswith("mislabel"):
            taken = provenance.read(Path(job.made))["cost"]["peak_mib"] * 2**20 / 10**6
            assert taken <= resources.megabytes(job, plan.registry) <= 3 * taken + 400, job.stem
