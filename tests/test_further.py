"""Further training: the engine trains on as one-by-one loops do, and the ground truth says what came of it."""

from functools import partial

import numpy as np
import pytest
import reference
import torch
from conftest import RECIPE
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engine import Convolution

from attriflow import engine
from attriflow.engine import further
from attriflow.models import mlp
from attriflow.runs import Run

WITH_DROPOUT = partial(mlp.build, (1, 4, 4), 3, hidden=[7, 5], dropout=0.3)
RUNS = [Run(f"further/{seed}", left_out=out) for seed in (0, 1) for out in [(), (3,), (11,), (39,)]]
FURTHER = {"optimiser": "sgd", "learning_rate": 0.02, "momentum": 0.0, "weight_decay": 0.0, "batch_size": 16}
AMOUNTS = [0.1, 1, 2.4]
ESTIMATORS = pytest.mark.parametrize("estimator", further.ESTIMATORS)


def final(build, split) -> dict[str, torch.Tensor]:
    (trained,) = engine.train(build, split.train_x, split.train_y, [Run("models/full-0")], RECIPE, 0)
    return trained.state(0, RECIPE["epochs"])


def furthered(build, split, runs=RUNS, recipe=FURTHER, *, weights=None, amounts=AMOUNTS, **options) -> np.ndarray:
    """Losses of all runs, (runs, amounts, m)."""
    weights = final(build, split) if weights is None else weights
    data = (split.train_x, split.train_y, split.test_x, split.test_y)
    stacks = further.train(build, weights, *data, runs, recipe, 0, amounts=amounts, **options)
    return np.concatenate([stack.losses for stack in stacks])


def one_by_one(build, split, recipe=FURTHER, *, estimator, dropout=True) -> np.ndarray:
    weights, found = final(build, split), []
    for run in RUNS:
        count = len(split.train_x) - (len(run.left_out) if estimator == "deletion" else 0)
        steps = further.steps(AMOUNTS, count, recipe["batch_size"])
        found.append(reference.further_one(build, weights, split, run, recipe, 0, steps, estimator, dropout))
    return np.stack(found)


# --- the engine ----------------------------------------------------------------------------------------------

RECIPES = {
    "plain": {},
    "one left over": {"batch_size": 13},  # 40 = 3 * 13 + 1: without an example an epoch is a step shorter
    "momentum": {"momentum": 0.9, "weight_decay": 0.01},
    "adam": {"optimiser": "adam", "learning_rate": 0.001},
}


@ESTIMATORS
@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
def test_further_training_equals_an_explicit_loop_dropout_included(split, estimator, changes):
    recipe = FURTHER | changes
    found = furthered(WITH_DROPOUT, split, recipe=recipe, estimator=estimator)
    np.testing.assert_allclose(found, one_by_one(WITH_DROPOUT, split, recipe, estimator=estimator), atol=3e-6)
    assert found.dtype == np.float64


@ESTIMATORS
def test_the_general_path_equals_an_explicit_loop(split, estimator):
    found = furthered(Convolution, split, estimator=estimator)
    np.testing.assert_allclose(found, one_by_one(Convolution, split, estimator=estimator), atol=3e-6)


@ESTIMATORS
def test_dropout_can_be_off(split, estimator):
    found = furthered(WITH_DROPOUT, split, estimator=estimator, dropout=False)
    expected = one_by_one(WITH_DROPOUT, split, estimator=estimator, dropout=False)
    np.testing.assert_allclose(found, expected, atol=3e-6)
    assert np.abs(found - furthered(WITH_DROPOUT, split, estimator=estimator)).max() > 1e-3


@ESTIMATORS
@settings(deadline=None, max_examples=6)
@given(order=st.permutations(range(len(RUNS))), stack=st.integers(1, 9), threads=st.integers(1, 2))
def test_stack_order_and_threads_change_no_bit(split, estimator, order, stack, threads):
    weights = final(WITH_DROPOUT, split)
    alone = furthered(WITH_DROPOUT, split, weights=weights, estimator=estimator, stack=1)
    runs = [RUNS[place] for place in order]
    options = {"stack": stack, "threads": threads, "estimator": estimator}
    assert (furthered(WITH_DROPOUT, split, runs, weights=weights, **options) == alone[list(order)]).all()


@ESTIMATORS
def test_blocks_change_no_bit(split, estimator):
    weights = final(WITH_DROPOUT, split)
    whole = furthered(WITH_DROPOUT, split, weights=weights, estimator=estimator)
    blocks = [furthered(WITH_DROPOUT, split, RUNS[a : a + 3], weights=weights, estimator=estimator) for a in (0, 3, 6)]
    assert (np.concatenate(blocks) == whole).all()


@ESTIMATORS
def test_more_amounts_leave_the_others_as_they_were(split, build, estimator):
    weights = final(build, split)
    few = furthered(build, split, weights=weights, amounts=[1], estimator=estimator)
    assert (furthered(build, split, weights=weights, estimator=estimator)[:, [1]] == few).all()


