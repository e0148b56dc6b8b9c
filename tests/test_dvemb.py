"""The data value embedding: against explicit matrices, and against trainings that weight an example a little less."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import reference
import torch
from conftest import RECIPE, toy_split

from attriflow import engine, trajectory
from attriflow.data import Split
from attriflow.models import Trained, logistic, mlp
from attriflow.runs import Run
from attriflow.scores import dvemb

PLAIN = RECIPE | {"momentum": 0.0, "batch_size": 7, "learning_rate": 0.1}
HALF = Run("a", subset="a/subset", fraction=0.5)
SMALL = partial(mlp.build, (1, 2, 3), 3, hidden=[4], dropout=0.0)  # 43 parameters
STRAIGHT = partial(logistic.build, (1, 2, 3), 3)


@pytest.fixture(scope="module")
def small() -> Split:
    """n = 20, m = 4, 6 inputs, 3 classes."""
    return toy_split(20, 4, (1, 2, 3), 3)


def trained(build, split: Split, recipe: dict, run: Run = HALF) -> Trained:
    """A member that knows how it was trained."""
    (stack,) = engine.train(build, split.train_x, split.train_y, [run], recipe, 0)
    epochs = recipe["epochs"]
    return Trained("full-0", 0, build, {epochs: stack.state(0, epochs)}, {epochs: 0.1}, run, recipe)


def scores(member: Trained, split: Split, **given) -> np.ndarray:
    """Of one member, (n, m)."""
    return next(dvemb.score([dvemb.prepare(member, split, **given)]))


def close(found, expected, rtol=2e-4):
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


CASES = {
    "fisher": ("fisher", {}, HALF),
    "ggn": ("ggn", {}, HALF),
    "hessian": ("hessian", {}, HALF),
    "all examples, linear schedule": ("fisher", {"schedule": "linear"}, Run("a")),
    "momentum, penalty": ("hessian", {"momentum": 0.5, "weight_decay": 0.1}, HALF),
    "left out": ("fisher", {}, Run("a", left_out=(3, 11))),
    "left out, nobody left in a batch": (
        "fisher",
        {"batch_size": 1, "epochs": 1, "weight_decay": 0.1},
        Run("a", left_out=(3,)),
    ),
}


@pytest.mark.parametrize(("curvature", "changes", "run"), CASES.values(), ids=CASES)
def test_scores_are_explicit_embeddings_carried_forward_in_time(small, curvature, changes, run):
    member = trained(SMALL, small, PLAIN | changes, run)
    found = scores(member, small, curvature=curvature)
    close(found, reference.data_value_embedding(member, small, curvature))
    unseen = ~run.mask(20, 0)
    assert not found[unseen].any()
    assert found[~unseen].any(1).all()


def test_dropout_is_in_the_trajectory_but_not_in_the_gradients(small):
    build = partial(mlp.build, (1, 2, 3), 3, hidden=[4], dropout=0.3)
    member = trained(build, small, PLAIN)
    close(scores(member, small), reference.data_value_embedding(member, small, "fisher"))


def test_the_last_epochs_are_walked_back_alone(small):
    member = trained(SMALL, small, PLAIN)
    close(scores(member, small, epochs=1), reference.data_value_embedding(member, small, "fisher", skipped=2))
    with pytest.raises(ValueError, match="epochs: 4 asked for, member full-0 was trained for 3"):
        scores(member, small, epochs=4)


@pytest.mark.parametrize("curvature", ["fisher", "hessian"])
def test_the_effect_through_some_parameters_takes_the_path_of_the_others_as_given(small, curvature):
    member = trained(SMALL, small, PLAIN)
    expected = reference.data_value_embedding(member, small, curvature, kept=slice(28, None))  # behind 4 × 6 + 4
    close(scores(member, small, curvature=curvature, parameters="last"), expected)


def test_a_large_batch_is_taken_in_blocks(small, monkeypatch):
    member = trained(SMALL, small, PLAIN)
    whole = scores(member, small)
    monkeypatch.setattr(dvemb, "_BLOCK_BYTES", 8 * 43 * 3)
    close(scores(member, small), whole, rtol=1e-6)


def frozen(name: str):
    """A perceptron of which one layer, or one bias, is not trained."""
    module = SMALL()
    module.get_parameter(name).requires_grad_(False)
    return module


@pytest.mark.parametrize("name", ["1.weight", "1.bias", "3.weight", "3.bias"])
@pytest.mark.parametrize("changes", [{}, {"momentum": 0.5, "weight_decay": 0.1}], ids=["plain", "momentum, penalty"])
def test_what_is_frozen_is_not_walked_back(small, name, changes):
    build = partial(frozen, name)
    member = trained(build, small, PLAIN | changes, Run("a"))
    steps = list(trajectory.backwards(member, small))
    start = [each.detach().flatten() for each in engine.initial_weights(build, 0, Run("a")).parameters()]
    assert torch.equal(steps[-1].weights, torch.cat(start))
    found, change = scores(member, small, curvature="hessian"), losses_with_less_of_each(member, small, 1e-4)
    assert np.corrcoef(found.flatten(), change.flatten())[0, 1] > 0.999


def tied():
    """A perceptron with a weight at two places."""
    module = torch.nn.Sequential(torch.nn.Flatten(), *(torch.nn.Linear(6, 6) for _ in range(2)), torch.nn.Linear(6, 3))
    module[2].weight = module[1].weight
    return module


def twice():
    """A perceptron of which a layer stands at two places."""
    layer = torch.nn.Linear(6, 6)
    return torch.nn.Sequential(torch.nn.Flatten(), layer, torch.nn.Tanh(), layer, torch.nn.Linear(6, 3))


@pytest.mark.parametrize("build", [tied, twice])
def test_what_stands_at_two_places_is_walked_back_once(small, build):
    member = trained(build, small, PLAIN, Run("a"))
    found, change = scores(member, small, curvature="hessian"), losses_with_less_of_each(member, small, 1e-4)
    np.testing.assert_allclose(found, change, rtol=0.02, atol=1e-3 * np.abs(change).max())


@pytest.mark.parametrize("shape", [(6,), (1, 2, 3), (3, 2, 2)])
@pytest.mark.parametrize("batch", [1, 19])
def test_a_step_may_have_one_example(shape, batch):
    """19: the last batch of 20 examples is one."""
    some = toy_split(20, 4, shape, 3)
    member = trained(
        partial(mlp.build, shape, 3, hidden=[4], dropout=0.0),
        some,
        PLAIN | {"batch_size": batch, "epochs": 1},
        Run("a"),
    )
    close(scores(member, some), reference.data_value_embedding(member, some, "fisher"))


def loud(split: Split) -> Split:
    """Inputs so large that the outer products of their gradients are beyond what a step back can take."""
    return replace(split, train_x=6 * split.train_x, test_x=6 * split.test_x)


def test_a_walk_back_that_grows_is_refused_with_what_would_do(small):
    member = trained(SMALL, loud(small), PLAIN | {"learning_rate": 0.3, "epochs": 8}, Run("a"))
    message = (
        r"dvemb: member full-0: walked back by the curvature 'fisher', test gradients are \S+ times as long \d+ steps "
        r"before the end .* at most 10 can be trusted.*times the learning rate is \S+; steps are stable below "
        r"2 \(1 \+ momentum\) = 2; use `curvature: ggn`, a lower learning rate, or `epochs` of \d+ or fewer"
    )
    with pytest.raises(ValueError, match=message):
        scores(member, loud(small))
    assert np.isfinite(scores(member, loud(small), curvature="ggn")).all()


def test_a_walk_back_that_grows_stops_at_once(small, monkeypatch):
    member, taken = trained(SMALL, loud(small), PLAIN | {"learning_rate": 0.3, "epochs": 8}, Run("a")), []
    steps = dvemb.backwards
    monkeypatch.setattr(dvemb, "backwards", lambda *given: (taken.append(step) or step for step in steps(*given)))
    with pytest.raises(ValueError, match=r"as long (\d+) steps before") as caught:
        scores(member, loud(small))
    assert f"as long {len(taken)} steps before" in str(caught.value)
    assert len(taken) < 24


def test_of_many_test_examples_a_sum_goes_first(small, monkeypatch):
    monkeypatch.setattr(dvemb, "_MANY", 4)
    walked, walk = [], dvemb._walk
    monkeypatch.setattr(dvemb, "_walk", lambda *given: walked.append(len(given[-1])) or walk(*given))
    member = trained(SMALL, small, PLAIN)
    close(scores(member, small), reference.data_value_embedding(member, small, "fisher"))
    assert walked == [1, 4]
    member = trained(SMALL, loud(small), PLAIN | {"learning_rate": 0.3, "epochs": 8}, Run("a"))
    with pytest.raises(ValueError, match="walked back by the curvature 'fisher'"):
        scores(member, loud(small))
    assert walked == [1, 4, 1]


def test_scores_permute_with_the_training_examples(small):
    moved = np.random.default_rng(1).permutation(20)
    other = replace(small, train_x=small.train_x[moved], train_y=small.train_y[moved])
    recipe = PLAIN | {"batch_size": 20}  # one batch an epoch, in whatever order
    found = scores(trained(SMALL, small, recipe, Run("a")), small)
    close(scores(trained(SMALL, other, recipe, Run("a")), other), found[moved], rtol=1e-4)


def test_positive_scores_are_helpful(small):
    copied = replace(
        small,
        train_x=np.concatenate([small.train_x, small.test_x]),
        train_y=np.concatenate([small.train_y, small.test_y]),
    )
    found = scores(trained(SMALL, copied, PLAIN, Run("a")), copied)
    assert (np.diag(found[20:]) > 0).all()


# --- against retraining --------------------------------------------------------------------------------------


def losses_with_less_of_each(member: Trained, split: Split, epsilon: float) -> np.ndarray:
    """How much the test losses rise, (n, m), for each unit of weight that an example lacks at every use."""
    steps = list(reference.steps(split.train_x, member.run, member.recipe, member.seed))
    found = []
    for example in range(len(split.train_x)):
        losses = []
        for weight in (1 - epsilon, 1 + epsilon):
            weights = torch.ones(len(split.train_x), dtype=torch.float64)
            weights[example] = weight
            start = engine.initial_weights(member.build, member.seed, member.run).double()
            momentum, decay = member.recipe["momentum"], member.recipe["weight_decay"]
            losses.append(reference.weighted_sgd(start, split, steps, weights, momentum, decay))
        found.append((losses[0] - losses[1]) / (2 * epsilon))
    return torch.stack(found).numpy()


@pytest.mark.parametrize("changes", [{}, {"momentum": 0.9, "weight_decay": 0.05}], ids=["plain", "momentum, penalty"])
def test_with_the_hessian_scores_are_the_change_of_the_test_loss_when_an_example_counts_a_little_less(small, changes):
    member = trained(STRAIGHT, small, PLAIN | changes)
    found, change = scores(member, small, curvature="hessian"), losses_with_less_of_each(member, small, 1e-4)
    assert np.corrcoef(found.flatten(), change.flatten())[0, 1] > 0.999
    close(found, change, rtol=1e-3)


# --- replay --------------------------------------------------------------------------------------------------


def test_the_trajectory_is_that_of_the_engine_to_the_bit(members, split):
    """Members that were trained together, replayed alone; the step behind the first epoch starts at its checkpoint."""
    for member in members:
        steps = list(trajectory.backwards(member, split))[::-1]
        assert len(steps) == 9
        kept = member.checkpoints[1]
        assert torch.equal(steps[3].weights, torch.cat([value.flatten() for value in kept.values()]))
        expected = list(reference.steps(split.train_x, member.run, member.recipe, member.seed))
        for step, (rows, rate, _) in zip(steps, expected, strict=True):
            assert step.examples.tolist() == rows
            assert step.rate == rate


def test_a_changed_checkpoint_is_refused(small):
    member = trained(SMALL, small, PLAIN)
    changed = {name: value.clone() for name, value in member.checkpoints[3].items()}
    changed["3.bias"][0] += 1e-6
    with pytest.raises(ValueError, match=r"member full-0: .* does not end at its last checkpoint, \['3.bias'\] differ"):
        scores(replace(member, checkpoints={3: changed}), small)


def test_other_optimisers_are_refused(small):
    member = trained(SMALL, small, PLAIN | {"optimiser": "adam"})
    with pytest.raises(ValueError, match=r"member full-0 was trained by adam; .* `optimiser: sgd`"):
        scores(member, small)


def test_a_member_of_unknown_training_is_refused(small):
    member = trained(SMALL, small, PLAIN)
    for unknown in ({"run": None}, {"recipe": None}):
        with pytest.raises(ValueError, match="member full-0: its run and recipe are not known"):
            scores(replace(member, **unknown), small)


def test_a_trajectory_that_does_not_fit_on_the_disk_is_refused(small, monkeypatch):
    member = trained(SMALL, small, PLAIN)
    monkeypatch.setattr(trajectory.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(OSError, match=r"the weights of 6 steps take .* set TMPDIR"):
        scores(member, small)
