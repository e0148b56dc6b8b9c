"""Regression: labels are numbers, and everything that holds for classes holds with the squared error."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import reference
import torch
from conftest import RECIPE, Project, itself, toy_regression, trained_members
from sklearn.metrics import r2_score
from test_scores import EXAMPLES, METHODS, close, options, scores
from torch import nn

from attriflow import engine, outputs, removal
from attriflow.data import Split
from attriflow.engine import layers
from attriflow.extremes import extremes
from attriflow.figures import examples
from attriflow.figures import removal as removal_figure
from attriflow.gradients import of_tests, per_example
from attriflow.io import load_json
from attriflow.models import Trained, logistic, mlp
from attriflow.registry import Registry
from attriflow.runs import Run

pytestmark = pytest.mark.slow

REGISTRY = Registry()
BUILD = partial(mlp.build, (6,), 1, hidden=[5], dropout=0.0)
WITH_DROPOUT = partial(mlp.build, (6,), 1, hidden=[7, 5], dropout=0.3)
RUNS = [
    *(Run(f"subsets/{place}/0", subset=f"subsets/subset/{place}", fraction=0.5) for place in range(3)),
    Run("loo/0"),
    Run("loo/0", left_out=(3,)),
    Run("loo/0", left_out=(7, 11)),
]


@pytest.fixture(scope="module")
def numbers() -> Split:
    """n = 40, m = 7, 6 features, a number to predict."""
    return toy_regression()


@pytest.fixture(scope="module")
def pair(numbers) -> list[Trained]:
    """Two trained members."""
    return trained_members(numbers, BUILD, 2)


# --- outputs -------------------------------------------------------------------------------------------------


def test_the_loss_is_the_squared_error(numbers):
    predicted, y = torch.randn(7, 1, generator=torch.Generator().manual_seed(0)), torch.from_numpy(numbers.test_y)
    expected = nn.functional.mse_loss(predicted[:, 0], y, reduction="none")
    assert torch.equal(outputs.loss(predicted, y), expected)
    assert outputs.measured(predicted, y) == ["loss"]
    found = outputs.quality(predicted, y)
    assert found == {"loss": pytest.approx(float(expected.mean())), "r2": pytest.approx(r2_score(y, predicted[:, 0]))}


def test_equal_labels_have_no_r2():
    assert outputs.quality(torch.zeros(3, 1), torch.ones(3)) == {"loss": 1.0}


def test_several_outputs_are_refused_on_every_path(numbers):
    build = partial(mlp.build, (6,), 2, hidden=[5], dropout=0.0)
    for kind in (build, lambda: nn.Sequential(build(), nn.Identity())):
        with pytest.raises(ValueError, match="labels are numbers, so the model must have 1 output an example, not 2"):
            list(engine.train(kind, numbers.train_x, numbers.train_y, RUNS[:1], RECIPE, 0))


def test_a_number_has_no_margin_to_explain(pair, numbers):
    with pytest.raises(ValueError, match="margin: labels are numbers, so there is no right class"):
        of_tests(pair[0].model(), numbers, "margin")


# --- training ------------------------------------------------------------------------------------------------


def trained(build, split, runs=RUNS, recipe=RECIPE, **given) -> torch.Tensor:
    """All final weights, (runs, p)."""
    stacks = engine.train(build, split.train_x, split.train_y, runs, recipe, 0, **given)
    finals = [stack.weights[recipe["epochs"]] for stack in stacks]
    return torch.cat([torch.cat([values.flatten(1) for values in each.values()], 1) for each in finals])


RECIPES = {
    "sgd": {},
    "penalty": {"momentum": 0.0, "weight_decay": 0.01, "schedule": "cosine", "batch_size": 7},
    "adam": {"optimiser": "adam", "momentum": 0.0, "learning_rate": 0.003},
}


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
def test_both_paths_equal_training_one_by_one(numbers, changes, fast, monkeypatch):
    recipe = RECIPE | changes
    assert layers.supports(WITH_DROPOUT())
    if not fast:
        monkeypatch.setattr(layers, "supports", lambda module: False)
    x, y = numbers.train_x, numbers.train_y
    states = [reference.train_one(WITH_DROPOUT, x, y, run, recipe, 0) for run in RUNS]
    expected = torch.stack([torch.cat([value.flatten() for value in state.values()]) for state in states])
    assert (trained(WITH_DROPOUT, numbers, recipe=recipe) - expected).abs().max() < 2e-6


@pytest.mark.parametrize("stack", [2, 3, 64])
def test_the_stack_changes_no_bit(numbers, stack):
    assert torch.equal(trained(WITH_DROPOUT, numbers, stack=stack), trained(WITH_DROPOUT, numbers, stack=1))


def test_linear_regression_ends_at_the_least_squares_solution(numbers):
    recipe = RECIPE | {"epochs": 300, "batch_size": 40, "learning_rate": 0.1}
    build = partial(logistic.build, (6,), 1)
    weights = trained(build, numbers, [Run("a"), Run("a", left_out=(3,))], recipe)
    ones = np.ones((40, 1))
    for found, kept in zip(weights, (np.arange(40), np.delete(np.arange(40), 3)), strict=True):
        x = np.hstack([numbers.train_x, ones])[kept]
        solution, *_ = np.linalg.lstsq(x, numbers.train_y[kept])
        np.testing.assert_allclose(found, solution, atol=1e-5)


def test_outputs_are_squared_errors_in_float64(numbers, pair):
    (stack,) = engine.train(BUILD, numbers.train_x, numbers.train_y, RUNS[:2], RECIPE, 0)
    found = engine.measure(BUILD, stack.weights[3], numbers.test_x, numbers.test_y)
    model = BUILD().double()
    model.load_state_dict(stack.state(1, 3))
    with torch.no_grad():
        predicted = model(torch.from_numpy(numbers.test_x).double())[:, 0].numpy()
    assert list(found) == ["loss"]
    assert found["loss"].dtype == np.float64
    np.testing.assert_allclose(found["loss"][1], (predicted - numbers.test_y) ** 2, rtol=1e-12)
    quality = engine.quality(BUILD, stack.state(1, 3), numbers.test_x, numbers.test_y)
    assert quality == {
        "loss": pytest.approx(found["loss"][1].mean()),
        "r2": pytest.approx(r2_score(numbers.test_y, predicted)),
    }


# --- gradients and methods -----------------------------------------------------------------------------------


def test_gradients_are_those_of_one_backward_pass_an_example(pair, numbers):
    model = pair[0].model()
    found = per_example(model, numbers.train_x, numbers.train_y, "loss")
    expected = reference.gradients(model, numbers.train_x, numbers.train_y, "loss")
    order = found.order(dict(model.named_parameters()))
    np.testing.assert_allclose(found.dense(), expected[:, order], rtol=1e-10, atol=1e-12)


SCALE = 20.0  # of LiSSA: above the curvature
FOR_NUMBERS = [name for name in METHODS if not REGISTRY.constants("scores", name).get("CLASSES_ONLY")]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_scores_numbers_or_says_that_it_is_for_classes(pair, numbers, method):
    if method in FOR_NUMBERS:
        found = scores(method, pair, numbers, scale=SCALE)
        assert all(each.shape == (40, 7) and np.isfinite(each).all() for each in found)
        return
    with pytest.raises(ValueError, match=f"{method}: labels are numbers, and the method is for classes"):
        scores(method, pair, numbers)


@pytest.mark.parametrize("method", sorted({*EXAMPLES} & {*FOR_NUMBERS} - {"influence_corrected"}))
def test_positive_scores_are_helpful(pair, numbers, method):
    """A copy of the test example among the training examples helps it; the corrected formula may say otherwise, since
    further training moves the model to where the copy's gradient is another.
    """
    copied = Split(**{
        **vars(numbers),
        "train_x": np.concatenate([numbers.train_x, numbers.test_x]),
        "train_y": np.concatenate([numbers.train_y, numbers.test_y]),
    })  # fmt: skip
    found = scores(method, pair[:1], copied, proj_dim=64, scale=SCALE)[0]
    assert (np.diag(found[40:]) > 0).all()
    assert (np.diag(found[40:]) > np.median(found, axis=0)).all()


@pytest.mark.parametrize(
    "method", [name for name in FOR_NUMBERS if "self_influence" in REGISTRY.functions("scores", name)]
)
def test_self_influence_is_the_diagonal_of_the_scores_of_the_training_examples_on_themselves(pair, numbers, method):
    module = REGISTRY.load("scores", method)
    prepared = [module.prepare(member, itself(numbers), **options(method, "prepare")) for member in pair]
    *_, found = module.self_influence(prepared, **options(method, "self_influence"))
    *_, expected = module.score(prepared, **options(method, "score"))
    close(found, np.diag(expected))


def test_trak_is_the_product_of_two_means_with_the_residuals_of_both_sides(pair, numbers):
    kernels, residuals = [], []
    for member in pair:
        model = member.model()
        f = per_example(model, numbers.train_x, numbers.train_y, lambda z, _: z[:, 0]).dense()
        of_test = per_example(model, numbers.test_x, numbers.test_y, "loss").dense()
        matrix = f.T @ f / 40 + 0.1 * torch.eye(f.shape[1], dtype=torch.float64)
        kernels.append(-f @ torch.linalg.inv(matrix) @ of_test.T)
        with torch.no_grad():
            predicted = model(torch.from_numpy(numbers.train_x).double())[:, 0]
        residuals.append(2 * (torch.from_numpy(numbers.train_y) - predicted))
    expected = torch.stack(kernels).mean(0) * torch.stack(residuals).mean(0)[:, None]
    found = scores("trak", pair, numbers, projection="none", proj_dim=41, damping=0.1)[1]
    close(found, expected)


def ridge(split: Split, penalty: float, weights: np.ndarray) -> np.ndarray:
    """The minimum (d + 1,) of the weighted squared errors over n plus penalty |w|² / 2, the bias included."""
    x = np.hstack([split.train_x, np.ones((len(split.train_x), 1))]).astype(np.float64)
    n = len(x)
    return np.linalg.solve(
        2 * x.T @ (weights[:, None] * x) / n + penalty * np.eye(7), 2 * x.T @ (weights * split.train_y) / n
    )


# a method, what it takes, and what its scores are times the influence of the exact curvature: TRAK's kernel is without
# the second derivative of the loss, 2, so its damping is half of the penalty
RIDGE = {
    "ekfac": ({"curvature": "true", "damping": 0.3}, 1),
    "influence": ({"curvature": "hessian", "damping": 0.3}, 1),
    "influence_cg": ({"curvature": "ggn", "damping": 0.3, "iterations": 12}, 1),
    "trak": ({"projection": "none", "proj_dim": 7, "damping": 0.15}, 2),
}


@pytest.mark.parametrize("method", RIDGE)
def test_influence_on_ridge_regression_is_leaving_one_out_but_for_the_leverage(numbers, method):
    """A closed form: without example i the prediction changes by what its score says, over 1 - its leverage."""
    given, unit = RIDGE[method]
    solution = ridge(numbers, 0.3, np.ones(40))
    weights = torch.from_numpy(solution)
    state = {"1.weight": weights[None, :6], "1.bias": weights[6:]}
    build = partial(logistic.build, (6,), 1)
    member = Trained("ridge", 0, lambda: build().double(), {1: state}, {1: 0.0})
    found = scores(method, [member], numbers, **given)[0] / unit

    train, test = (np.hstack([x, np.ones((len(x), 1))]).astype(np.float64) for x in (numbers.train_x, numbers.test_x))
    curvature = 2 * train.T @ train / 40 + 0.3 * np.eye(7)
    leverage = 2 / 40 * np.einsum("ip,pq,iq->i", train, np.linalg.inv(curvature), train)
    errors = numbers.test_y - test @ solution
    moved = -found / (40 * 2 * errors) / (1 - leverage)[:, None]  # predictions without each example, less those with it
    for left_out in range(40):
        kept = np.ones(40)
        kept[left_out] = 0
        retrained = ridge(numbers, 0.3, kept)
        np.testing.assert_allclose(moved[left_out], test @ (retrained - solution), rtol=1e-3, atol=1e-6)


# --- removal and figures -------------------------------------------------------------------------------------


def test_a_removal_changes_the_loss_and_flips_nothing(numbers):
    sets = [(), (1,), (2, 5)]
    found = removal.outputs(BUILD, numbers, removal.runs(sets, 2), RECIPE, 0, tests=4)
    assert list(found) == ["loss"]
    changed = removal.changes(found, 2)
    assert list(changed) == ["loss_change"]
    removals = [
        removal.Removal({"scope": "test"}, ((1,),), (0, 1)),
        removal.Removal({"scope": "test"}, ((2, 5),), (2,)),
    ]
    table = removal.summary(removal.table(removals, changed), confidence=0.9)
    assert table.measure.tolist() == ["loss_change"]
    np.testing.assert_allclose(table.value, np.r_[changed["loss_change"][1, :2], changed["loss_change"][2, 2]].mean())


def test_extremes_of_a_table_are_in_the_units_of_the_data_and_are_drawn(numbers):
    split = Split(**{**vars(numbers), "mean": np.full(6, 10.0), "std": np.full(6, 2.0), "names": tuple("abcdef")})
    found = extremes(np.random.default_rng(0).standard_normal((40, 7)), split, np.arange(2), 3)
    np.testing.assert_allclose(found["test_x"], numbers.test_x[:2] * 2 + 10, rtol=1e-6)
    np.testing.assert_allclose(found["helpful_y"], numbers.train_y[found["helpful"]] * 2 + 3, rtol=1e-6)
    words = {name: np.array("x") for name in ("setting", "method", "point", "metric")}
    figure = examples.draw([found | words | {"value": np.array(0.5)}])
    said = [text.get_text() for axes in figure.axes for text in axes.texts]
    x, other = found["helpful_x"][0, 0], found["test_x"][0]
    most = int(np.abs(x - other).argmax())
    assert any(text.startswith(f"{'abcdef'[most]} {x[most]:.4g} ({(x - other)[most] / 2:+.1f})") for text in said)


def test_a_removal_of_numbers_is_drawn_beside_one_of_classes_without_what_it_lacks():
    rows = [
        {"setting": setting, "scope": scope, "measure": measure}
        for setting, measures in {"classes": ("loss_change", "flipped"), "numbers": ("loss_change",)}.items()
        for scope in ("test", "union")
        for measure in measures
    ]
    same = {"method": "trak", "choice": "fixed", "damping": 0.1, "count": 5, "value": 0.2, "low": 0.1, "high": 0.3}
    table = pd.DataFrame(rows).assign(**same, test_examples=3, confidence=0.9, repeats=1)
    assert [axes.get_visible() for axes in removal_figure.draw(table).axes] == [True] * 4 + [True, False] * 2
    assert len(removal_figure.draw(table[table.setting == "numbers"]).axes) == 2


# --- the pipeline --------------------------------------------------------------------------------------------

CONFIG = """
seed: 0
datasets:
  diabetes: {train: 200, test: 20}
