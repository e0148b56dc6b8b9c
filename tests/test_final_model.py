"""Studies of a final model: what the config allows, what is planned, and a whole small run."""

import copy

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, TINY, Project

from attriflow import study
from attriflow.config import ConfigError
from attriflow.ensembles import final_model, independent
from attriflow.io import load_arrays

pytestmark = pytest.mark.slow

FURTHER = {
    "kind": "further_training", "examples": [0, 7, 12, 30, 59], "seeds": 2, "learning_rate": 0.01, "batch_size": 16,
    "amounts": [0.2, 1, 2], "block": 4,
}  # fmt: skip
FINAL = {
    "settings": {"digits_mlp": {"access": "final_model", "checkpoints": []}},
    "ground_truth": {"further": FURTHER},
    "ensembles": {"final_0": {"kind": "final_model"}, "final_1": {"kind": "final_model", "model": 1}},
    "run": {
        "ground_truth": ["further"], "ensembles": ["final_0", "final_1"], "methods": ["grad_dot", "influence"],
    },
}  # fmt: skip


def config(**changes) -> dict:
    """The tiny config as a study of a final model, with changes merged in, `ground_truth__further={...}`."""
    from attriflow.config import merge

    full = merge(yaml.safe_load(TINY), FINAL)
    for place, value in changes.items():
        *keys, last = place.split("__")
        inside = full
        for key in keys:
            inside = inside[key]
        inside[last] = merge(inside[last], value) if isinstance(inside.get(last), dict) else copy.deepcopy(value)
    return full


def planned(**changes):
    return study.plan(ROOT, config(**changes))


