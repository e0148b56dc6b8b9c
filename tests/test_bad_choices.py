"""What no damping can be chosen from is refused with its reason, in every method that has a spectrum."""

from dataclasses import replace

import numpy as np
import pytest
from test_config import errors
from test_scores import REGISTRY, options

from attriflow import selection
from attriflow.hyperparameters import RULES

METHODS = [method for method in sorted(REGISTRY.kinds("scores")) if "spectrum" in REGISTRY.functions("scores", method)]


def spectrum(method: str, member, split):
    module = REGISTRY.load("scores", method)
    prepared = module.prepare(member, split, **options(method, "prepare"))
    return module.spectrum(prepared, **options(method, "spectrum"))


def altered(split, **places):
    """A split of which some arrays are others."""
    return type(split)(**{**vars(split), **places})


@pytest.fixture(scope="module")
def saturated(members):
    """A member that is certain of class 0: no gradient of its loss there is other than 0."""
    states = {
        epoch: {name: value * 0 for name, value in state.items()} for epoch, state in members[0].checkpoints.items()
    }
    for state in states.values():
        state[list(state)[-1]] = state[list(state)[-1]].new_tensor([1e4, 0.0, 0.0])
    return replace(members[0], checkpoints=states)


@pytest.mark.parametrize("method", METHODS)
def test_one_test_example_has_a_curve(members, split, method):
    one = altered(split, test_x=split.test_x[:1], test_y=split.test_y[:1], test_index=split.test_index[:1])
    found = selection.curve([spectrum(method, members[0], one)])
    assert np.isfinite(found.means).all()
    assert np.isnan(found.errors).all()


@pytest.mark.parametrize("method", METHODS)
def test_twelve_decades_of_dampings_have_indicators(members, split, method):
    found = selection.curve([spectrum(method, members[0], split)], np.geomspace(1e-9, 1e3, 25))
    assert ((found.means > 0) & (found.means <= 1)).all()
    np.testing.assert_allclose(found.means[:, -1], 1, atol=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_repeated_training_examples_leave_a_singular_gram_matrix_with_a_curve(members, split, method):
    rows = np.arange(len(split.train_y)) % 3
    same = altered(split, train_x=split.train_x[rows], train_y=split.train_y[rows], clean_y=split.clean_y[rows])
    found = spectrum(method, members[0], same)
    assert np.isfinite(selection.curve([found]).means).all()
    if method == "influence":
        assert found.rank == 3


@pytest.mark.parametrize("method", [method for method in METHODS if method != "trak"])
def test_training_gradients_that_all_vanish_are_refused(saturated, split, method):
    nothing = altered(split, train_y=np.zeros_like(split.train_y))
    with pytest.raises(ValueError, match=r"zero|vanish"):
        spectrum(method, saturated, nothing)


def test_a_kernel_of_trak_that_is_zero_is_refused(members, split):
    module = REGISTRY.load("scores", "trak")
    prepared = module.prepare(members[0], split, **options("trak", "prepare"))
    with pytest.raises(ValueError, match="the curvature is zero everywhere"):
        module.spectrum(prepared | {"kernel": 0 * prepared["kernel"]}, **options("trak", "spectrum"))


@pytest.mark.parametrize("part", ["train_x", "test_x"])
@pytest.mark.parametrize("method", METHODS)
def test_gradients_that_are_not_finite_are_refused_with_their_example(members, split, method, part):
    x = getattr(split, part).copy()
    x[3] = np.inf
    with pytest.raises(ValueError, match=r"gradients are not finite at examples \[3\]"):
        spectrum(method, members[0], altered(split, **{part: x}))


def test_a_method_without_damping_cannot_choose_one():
    (found,) = errors("methods", "grad_dot", {"damping": "select"})
    assert found == "methods.grad_dot.damping: grad_dot takes ['epoch', 'parameters', 'target'], not 'damping'"


@pytest.mark.parametrize(("method", "more"), [("influence_cg", {"iterations": 5}), ("datainf", {})])
@pytest.mark.parametrize("rule", RULES)
def test_a_method_without_spectrum_cannot_choose_a_damping(method, more, rule):
    (found,) = errors("methods", method, {"damping": rule} | more)
    assert found.startswith(f"methods.{method}.damping: {method} has no spectrum from which '{rule}' could choose")
