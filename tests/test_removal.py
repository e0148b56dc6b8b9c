"""The removal check: what is removed and compared, what that changes, and the jobs of a config that asks for it."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import RECIPE, ROOT, TINY, toy_split

from attriflow import engine, provenance, removal, resources
from attriflow.config import ConfigError, check
from attriflow.data import Split, load_split
from attriflow.figures import removal as figure
from attriflow.models import mlp, transformer
from attriflow.study import plan, plan_of

pytestmark = pytest.mark.slow

SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
N, TESTS = 40, 5
SETS = [(), (1, 4), (2, 3, 7)]


@pytest.fixture(scope="module")
def trained(split, build) -> dict[str, np.ndarray]:
    """Outputs without each of SETS, two repeats."""
    return removal.outputs(build, split, removal.runs(SETS, 2), RECIPE, 0, tests=TESTS)


# --- what is removed -----------------------------------------------------------------------------------------


def test_each_test_example_has_the_examples_of_its_highest_scores_and_all_have_those_of_the_highest_mean():
    scores = np.array([[3.0, 0.0], [0.0, 2.0], [2.0, 1.9], [-9.0, -9.0]])
    first, second, union = removal.named(scores, [1], {"method": "m"})
    assert (first.sets, first.tests, first.described["scope"]) == (((0,),), (0,), "test")
    assert (second.sets, second.tests) == (((1,),), (1,))
    assert (union.sets, union.tests, union.described["scope"]) == (((2,),), (0, 1), "union")
    assert union.described == {"method": "m", "count": 1, "scope": "union"}


def test_more_examples_are_the_same_and_others():
    scores = np.random.default_rng(0).standard_normal((N, TESTS))
    for make in (
        lambda counts: removal.named(scores, counts, {}),
        lambda counts: removal.drawn(N, TESTS, counts, 0, {}),
    ):
        few, many = list(make([3])), list(make([7]))
        for one, other in zip(few, many, strict=True):
            for own, larger in zip(one.sets, other.sets, strict=True):
                assert (len(own), len(larger)) == (3, 7)
                assert set(own) < set(larger)
        assert [each.sets for each in make([3, 7])] == [each.sets for each in few + many]


def test_as_many_random_sets_are_drawn_as_there_are_test_examples_and_more_leave_the_others_as_they_were():
    own, union = removal.drawn(N, TESTS, [4], 0, {})
    assert own.sets == union.sets
    assert len(set(own.sets)) == TESTS
    assert next(removal.drawn(N, TESTS + 3, [4], 0, {})).sets[:TESTS] == own.sets
    assert next(removal.drawn(N, TESTS, [4], 1, {})).sets != own.sets


def test_the_same_examples_are_trained_without_once():
    scores = np.random.default_rng(0).standard_normal((N, TESTS))
    removals = [*removal.named(scores, [3], {"choice": "a"}), *removal.named(2 * scores, [3], {"choice": "b"})]
    sets = removal.distinct(removals)
    assert sets[0] == ()
    assert len(sets) == len(set(sets)) <= 1 + TESTS + 1


def test_repeats_differ_in_the_stream_and_everything_of_a_repeat_shares_it():
    runs = removal.runs(SETS, 2)
    assert [run.stream for run in runs] == ["removal/0"] * 3 + ["removal/1"] * 3
    assert [run.left_out for run in runs] == SETS * 2


def table(*rows) -> pd.DataFrame:
    names = ["method", "point", "asked", "damping", "value"]
    found = pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows])
    rules = [asked if isinstance(asked, str) else "" for asked in found.asked]
    return found.assign(damping_rule=rules, metric="lds", output="loss")


def test_a_choice_takes_the_best_of_the_other_hyperparameters_and_best_the_best_of_the_grid():
    # the rule's points carry its name in the config, and the number that it found in the table
    evaluated = table(
        ("a", "size=5,damping=0.1,k=8", 0.1, 0.1, 0.5), ("a", "size=5,damping=0.1,k=16", 0.1, 0.1, 0.6),
        ("a", "size=5,damping=select,k=8", "select", 0.032, 0.95),
        ("a", "size=5,damping=select,k=16", "select", 0.031, 0.7), ("a", "size=5,damping=1.0,k=16", 1.0, 1.0, 0.9),
        ("b", "size=5,damping=0.1", 0.1, 0.1, 0.3), ("b", "size=5,damping=select", "select", 0.2, 0.2),
    )  # fmt: skip
    other = evaluated.assign(value=2.0)
    evaluated = pd.concat([evaluated, other.assign(output="margin"), other.assign(metric="leave_one_out")])
    found = removal.chosen(evaluated, [("default", 0.1), ("selected", "select"), ("oracle", "best")])
    assert found.set_index(["method", "choice"]).point.to_dict() == {
        ("a", "default"): "size=5,damping=0.1,k=16", ("b", "default"): "size=5,damping=0.1",
        ("a", "selected"): "size=5,damping=select,k=8", ("b", "selected"): "size=5,damping=select",
        ("a", "oracle"): "size=5,damping=1.0,k=16", ("b", "oracle"): "size=5,damping=0.1",
    }  # fmt: skip
    assert found.set_index(["method", "choice"]).damping["a", "selected"] == 0.032


def test_a_choice_that_a_method_was_not_measured_at_is_refused():
    evaluated = table(("a", "size=5,damping=select", "select", 0.1, 0.5), ("b", "size=5,damping=0.1", 0.1, 0.1, 0.3))
    with pytest.raises(ValueError, match=r"\['b'\] have no LDS at damping select, which 'selected' asks for"):
        removal.chosen(evaluated, [("selected", "select")])


# --- what it changes -----------------------------------------------------------------------------------------


def test_outputs_are_those_of_the_trained_models(trained, split, build):
    (stack,) = engine.train(build, split.train_x, split.train_y, removal.runs(SETS, 2), RECIPE, 0)
    expected = engine.measure(build, stack.weights[3], split.test_x[:TESTS], split.test_y[:TESTS])
    assert np.array_equal(trained["loss"], expected["loss"])
    # with three classes a positive margin suffices to be right, and is not needed
    assert trained["right"][trained["margin"] > 0].all()
    accuracy = engine.quality(build, stack.state(4, 3), split.test_x[:TESTS], split.test_y[:TESTS])["accuracy"]
    assert trained["right"][4].mean() == pytest.approx(accuracy)


@pytest.mark.parametrize("options", [{"stack": 1}, {"stack": 4}, {"stack": 2, "threads": 2}])
def test_stacks_and_threads_change_no_bit(trained, split, build, options):
    again = removal.outputs(build, split, removal.runs(SETS, 2), RECIPE, 0, tests=TESTS, **options)
    for name, values in trained.items():
        assert np.array_equal(again[name], values)


def test_changes_are_against_the_full_model_of_the_same_repeat():
    # two repeats of the full model and one set, two test examples
    loss = np.array([[1.0, 2.0], [1.5, 2.0], [3.0, 4.0], [3.1, 5.0]])
    right = np.array([[True, False], [False, True], [True, False], [True, False]])
    found = removal.changes({"loss": loss, "margin": -loss, "right": right}, 2)
    np.testing.assert_allclose(found["loss_change"], [[0, 0], [0.3, 0.5]])
    np.testing.assert_allclose(found["margin_change"], [[0, 0], [-0.3, -0.5]])
    np.testing.assert_array_equal(found["flipped"], [[0, np.nan], [0.5, np.nan]])


def test_sequences_are_measured_at_every_position():
    random = np.random.default_rng(0)
    x, y = (random.integers(0, 4, (26, 6)) for _ in range(2))
    split = Split(x[:20], y[:20], x[20:], y[20:], y[:20], np.arange(20), np.arange(6), np.float64(0), np.float64(1))
    build = partial(transformer.build, (6,), 4, width=8, layers=1)
    found = removal.outputs(build, split, removal.runs(SETS, 1), RECIPE, 0, tests=TESTS)
    assert found["right"].shape == (len(SETS), TESTS, 6)
    assert all(values.shape == (len(SETS), TESTS) for values in removal.changes(found, 1).values())


def test_flips_of_sequences_are_counted_by_position():
    right = np.array([[[True, True, False]], [[True, False, True]]])  # full and one set, one test example
    loss = np.zeros((2, 1))
    assert removal.changes({"loss": loss, "margin": loss, "right": right}, 1)["flipped"].tolist() == [[0], [0.5]]


def test_rows_hold_the_own_test_example_all_of_them_or_the_mean_of_the_random_sets():
    removals = [
        removal.Removal({"method": "m", "scope": "test"}, ((1,),), (1,)),
        removal.Removal({"method": "m", "scope": "union"}, ((2,),), (0, 1)),
        removal.Removal({"method": "random", "scope": "test"}, ((1,), (2,)), (0, 1)),
    ]
    values = np.array([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]])  # without (), (1,), (2,)
    rows = removal.table(removals, dict.fromkeys(removal.MEASURES, values))
    assert rows.test_index.tolist() == [1, 0, 1, 0, 1]
    assert rows.loss_change.tolist() == [2, 3, 4, 2, 3]


def test_the_summary_is_the_mean_over_test_examples_within_its_interval():
    rows = pd.DataFrame(
        {"method": "m", "damping": np.nan, "test_index": range(50), "loss_change": np.arange(50.0)}
        | {"margin_change": 1.0, "flipped": [1.0, 0.0] * 20 + [np.nan] * 10}
    )
    found = removal.summary(rows, confidence=0.95).set_index("measure")
    assert found.value.to_dict() == {"loss_change": 24.5, "margin_change": 1.0, "flipped": 0.5}
    assert found.test_examples.to_dict() == {"loss_change": 50, "margin_change": 50, "flipped": 40}
    half = 2.01 * np.arange(50).std(ddof=1) / np.sqrt(50)
    assert found.low["loss_change"] == pytest.approx(24.5 - half, abs=0.01)
    assert found.high["loss_change"] == pytest.approx(24.5 + half, abs=0.01)
    assert (found.low["margin_change"], found.high["margin_change"]) == (1, 1)
    assert (found.low["flipped"], found.high["flipped"]) == pytest.approx((0.35, 0.65), abs=0.01)


def test_scores_that_are_not_finite_name_no_examples():
    scores = np.zeros((5, 2))
    scores[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"scores of trak are not finite at index \(3, 1\)"):
        list(removal.named(scores, [2], {"method": "trak"}))


def test_nothing_to_flip_is_no_number():
    rows = pd.DataFrame({"method": ["m"], "test_index": 0, "loss_change": 1.0, "margin_change": 1.0, "flipped": np.nan})
    found = removal.summary(rows, confidence=0.9).set_index("measure")
    assert np.isnan(found.value["flipped"])
    assert found.test_examples["flipped"] == 0


def test_removing_what_helps_raises_the_loss_more_than_random_removal_and_what_hurts_does_not():
    """Few examples have the label of a test example near it: those help it."""
    split = toy_split(n=60, m=6)
    same = split.train_y[:, None] == split.test_y[None]
    distance = np.square(split.train_x[:, None] - split.test_x[None]).sum((2, 3, 4))
    scores = np.where(same, 100 - distance, distance - 100)  # (n, m)
    build = partial(mlp.build, (1, 4, 4), 3, hidden=[5], dropout=0.0)
    removals = [
        *removal.named(scores, [12], {"method": "helpful"}),
        *removal.named(-scores, [12], {"method": "harmful"}),
        *removal.drawn(60, 6, [12], 0, {}),
    ]
    runs = removal.runs(removal.distinct(removals), 2)
    changed = removal.changes(removal.outputs(build, split, runs, RECIPE | {"epochs": 10}, 0, tests=6), 2)
    means = removal.table(removals, changed).groupby(["method", "scope"]).loss_change.mean()
    assert means["helpful", "test"] > 2 * abs(means["random", "test"])
    assert means["helpful", "test"] > means["harmful", "test"]
    assert means["random", "test"] == means["random", "union"]


# --- the config ----------------------------------------------------------------------------------------------

REMOVAL = {
    "methods": ["influence", "trak"],
    "dampings": {"oracle": "best", "fixed": 0.1},
    "counts": [5, 10],
    "tests": 4,
    "repeats": 2,
}


def checked(changes: dict, **top) -> dict:
    return check(yaml.safe_load(TINY) | {"removal": REMOVAL | changes} | top, SCHEMA)


SETTING = "settings.digits_mlp"
WRONG = {
    "unknown method": ({"methods": ["lissa"]}, "removal.methods: unknown 'lissa'; known: ['grad_dot', 'influence'"),
    "method without damping": ({"methods": ["grad_dot"]}, "removal.methods: grad_dot takes no damping"),
    "damping not in the grid": (
        {"dampings": {"fixed": 0.01}},
        "removal.dampings.fixed: 0.01 is not among those of methods.trak: [0.1, 1.0]",
    ),
    "rule not in the grid": (
        {"dampings": {"selected": "select"}},
        "removal.dampings.selected: 'select' is not among those of methods.influence: [0.01, 0.1]",
    ),
    "more tests than there are": (
        {"tests": 13},
        f"removal.tests: 13 is more than the 12 test examples of {SETTING}",
    ),
    "nothing left": (
        {"counts": [5, 60]},
        f"removal.counts[1]: 60 of the 60 training examples of {SETTING} leaves none",
    ),
    "unknown ensemble": ({"ensemble": "dropout"}, "removal.ensemble: unknown 'dropout'; known: ['independent']"),
    "no repeats": ({"repeats": 0}, "removal.repeats: must be at least 1, not 0"),
    "unknown key": ({"count": 20}, "removal.count: unknown; known: ['counts'"),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_removal_section_is_refused(changes, message):
    with pytest.raises(ConfigError) as caught:
        checked(changes)
    assert any(line.startswith(message) for line in caught.value.errors), caught.value.errors


TWO = {"independent": {"count": 2}, "more": {"kind": "independent", "count": 2}}
DIGITS = yaml.safe_load(TINY)["settings"]["digits_mlp"]


def only(**where) -> dict:
    """A catalogue of one method that runs somewhere alone."""
    return {"trak": {"proj_dim": 4, "damping": 0.1, "only": where}}


UNMADE = {
    "no subsets": ({"run": {"ground_truth": ["leave_one_out"]}}, "the run needs a ground truth of kind 'subsets'"),
    "method that does not run": ({"run": {"methods": ["influence"]}}, "removal.methods: unknown 'trak'; known: ['infl"),
    "several ensembles": (
        {"ensembles": TWO},
        "removal.ensemble: name the one whose scores are taken; the run has ['independent', 'more']",
    ),
    "method without the ensemble": (
        {"ensembles": TWO, "run": {"ensembles": ["independent"]}, "methods": only(ensembles=["more"])},
        "removal.methods: trak does not score the ensemble 'independent'",
    ),
    "method without a setting": (
        {"settings": {"digits_mlp": DIGITS, "other": DIGITS}, "methods": only(settings=["other"])}
        | {"run": {"settings": ["digits_mlp"]}},
        "removal.methods: trak runs on no setting of the run",
    ),
}


@pytest.mark.parametrize(("top", "message"), UNMADE.values(), ids=UNMADE)
def test_what_the_run_does_not_make_is_refused(top, message):
    with pytest.raises(ConfigError) as caught:
        checked({"methods": ["trak"]}, **top)
    assert any(message in line for line in caught.value.errors), caught.value.errors


def test_a_figure_of_the_removal_is_drawn_only_where_there_is_one():
    config = yaml.safe_load(TINY)
    assert "figures/removal" not in plan(ROOT, config).jobs
    with pytest.raises(ConfigError, match=r"run.figures: 'removal' has nothing to show; it takes a section `removal`"):
        plan(ROOT, config | {"run": {"figures": ["removal"]}})
    jobs = plan(ROOT, config | {"removal": REMOVAL}).jobs
    assert jobs["figures/removal"].inputs["removal"][0].job is jobs["evaluation/removal/digits_mlp"]


def test_dampings_have_one_order_however_they_were_merged():
    dampings = {"oracle": "best", "large": 1.0, "small": 0.1}
    given = {"methods": ["trak"], "dampings": dampings}
    assert list(checked(given)["removal"]["dampings"]) == ["small", "large", "oracle"]
    swapped = {"methods": ["trak"], "dampings": dict(reversed(dampings.items()))}
    specs = [
        plan(ROOT, yaml.safe_load(TINY) | {"removal": REMOVAL | each}).jobs["evaluation/removal/digits_mlp"].text
        for each in (given, swapped)
    ]
    assert specs[0] == specs[1]


def test_no_run_of_the_plan_has_a_stream_of_the_removal():
    jobs = plan(ROOT, yaml.safe_load(TINY) | {"removal": REMOVAL}).jobs.values()
    streams = {job.settings["run"]["stream"] for job in jobs if job.rule == "train"}
    streams |= {run["stream"] for job in jobs if job.rule == "retrain" for run in job.settings["runs"]}
    assert not streams & {run.stream for run in removal.runs([()], 9)}


# --- the run -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory):
    """The finished tiny project, to whose config a removal was added."""
    project = finished.copy(tmp_path_factory.mktemp("removal") / "project")
    project.edit("config.yaml", "evaluation: ", yaml.safe_dump({"removal": REMOVAL}) + "evaluation: ")
    assert project.planned() == {"evaluation/removal/digits_mlp", "figures/removal"}
    project.snakemake()
    return project


def test_a_removal_runs_from_scores_to_a_figure_and_a_second_run_does_nothing(project):
    assert project.planned() == set()
    assert (project.folder / "results/figures/removal.png").stat().st_size > 0
    rows = pd.read_csv(project.folder / "results/evaluation/removal/digits_mlp.changes.csv")
    assert list(rows.columns) == [
        "setting", "ensemble", "ensemble_size", "method", "choice", "damping", "point", "count", "scope",
        "test_index", "loss_change", "margin_change", "flipped", "repeats",
    ]  # fmt: skip
    assert len(rows) == 2 * (2 * 2 + 1) * (4 + 4)  # counts, choices and random, own and union
    assert set(rows.ensemble_size.dropna()) == {2}
    drawn = load_split(project.folder / "results/data/digits.npz").test_index[:4]
    assert set(rows.test_index) == set(drawn)  # the user's rows
    assert np.isfinite(rows.loss_change).all()
    summary = pd.read_csv(project.folder / "results/evaluation/removal/digits_mlp.summary.csv")
    assert len(summary) == 2 * (2 * 2 + 1) * 2 * 3
    loss = summary[summary.measure == "loss_change"].set_index(["method", "choice", "count", "scope"]).value
    own = rows.groupby(["method", "choice", "count", "scope"]).loss_change.mean()
    np.testing.assert_allclose(loss.sort_index(), own.sort_index(), rtol=1e-4)


def test_the_memory_of_a_removal_is_bounded_and_near(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    made = plan_of(Path())
    job = made.jobs["evaluation/removal/digits_mlp"]
    taken = provenance.read(Path(job.made))["cost"]["peak_mib"] * 2**20 / 10**6
    assert taken <= resources.megabytes(job, made.registry) <= 3 * taken + 400
    more = replace(job, settings=job.settings | {"tests": 10**6})
    assert resources.megabytes(more, made.registry) > resources.megabytes(job, made.registry)


def test_other_counts_remove_again_and_touch_nothing_else(project, tmp_path):
    copy = project.copy(tmp_path / "project")
    copy.edit("config.yaml", "counts:\n  - 5\n", "counts:\n  - 6\n")
    assert copy.planned() == {"evaluation/removal/digits_mlp", "figures/removal"}


def test_the_figure_has_a_row_of_panels_a_setting(project):
    summary = pd.read_csv(project.folder / "results/evaluation/removal/digits_mlp.summary.csv")
    drawn = figure.draw(pd.concat([summary, summary.assign(setting="other")], ignore_index=True))
    assert len(drawn.axes) == 2 * len(figure.PANELS)
