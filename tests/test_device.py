"""Numbers do not depend on the device, and on the precision only as far as it reaches."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from conftest import RECIPE, toy_regression, toy_split, trained_members
from simulated_device import SIM
from test_layerwise import token_split

from attriflow import device, engine
from attriflow.device import CPU
from attriflow.engine import further
from attriflow.models import cnn, mlp, transformer
from attriflow.registry import Registry
from attriflow.runs import Run

# what a method needs to be prepared and scored
PREPARED = {
    "influence": {"curvature": "hessian"},
    "influence_cg": {"curvature": "hessian", "iterations": 5},
    "influence_arnoldi": {"curvature": "hessian", "iterations": 5},
    "influence_corrected": {"curvature": "hessian", "damping": 0.1},
    "influence_lissa": {"curvature": "ggn", "damping": 0.1, "scale": 20.0, "depth": 10, "batch": 8},
    "logra": {"rank": 3},
    "unrolled": {"curvature": "hessian"},
    "trak": {"proj_dim": 6},
}
SCORED = {
    "influence": {"damping": 0.1},
    "influence_cg": {"damping": 0.1, "iterations": 5},
    "influence_arnoldi": {"damping": 0.1, "iterations": 5},
    "datainf": {"damping": 0.1},
    "ekfac": {"damping": 0.1},
    "logra": {"damping": 0.1},
    "unrolled": {"steps": 10, "learning_rate": 0.01},
    "trak": {"damping": 0.1, "proj_dim": 6},
}
METHODS = sorted(Registry().kinds("scores"))

MODELS = {
    "mlp": (toy_split(), partial(mlp.build, (1, 4, 4), 3, hidden=[5], dropout=0.0)),
    "cnn": (toy_split(shape=(1, 8, 8)), partial(cnn.build, (1, 8, 8), 3, channels=[4])),
    "transformer": (token_split(), partial(transformer.build, (2,), 3, width=4, heads=2, layers=1)),
    "regression": (toy_regression(), partial(mlp.build, (6,), 1, hidden=[5], dropout=0.0)),
}


def scores_on(where: torch.device, method: str, split, members, dtype=torch.float64, fisher=False) -> np.ndarray:
    """The scores (n, m) of a method whose gradients are taken there. fisher: by that curvature."""
    module = Registry().load("scores", method)
    needed = PREPARED.get(method, {})
    if fisher and "curvature" in needed:
        needed = needed | {"curvature": "fisher"}  # forward derivatives know no simulated device
    moved = [replace(member, device=where, dtype=dtype) for member in members]
    prepared = [module.prepare(member, split, **needed) for member in moved]
    return np.asarray(list(module.score(prepared, **SCORED.get(method, {})))[-1])


@pytest.fixture(scope="module")
def problems():
    """Every model with its data and two members."""
    return {name: (split, trained_members(split, build, 2)) for name, (split, build) in MODELS.items()}


@pytest.fixture
def simulated():
    """The device that computes on the processor and refuses operands from two devices."""
    return torch.device(SIM)


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_the_same_on_another_device(method, problems, simulated):
    split, members = problems["mlp"]
    here, there = (scores_on(where, method, split, members, fisher=True) for where in (CPU, simulated))
    np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-6 * np.abs(here).max())


@pytest.mark.parametrize("model", ["cnn", "transformer", "regression"])
@pytest.mark.parametrize("method", ["grad_dot", "influence_cg", "ekfac", "logra", "trak"])
def test_every_layer_moves_to_the_device(model, method, problems, simulated):
    split, members = problems[model]
    here, there = (scores_on(where, method, split, members, fisher=True) for where in (CPU, simulated))
    np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-6 * np.abs(here).max())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("left_out", [(), (3,)])
def test_trainings_are_the_same_on_another_device(model, left_out, simulated):
    split, build = MODELS[model]
    runs = [Run(f"models/{place}", left_out=left_out) for place in range(3)]
    found = []
    for where in (CPU, simulated):
        (stack,) = engine.train(build, split.train_x, split.train_y, runs, RECIPE, 0, stack=3, device=where)
        found.append(engine.measure(build, stack.weights[3], split.test_x, split.test_y, where))
    here, there = found
    for output in here:
        np.testing.assert_allclose(there[output], here[output], rtol=1e-6)


@pytest.mark.parametrize("estimator", further.ESTIMATORS)
@pytest.mark.parametrize("model", MODELS)
def test_further_training_is_the_same_on_another_device(model, estimator, simulated):
    split, build = MODELS[model]
    runs, weights = [Run("a"), Run("a", left_out=(3,))], build().state_dict()
    recipe = {name: RECIPE[name] for name in ("optimiser", "learning_rate", "momentum", "weight_decay", "batch_size")}
    data, options = (split.train_x, split.train_y, split.test_x, split.test_y), {"amounts": [0.5, 2]}
    here, there = (
        np.concatenate(
            [
                stack.losses
                for stack in further.train(
                    build, weights, *data, runs, recipe, 0, estimator=estimator, device=where, **options
                )
            ]
        )
        for where in (CPU, simulated)
    )
    np.testing.assert_allclose(there, here, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_single_precision_agrees_as_far_as_it_reaches(method, problems):
    split, members = problems["mlp"]
    double, single = (scores_on(CPU, method, split, members, dtype) for dtype in device.DTYPES.values())
    assert np.abs(single - double).max() < 2e-3 * np.abs(double).max()


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.choose("auto") == CPU
    with pytest.raises(ValueError, match=r"'cuda' asked for, but torch .* finds none; use 'cpu' or 'auto'"):
        device.choose("cuda")


def test_operands_on_two_devices_are_refused_by_the_simulated_one(simulated):
    with pytest.raises(RuntimeError, match="operands on 'sim' and on 'cpu'"):
        torch.ones(2, device=simulated) + torch.ones(2)


# what they are not for, and what they say
REFUSED = {
    ("knn_shapley", "transformer"): "every position of a sequence has a label",
    ("rps", "transformer"): "one vector an example",
    ("rps", "regression"): "labels are numbers, and the method is for classes",
}
PAIRS = [(method, model) for method in METHODS for model in MODELS if (method, model) not in REFUSED]


@pytest.mark.parametrize(("method", "model"), sorted(REFUSED))
def test_labels_are_refused_by_methods_that_are_not_for_them(method, model, problems):
    with pytest.raises(ValueError, match=REFUSED[method, model]):
        scores_on(CPU, method, *problems[model])


@pytest.mark.parametrize(("method", "model"), PAIRS)
def test_every_other_method_scores_every_model(method, model, problems):
    split, members = problems[model]
    assert scores_on(CPU, method, split, members).shape == (len(split.train_y), len(split.test_y))


@pytest.mark.gpu
@pytest.mark.parametrize(("method", "model"), PAIRS)
def test_scores_agree_on_a_gpu(method, model, problems):
    split, members = problems[model]
    here, there = (scores_on(where, method, split, members) for where in (CPU, torch.device("cuda")))
    np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-5 * np.abs(here).max())


@pytest.mark.gpu
def test_trainings_agree_on_a_gpu():
    split, build = MODELS["mlp"]
    runs = [Run(f"models/{place}") for place in range(3)]
    losses = []
    for where in (CPU, torch.device("cuda")):
        (stack,) = engine.train(build, split.train_x, split.train_y, runs, RECIPE, 0, stack=3, device=where)
        losses.append(engine.measure(build, stack.weights[3], split.test_x, split.test_y, where)["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
