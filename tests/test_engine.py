"""The batched engine trains what one-by-one training would, whatever it trains together."""

import time
from functools import partial

import numpy as np
import pytest
import reference
import torch
from conftest import RECIPE
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from attriflow import engine
from attriflow.engine import functional, layers
from attriflow.models import mlp
from attriflow.runs import Run

RUNS = [
    *(Run(f"subsets/{place}/0", subset=f"subsets/subset/{place}", fraction=0.5) for place in range(5)),
    Run("loo/0"),
    Run("loo/0", left_out=(3,)),
    Run("loo/0", left_out=(7, 11)),
]
WITH_DROPOUT = partial(mlp.build, (1, 4, 4), 3, hidden=[7, 5], dropout=0.3)


class Convolution(nn.Module):
    """A model that the fast path does not know: convolution, normalisation, dropout on maps, a shared layer."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.GroupNorm(1, 3)
        self.drop = nn.Dropout(0.25)
        self.head = nn.Linear(48, 3)
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, x):
        return self.head(self.drop(torch.relu(self.norm(self.convolution(x)))).flatten(1) * self.scale)


def trained(build, split, runs=RUNS, recipe=RECIPE, **options) -> torch.Tensor:
    """All final weights, (runs, p)."""
    stacks = engine.train(build, split.train_x, split.train_y, runs, recipe, 0, **options)
    finals = [stack.weights[recipe["epochs"]] for stack in stacks]
    return torch.cat(
        [torch.cat([each[name].reshape(len(each[name]), -1) for name in sorted(each)], 1) for each in finals]
    )


def one_by_one(build, split, recipe=RECIPE) -> torch.Tensor:
    states = [reference.train_one(build, split.train_x, split.train_y, run, recipe, 0) for run in RUNS]
    return torch.stack([torch.cat([state[name].flatten() for name in sorted(state)]) for state in states])


RECIPES = {
    "momentum": {},
    "plain": {"momentum": 0.0},
    "penalty": {"weight_decay": 0.01},
    "cosine": {"schedule": "cosine"},
    "linear": {"schedule": "linear", "batch_size": 7},
    "adam": {"optimiser": "adam", "momentum": 0.0, "learning_rate": 0.003, "weight_decay": 0.01},
    "adamw": {"optimiser": "adamw", "momentum": 0.0, "learning_rate": 0.003, "weight_decay": 0.01},
}


@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
def test_batched_training_equals_training_one_by_one_dropout_included(split, changes):
    recipe = RECIPE | changes
    assert layers.supports(WITH_DROPOUT())
    difference = trained(WITH_DROPOUT, split, recipe=recipe) - one_by_one(WITH_DROPOUT, split, recipe)
    assert difference.abs().max() < 2e-6


def test_the_general_path_equals_training_one_by_one_dropout_included(split):
    assert not layers.supports(Convolution())
    difference = trained(Convolution, split) - one_by_one(Convolution, split)
    assert difference.abs().max() < 2e-6


def test_what_is_frozen_stays_as_each_run_drew_it(split):
    def build():
        module = Convolution()
        module.convolution.requires_grad_(False)
        return module

    recipe = RECIPE | {"weight_decay": 0.01}
    assert (trained(build, split, recipe=recipe) - one_by_one(build, split, recipe)).abs().max() < 2e-6


def test_both_paths_train_the_same_model(split, monkeypatch):
    fast = trained(WITH_DROPOUT, split)
    monkeypatch.setattr(layers, "supports", lambda module: False)
    assert (trained(WITH_DROPOUT, split) - fast).abs().max() < 2e-6


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("stack", [2, 3, 64])
def test_the_stack_changes_no_bit(split, stack, optimiser):
    recipe = RECIPE | {"optimiser": optimiser, "momentum": 0.9 if optimiser == "sgd" else 0.0}
    alone = trained(WITH_DROPOUT, split, recipe=recipe, stack=1)
    assert torch.equal(trained(WITH_DROPOUT, split, recipe=recipe, stack=stack), alone)


@pytest.mark.parametrize("width", [1, 6, 13])
@pytest.mark.parametrize("stack", [2, 3, 64])
def test_the_stack_changes_no_bit_of_narrow_inputs(split, width, stack):
    narrow = type(split)(**{**vars(split), "train_x": split.train_x.reshape(40, 16)[:, :width].copy()})
    build = partial(mlp.build, (width,), 3, hidden=[5, 10], dropout=0.0)
    assert torch.equal(trained(build, narrow, stack=stack), trained(build, narrow, stack=1))


def test_the_number_of_threads_changes_no_bit(split):
    assert torch.equal(trained(WITH_DROPOUT, split, stack=1, threads=2), trained(WITH_DROPOUT, split, stack=3))


class Slow(nn.Module):
    """A model whose weights take a while to be drawn, and whose first forward pass draws, too."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(16, 5)
        time.sleep(0.005)
        self.drop = nn.Dropout(0.25)
        self.second = nn.Linear(5, 3)

    def forward(self, x):
        return self.second(self.drop(torch.tanh(self.first(x.flatten(1)))))