settings:
  diabetes_mlp:
    dataset: diabetes
    model: {kind: mlp, hidden: [8], dropout: 0.1}
    recipe: {learning_rate: 0.02, momentum: 0.9, batch_size: 32, epochs: 10}
ground_truth:
  subsets: {count: 8, repeats: 1, fraction: 0.5, block: 8}
ensembles:
  independent: {count: 2, sizes: [2], block: 2}
methods:
  ekfac: {curvature: 'true', damping: 0.1}
  trak: {proj_dim: 8, damping: [0.1, 1.0]}
removal: {methods: [trak], dampings: {fixed: 0.1}, counts: [5], tests: 3, repeats: 1}
evaluation: {resamples: 100}
run: {figures: [examples, removal]}
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Project:
    """A project with a regression, after its first run."""
    project = Project.create(tmp_path_factory.mktemp("regression") / "project")
    (project.folder / "config.yaml").write_text(CONFIG)
    project.snakemake()
    return project


def test_a_regression_runs_from_data_to_figures(ran):
    table = pd.read_csv(ran.folder / "results/evaluation/summary.csv")
    assert set(table.output) == {"loss"}
    assert set(table.method) == {"ekfac", "trak"}
    assert table.value.max() > 0.2
    for figure in ("examples", "removal"):
        assert (ran.folder / f"results/figures/{figure}.png").stat().st_size > 0


def test_a_regression_is_described_by_its_loss_and_r2(ran):
    found = load_json(ran.folder / "results/models/diabetes_mlp/full-0.json")["checkpoints"]["10"]
    assert set(found) == {"train_loss", "train_r2", "test_loss", "test_r2"}
    assert 0.3 < found["train_r2"] < 0.8


def test_removals_of_a_regression_change_losses_alone(ran):
    table = pd.read_csv(ran.folder / "results/evaluation/removal/diabetes_mlp.summary.csv")
    assert set(table.measure) == {"loss_change"}