WRONG = {
    "left out beyond the data": (
        {"ground_truth__further": {"examples": [3, 60]}},
        "ground_truth.further.examples: [60] lies beyond the 60 training examples",
    ),
    "amounts in another order": (
        {"ground_truth__further": {"amounts": [1, 0.5]}},
        "ground_truth.further.amounts: at least one, and ascending, not [1, 0.5] (for settings.digits_mlp)",
    ),
    "amount of zero": (
        {"ground_truth__further": {"amounts": [0, 1]}},
        "ground_truth.further.amounts: must be a list, each a number above 0, not [0, 1]",
    ),
    "amounts of the same step": (
        {"ground_truth__further": {"amounts": [0.1, 0.2]}},
        "ground_truth.further.amounts: [0.1] epochs round to the same step as the next; an epoch has 4 steps",
    ),
    "momentum of adam": (
        {"ground_truth__further": {"optimiser": "adam", "momentum": 0.9}},
        "ground_truth.further.momentum: only sgd takes it; adam must leave it 0",
    ),
    "unknown estimator": (
        {"ground_truth__further": {"estimator": "jackknife"}},
        "ground_truth.further.estimator: must be one of ['deletion', 'subtraction'], not 'jackknife'",
    ),
    "unknown hyperparameter": (
        {"ground_truth__further": {"lr": 0.1}},
        "ground_truth.further.lr: further_training takes ['amounts', 'batch_size', 'dropout', 'estimator', 'examples',",
    ),
    "one example": (
        {"ground_truth__further": {"examples": 1}},
        "ground_truth.further.examples: 1 left out; scores are centred on their mean, so at least 2",
    ),
    "a truth of an unknown setting": (
        {"ground_truth__further": {"only": {"settings": ["cifar"]}}},
        "ground_truth.further.only.settings: unknown 'cifar'; known: ['digits_mlp']",
    ),
    "an ensemble of an unknown setting": (
        {"ensembles__final_0": {"only": {"settings": ["cifar"]}}},
        "ensembles.final_0.only.settings: unknown 'cifar'",
    ),
    "a negative model": (
        {"ensembles__final_1": {"model": -1}},
        "ensembles.final_1.model: must be a whole number of at least 0, not -1",
    ),
    "unknown access": (
        {"settings__digits_mlp": {"access": "weights"}},
        "settings.digits_mlp.access: must be one of ['training', 'final_model'], not 'weights'",
    ),
    "checkpoints of a final model": (
        {"settings__digits_mlp": {"checkpoints": [2]}},
        "settings.digits_mlp.checkpoints: access is final_model, so nothing but the last may be kept",
    ),
    "a method that looks at the training": (
        {"methods__tracin": {}, "run__methods": ["grad_dot", "tracin"]},
        "methods.tracin: tracin looks at the training, and settings.digits_mlp gives access to the final model alone",
    ),
    "an epoch before the last": (
        {"methods__influence": {"epoch": 2}},
        "methods.influence.epoch: settings.digits_mlp does not keep epoch 2; its checkpoints: ['last']",
    ),
    "several models": (
        {"run__ensembles": ["final_0", "independent"]},
        "ensembles.independent: it has 2 models, and settings.digits_mlp gives access to one final model",
    ),
    "a figure without retraining": (
        {"run__figures": ["lds_by_method"]},
        "run.figures: 'lds_by_method' has nothing to show; it takes a ground truth of the kind 'subsets'",
    ),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_config_is_refused(changes, message):
    with pytest.raises(ConfigError) as caught:
        planned(**changes)
    assert any(line.startswith(message) for line in caught.value.errors), caught.value.errors


@pytest.mark.parametrize("kind", ["tracin", "dvemb", "datamodel"])
def test_methods_that_need_the_training_say_so(kind):
    changes = {f"methods__{kind}": {"penalty": 0.1} if kind == "datamodel" else {}, "run__methods": [kind]}
    with pytest.raises(ConfigError, match="looks at the training"):
        planned(**changes)


# --- the plan ------------------------------------------------------------------------------------------------


def test_a_final_model_is_a_member_of_an_independent_ensemble():
    assert final_model.members(model=3) == independent.members(count=4)[3:]


def test_nothing_of_retraining_is_planned_where_nothing_is_retrained():
    plan = planned()
    assert {job.rule for job in plan.jobs.values()} == {
        "dataset", "train", "ensemble", "prepare", "score", "further", "gather", "evaluate_further", "convergence",
        "agree", "summarise", "draw",
    }  # fmt: skip
    assert {job.settings["figure"] for job in plan.room("figures")} == {
        "further_training", "further_damping", "further_seeds", "further_profile", "further_convergence",
        "further_agreement",
    }  # fmt: skip


def test_scores_of_a_final_model_are_not_told_of_its_training():
    for job in planned().jobs.values():
        if job.rule == "prepare":
            assert job.settings["recipe"] is None
            assert [member["run"] for member in job.settings["members"]] == [None]
    told = planned(settings__digits_mlp={"access": "training"})
    assert all(job.settings["members"][0]["run"] for job in told.jobs.values() if job.rule == "prepare")


def test_a_truth_belongs_to_its_final_model():
    plan = planned()
    stems = [job.stem for job in plan.jobs.values() if job.rule == "gather"]
    assert stems == ["ground_truth/digits_mlp/further/full-0", "ground_truth/digits_mlp/further/full-1"]
    blocks = [job for job in plan.jobs.values() if job.rule == "further"]
    assert len(blocks) == 2 * 2 * 2  # models, seeds, blocks of 4 of 6 runs
    used = {job.stem: job.inputs["model"][0].job.stem for job in blocks}
    assert all(model.rsplit("/", 1)[1] == block.split("/")[-2] for block, model in used.items())


def test_more_seeds_leave_finished_blocks_as_they_are():
    few, many = planned(), planned(ground_truth__further={"seeds": 5})
    blocks = [job for job in few.jobs.values() if job.rule == "further"]
    assert all(many.jobs[job.stem].digest == job.digest for job in blocks)


@pytest.mark.parametrize("said", ["only", "skip"])
def test_truths_and_ensembles_run_where_they_are_allowed(said):
    def of(setting, other):
        return {"only": {"settings": [setting]}} if said == "only" else {"skip": [other]}

    settings = {"digits_other": yaml.safe_load(TINY)["settings"]["digits_mlp"]}
    here, there = of("digits_mlp", "digits_other"), of("digits_other", "digits_mlp")
    plan = planned(
        settings=settings,
        run={
            "ground_truth": ["further", "subsets"],
            "ensembles": ["final_0", "independent"],
            "figures": ["lds_by_method"],
        },
        ensembles={"independent": there, "final_0": here},
        ground_truth={"further": here, "subsets": there},
    )  # fmt: skip
    by_rule = {rule: [job.stem for job in plan.jobs.values() if job.rule == rule] for rule in ("gather", "evaluate")}
    assert by_rule["gather"] == ["ground_truth/digits_mlp/further/full-0"]
    assert by_rule["evaluate"]
    assert all(stem.startswith("evaluation/digits_other/independent/") for stem in by_rule["evaluate"])


def test_retraining_is_compared_where_it_leaves_out_the_same_examples():
    def compared(examples):
        run = FINAL["run"] | {"ground_truth": ["further", "leave_one_out"]}
        plan = planned(run=run, ground_truth__leave_one_out={"examples": examples})
        (job,) = (job for job in plan.jobs.values() if job.stem == "evaluation/digits_mlp/final_0/agreement")
        return [truth["truth"] for truth in job.settings["retrained"]]

    assert compared(FURTHER["examples"]) == ["leave_one_out"]
    assert compared([0, 7, 12, 30, 59, 3]) == ["leave_one_out"]
    assert compared([0, 7, 12, 30]) == []


# --- a whole run ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Project:
    """A finished project: two final models, further training beside retraining of the same examples."""
    project = Project.create(tmp_path_factory.mktemp("final") / "project")
    changes = {
        "run": FINAL["run"] | {"ground_truth": ["further", "leave_one_out"]},
        "ground_truth__leave_one_out": {"examples": FURTHER["examples"]},
    }
    (project.folder / "config.yaml").write_text(yaml.safe_dump(config(**changes)))
    project.snakemake()
    return project


def table(project: Project, name: str) -> pd.DataFrame:
    return pd.read_csv(project.folder / "results/evaluation" / f"{name}.csv")


def test_a_second_run_does_nothing(run):
    assert run.planned() == set()


def test_tables_are_tidy_and_whole(run):
    further = table(run, "further")
    points = 3  # of grad_dot and influence
    assert len(further) == 2 * points * 2 * 3 * (3 + 1)  # models, adjustments, metrics, amounts and retraining
    assert set(further.estimator) == {"deletion", "retraining"}
    assert set(further.model_seed) == {0, 1}
    assert further[further.estimator == "deletion"].steps.unique().tolist() == [1, 4, 8]
    assert further["mean"].abs().max() <= 1
    key = ["ensemble", "method", "damping", "truth", "adjustment", "epochs", "metric"]
    assert not further.duplicated(key).any()
    convergence = table(run, "further.convergence")
    assert convergence.ensemble.tolist() == ["final_0", "final_1"]
    assert (convergence[["lamb", "gradient_norm", "train_loss", "test_loss"]] > 0).all().all()
    assert set(table(run, "further.seeds").seeds_averaged) == {1, 2}
    assert set(table(run, "further.profile").method) == {"grad_dot", "influence", "further_training"}
    truths = table(run, "further.truths")
    assert set(zip(truths.estimator, truths.other_estimator, strict=True)) == {
        ("deletion", "deletion"), ("deletion", "retraining"),
    }  # fmt: skip


def test_gold_scores_of_the_table_are_those_of_the_truth(run):
    truth = load_arrays(run.folder / "results/ground_truth/digits_mlp/further/full-1.npz")
    assert truth["loss"].shape == (5, 2, 3, 12)
    assert truth["full"].shape == (2, 3, 12)
    assert truth["loss"].dtype == np.float64
    centred = (truth["loss"] - truth["loss"].mean(0)).mean(1)[:, 2]
    scores = load_arrays(next((run.folder / "results/scores/digits_mlp/final_1/grad_dot").glob("*.npz")))["size=1"]
    scores = scores[truth["left_out"]].astype(float)
    cosines = (centred * scores).sum(0) / np.linalg.norm(centred, axis=0) / np.linalg.norm(scores, axis=0)
    further = table(run, "further")
    row = further[
        (further.ensemble == "final_1") & (further.method == "grad_dot") & (further.epochs == 2)
        & (further.metric == "cosine") & (further.adjustment == "centred")
    ]  # fmt: skip
    assert row["mean"].tolist() == pytest.approx([cosines.mean()], rel=1e-5)


def test_a_lost_block_is_made_again_and_no_other(run, tmp_path):
    project = run.copy(tmp_path / "project")
    block = project.folder / "results/ground_truth/digits_mlp/further/full-1/1.0"
    before = load_arrays(block.with_name("1.0.npz"))["loss"].tobytes()
    for ending in ("npz", "made.json"):
        block.with_name(f"1.0.{ending}").unlink()
    truth = "ground_truth/digits_mlp/further/full-1"
    for ending in ("npz", "made.json"):  # as after a kill: what needs it was not there yet
        (project.folder / f"results/{truth}.{ending}").unlink()
    assert project.planned("ground_truth") == {truth, f"{truth}/1.0"}
    project.snakemake("ground_truth")
    assert load_arrays(block.with_name("1.0.npz"))["loss"].tobytes() == before


def test_another_learning_rate_reruns_no_retraining_and_no_scores(run, tmp_path):
    project = run.copy(tmp_path / "project")
    project.edit("config.yaml", "learning_rate: 0.01\n", "learning_rate: 0.02\n")
    again = project.planned()
    assert any(stem.startswith("ground_truth/digits_mlp/further/") for stem in again)
    assert not any(stem.startswith(("models", "scores", "ground_truth/digits_mlp/leave_one_out")) for stem in again)


def test_published_tables_of_final_models_hold_the_centred_scores(run, tmp_path):
    project = run.copy(tmp_path / "project")
    project.run("git", "init", "-q")
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    project.run(*git, "commit", "-q", "--allow-empty", "-m", "none")
    project.run("python", "workflow/commands/publish.py", "default")
    every = table(run, "further")
    (setting,) = every.setting.unique()
    published = pd.read_csv(project.folder / f"docs/results/final_model/{setting}.csv")
    assert list(published) == ["method", "hyperparameters", "truth", "model_seed", "epochs", "metric", "mean", "sem"]
    assert len(published) == (every.adjustment == "centred").sum() > 0


def test_a_study_must_not_take_the_folder_of_the_tables_of_final_models(run, tmp_path):
    project = run.copy(tmp_path / "project")
    (project.folder / "studies").mkdir()
    (project.folder / "studies/final_model.yaml").write_text("study: final_model\n")
    project.snakemake("--configfile", "studies/final_model.yaml")
    done = project.run("python", "workflow/commands/publish.py", "final_model", check=False)
    assert done.returncode == 1 and "give this one another name than 'final_model'" in done.stderr


def test_the_report_says_what_there_is(run):
    said = run.run("python", "workflow/commands/report.py", "default").stdout
    assert "no ground truth of subsets" in said
    assert "grad_dot" in said
    assert "results/evaluation/further.csv" in said


def test_no_job_takes_more_memory_than_was_estimated(run, monkeypatch):
    from pathlib import Path

    from attriflow import provenance, resources

    monkeypatch.chdir(run.folder)
    plan = study.plan_of(Path())
    for job in plan.jobs.values():
        if job.rule in ("further", "gather", "evaluate_further", "agree", "convergence"):
            taken = provenance.read(Path(job.made))["cost"]["peak_mib"] * 2**20 / 10**6
            assert taken <= resources.megabytes(job, plan.registry) <= 3 * taken + 400, job.stem