def test_threads_that_draw_at_once_change_no_draw_of_each_other(split):
    def outputs(threads: int) -> np.ndarray:
        """Stacks are measured in this thread while others begin."""
        stacks = engine.train(Slow, split.train_x, split.train_y, RUNS, RECIPE, 0, stack=1, threads=threads)
        x, y, last = split.test_x, split.test_y, RECIPE["epochs"]
        return np.concatenate([engine.measure(Slow, each.weights[last], x, y)["loss"] for each in stacks])

    np.testing.assert_allclose(outputs(2), outputs(1), rtol=1e-5)  # another module than a perceptron: up to rounding


@settings(deadline=None, max_examples=8)
@given(order=st.permutations(range(len(RUNS))), stack=st.integers(1, 4))
def test_the_order_of_runs_changes_no_bit(split, order, stack):
    alone = trained(WITH_DROPOUT, split, stack=1)
    assert torch.equal(trained(WITH_DROPOUT, split, [RUNS[place] for place in order], stack=stack), alone[list(order)])


@pytest.mark.parametrize("stack", [1, 3, 64])
def test_the_stack_of_the_general_path_changes_at_most_rounding(split, stack):
    assert (trained(Convolution, split, stack=stack) - trained(Convolution, split, stack=2)).abs().max() < 1e-6


def test_leaving_out_an_example_is_as_if_it_were_not_there(split):
    # same weights whatever the left-out example looks like
    changed = split.train_x.copy()
    changed[3] = 100
    other = type(split)(**{**vars(split), "train_x": changed})
    run = [Run("loo/0", left_out=(3,))]
    assert torch.equal(trained(WITH_DROPOUT, split, run), trained(WITH_DROPOUT, other, run))


def test_checkpoints_are_what_shorter_training_gives(split):
    (long,) = engine.train(WITH_DROPOUT, split.train_x, split.train_y, RUNS[:1], RECIPE, 0, checkpoints=(1, 2))
    (short,) = engine.train(WITH_DROPOUT, split.train_x, split.train_y, RUNS[:1], RECIPE | {"epochs": 2}, 0)
    assert sorted(long.weights) == [1, 2, 3]
    for name, value in short.weights[2].items():
        assert torch.equal(long.weights[2][name], value)


def test_an_observer_sees_every_step_and_changes_no_bit(split):
    seen = []

    def observe(step, weights):
        seen.append((step, {name: values.clone() for name, values in weights.items()}))

    runs = [Run("loo/0"), Run("loo/0", left_out=(3,))]
    watched = list(engine.train(WITH_DROPOUT, split.train_x, split.train_y, runs, RECIPE, 0, observe=observe))
    (alone,) = engine.train(WITH_DROPOUT, split.train_x, split.train_y, runs, RECIPE, 0, checkpoints=(1,), stack=2)
    steps = [step for step, _ in seen[:9]]
    assert [step.epoch for step in steps] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [step.examples.shape[1] for step in steps[:3]] == [16, 16, 8]
    for name, values in alone.weights[1].items():
        assert torch.equal(torch.cat([weights[name] for step, weights in seen if step.epoch == 2][::3]), values)
        assert torch.equal(torch.cat([stack.weights[3][name] for stack in watched]), alone.weights[3][name])
    shares = torch.cat([step.shares[1] for step in steps[:3]])
    assert torch.cat([step.examples[1] for step in steps[:3]])[shares == 0].tolist() == [3]