@pytest.mark.parametrize(("estimator", "count"), [("deletion", 39), ("subtraction", 40)])
def test_one_full_batch_step_is_grad_dot_to_first_order(split, build, estimator, count):
    # theta_{-i} - theta = rate g_i / n for subtraction; for deletion rate (g_i - mean) / (n - 1)
    weights, rate = final(build, split), 1e-4
    recipe = FURTHER | {"learning_rate": rate, "batch_size": 40}
    runs = [Run("further/0", left_out=out) for out in [(), *((index,) for index in range(40))]]
    options = {"amounts": [1], "estimator": estimator, "dtype": torch.float64}
    losses = furthered(build, split, runs, recipe, weights=weights, **options)[:, 0]
    model = build().double()
    model.load_state_dict(weights)
    train = reference.gradients(model, split.train_x, split.train_y, "loss")
    test = reference.gradients(model, split.test_x, split.test_y, "loss")
    moved = train if estimator == "subtraction" else train - train.mean(0)
    expected = (rate / count * moved @ test.T).numpy()
    np.testing.assert_allclose(losses[1:] - losses[:1], expected, atol=2e-3 * np.abs(expected).max())


def test_a_divergence_keeps_the_other_runs(split, build):
    weights = final(build, split)
    x = split.train_x.copy()
    x[11] = np.inf  # breaks every run that sees it
    other = type(split)(**{**vars(split), "train_x": x})
    data = (other.train_x, other.train_y, other.test_x, other.test_y)
    stacks = further.train(build, weights, *data, RUNS, FURTHER, 0, amounts=AMOUNTS, estimator="deletion")
    found = list(stacks)
    runs = [run for stack in found for run in stack.runs]
    losses, diverged = (np.concatenate([getattr(stack, name) for stack in found]) for name in ("losses", "diverged"))
    kept = np.array([run.left_out == (11,) for run in runs])
    assert (diverged[kept] == 0).all()
    assert (diverged[~kept] > 0).all()
    assert np.isfinite(losses[kept]).all()
    assert np.isnan(losses[~kept]).all()
    assert (losses[kept] == furthered(build, split, weights=weights, estimator="deletion")[kept]).all()


def test_a_state_of_another_architecture_is_refused(split, build):
    with pytest.raises(ValueError, match=r"checkpoint of the final model is of another architecture: 1.bias: \(7,\)"):
        furthered(build, split, weights=final(WITH_DROPOUT, split), estimator="deletion")


@pytest.mark.parametrize("run", [Run("further/0", left_out=(1, 2)), Run("further/0", subset="a", fraction=0.5)])
def test_runs_that_leave_out_several_examples_are_refused(split, build, run):
    with pytest.raises(ValueError, match="further training takes all examples but at most one, not Run"):
        furthered(build, split, [run], estimator="deletion")


def test_an_unknown_estimator_is_refused(split, build):
    with pytest.raises(ValueError, match=r"unknown estimator 'jackknife'; known: \['deletion', 'subtraction'\]"):
        furthered(build, split, estimator="jackknife")


@pytest.mark.parametrize("rate", [0.02, 0.001])
def test_errors_of_float32_are_what_the_resolution_says(split, build, rate):
    weights, recipe = final(build, split), FURTHER | {"learning_rate": rate}
    runs = [Run(f"further/{seed}", left_out=out) for seed in range(5) for out in [(), (3,), (11,), (39,)]]
    amounts, options = [1, 5, 20], {"weights": weights, "estimator": "subtraction"}
    single, double = (
        furthered(build, split, runs, recipe, amounts=amounts, dtype=dtype, **options)
        for dtype in (torch.float32, torch.float64)
    )
    once = further.resolution(build, weights, split.test_x, split.test_y, 0)
    predicted = np.sqrt(further.steps(amounts, 40, 16))[:, None] * once  # (amounts, m)
    ratio = np.sqrt(np.square(single - double).mean(0)) / predicted
    assert 0.5 < np.median(ratio) < 1.5


def test_the_resolution_is_first_order_in_the_rounding(split, build):
    weights = final(build, split)
    model = build().double()
    model.load_state_dict(weights)
    test = reference.gradients(model, split.test_x, split.test_y, "loss").numpy()
    flat = np.concatenate([values.numpy().ravel() for values in weights.values()])
    expected = np.linalg.norm(test * np.spacing(np.abs(flat)), axis=1) / np.sqrt(12)
    found = further.resolution(build, weights, split.test_x, split.test_y, 0)
    assert (np.abs(np.log(found / expected)) < 0.5).all()
    fine = further.resolution(build, weights, split.test_x, split.test_y, 0, dtype=torch.float64)
    assert (fine < 1e-6 * found).all()