def test_training_lowers_the_loss(split):
    (stack,) = engine.train(WITH_DROPOUT, split.train_x, split.train_y, [Run("a")], RECIPE | {"epochs": 20}, 0)
    assert stack.losses.shape == (1, 20)
    assert stack.losses[0, -1] < 0.5 * stack.losses[0, 0]


def test_a_divergence_names_run_epoch_and_step(split):
    recipe = RECIPE | {"learning_rate": 1e30}
    with pytest.raises(
        engine.Diverged, match=r"training loo/0 without \[3\]: the loss is (nan|inf) at epoch 1, step [12]"
    ):
        trained(WITH_DROPOUT, split, [RUNS[6]], recipe)


def test_training_leaves_the_world_as_it_was(split):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    trained(WITH_DROPOUT, split)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_outputs_are_measured_in_float64_and_agree_with_the_formulas(split, build):
    (stack,) = engine.train(build, split.train_x, split.train_y, RUNS[:3], RECIPE, 0)
    outputs = engine.measure(build, stack.weights[3], split.test_x, split.test_y)
    model = build().double()
    model.load_state_dict(stack.state(1, 3))
    with torch.no_grad():
        p = torch.softmax(model(torch.from_numpy(split.test_x).double()), -1).numpy()[np.arange(7), split.test_y]
    assert outputs["loss"].shape == (3, 7)
    assert outputs["loss"].dtype == np.float64
    np.testing.assert_allclose(outputs["loss"][1], -np.log(p), rtol=1e-9)
    np.testing.assert_allclose(outputs["margin"][1], np.log(p / (1 - p)), rtol=1e-9)


def test_batch_normalisation_in_training_is_refused(split):
    build = lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 3))  # noqa: E731
    with pytest.raises(ValueError, match=r"layer '1' is batch normalisation"):
        trained(build, split)


def test_other_randomness_than_dropout_is_refused(split):
    build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.AlphaDropout(0.5), nn.Linear(4, 3))  # noqa: E731
    with pytest.raises(ValueError, match=r"random numbers other than by nn.Dropout"):
        trained(build, split)


def test_a_dropout_layer_used_twice_is_refused(split):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.head = nn.Dropout(0.5), nn.Linear(16, 3)

        def forward(self, x):
            return self.head(self.drop(self.drop(x.flatten(1))))

    with pytest.raises(ValueError, match=r"'drop' is used twice"):
        trained(Twice, split)


def test_dropout_meets_its_rate():
    from attriflow.engine.dropout import Site, masks

    (mask,) = masks([Site(0.1, (50,))], 0, (Run("a"), Run("b")), 1, 1000)
    assert mask.shape == (2, 1000, 50)
    assert abs((mask == 0).float().mean() - 0.1) < 0.005
    assert abs(mask.mean() - 1) < 0.005
    assert not torch.equal(mask[0], mask[1])


def test_the_general_path_stacks_buffers(split):
    (stack,) = engine.train(Convolution, split.train_x, split.train_y, RUNS[:2], RECIPE, 0)
    assert stack.weights[3]["scale"].tolist() == [0.5, 0.5]
    assert functional.Stack([Convolution()], torch.from_numpy(split.train_x)).dropouts[0].shape == (3, 4, 4)


def test_what_a_module_makes_anew_is_not_among_its_weights(split):
    class Places(Convolution):
        def __init__(self):
            super().__init__()
            self.register_buffer("places", torch.zeros(1), persistent=False)

    (stack,) = engine.train(Places, split.train_x, split.train_y, RUNS[:2], RECIPE, 0)
    assert stack.weights[3].keys() == Places().state_dict().keys()
