"""Low-rank adapters: what they are, that a stack of them trains as each alone, and what their gradients are."""

from functools import partial

import numpy as np
import pytest
import reference
import torch
from conftest import RECIPE
from torch import nn

from attriflow import engine, lora
from attriflow.gradients import factored_layers, per_example
from attriflow.models import built, fill_adapters, mlp, transformer, with_adapters
from attriflow.runs import Run

OPTIONS = {"layers": "*", "rank": 2, "alpha": 4.0, "init": "zero"}
RUNS = [Run(f"models/full-0/adapters/{number}") for number in range(3)]
PERCEPTRON = partial(mlp.build, (1, 4, 4), 3, hidden=[7, 5], dropout=0.3)
TRANSFORMER = partial(transformer.build, (6,), 5, width=8, heads=2, layers=2, dropout=0.2)


def sequences(count: int = 30) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.integers(0, 5, (count, 6)), random.integers(0, 5, (count, 6))


def adapted(build, **changes):
    """A base model as its stream draws it, with adapters."""
    return with_adapters(build, engine.initial_weights(build, 0, Run("a")).state_dict(), "a", OPTIONS | changes)


PROBLEMS = {"perceptron": PERCEPTRON, "transformer": TRANSFORMER}


@pytest.fixture(params=PROBLEMS)
def problem(request, split):
    """build, x (n, ...) and y (n, ...)."""
    data = (split.train_x, split.train_y) if request.param == "perceptron" else sequences()
    return PROBLEMS[request.param], *data


ALL = [f"blocks.{block}.{part}" for block in (0, 1) for part in ("attention.1.projection", "attention.1.output",
                                                                  "perceptron.1", "perceptron.3")]  # fmt: skip


@pytest.mark.parametrize(
    ("layers", "expected"),
    [("*", [*ALL, "head"]), ("blocks.*", ALL), ("*.attention.*", [*ALL[:2], *ALL[4:6]]), ("head", ["head"])],
)
def test_a_new_adapter_changes_no_output_and_only_adapters_require_gradients(layers, expected):
    base, module = engine.initial_weights(TRANSFORMER, 0, Run("a")).eval(), adapted(TRANSFORMER, layers=layers)().eval()
    x = torch.from_numpy(sequences()[0])
    assert torch.equal(module(x), base(x))
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert trained == {f"{name}.{part}.weight" for name in expected for part in ("down", "up")}


def test_random_adapters_change_outputs_before_they_are_trained():
    x = torch.from_numpy(sequences()[0])
    base = engine.initial_weights(TRANSFORMER, 0, Run("a")).eval()
    outputs = [
        engine.initial_weights(adapted(TRANSFORMER, init="random"), 0, run).eval()(x) for run in (*RUNS[:2], RUNS[0])
    ]
    assert (outputs[0] - base(x)).abs().mean() > 0.01
    assert (outputs[0] - outputs[1]).abs().mean() > 0.01
    assert torch.equal(outputs[0], outputs[2])


def test_an_adapter_is_what_it_adds_to_the_weight(problem):
    """W + alpha / rank B A in the place of W."""
    build, x, _ = problem
    module = engine.initial_weights(adapted(build, init="random"), 0, RUNS[0]).eval()
    merged = engine.initial_weights(build, 0, Run("a")).eval()
    for name, layer in module.named_modules():
        if isinstance(layer, lora.Adapted):
            merged.get_submodule(name).weight.data += 4.0 / 2 * layer.up.weight.data @ layer.down.weight.data
    x = torch.from_numpy(x)
    torch.testing.assert_close(module(x), merged(x))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": "mlp.*"}, r"layers: no linear layer matches 'mlp\.\*'; the model has \['1', '4', '7'\]"),
        ({"rank": 4, "layers": "7"}, "rank 4 is above the size of layer '7', 5 to 3; expected at most 3"),
        ({"rank": 6}, "rank 6 is above the size of layer '4', 7 to 5; expected at most 5"),
    ],
)
def test_what_cannot_be_adapted_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        adapted(PERCEPTRON, **changes)()


RECIPES = {
    "adam": {"optimiser": "adam", "momentum": 0.0, "learning_rate": 0.01},
    "momentum": {},
    "penalty": {"weight_decay": 0.01, "schedule": "cosine", "batch_size": 7},
}


@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
def test_a_stack_of_adapters_equals_training_one_by_one_dropout_included(problem, changes):
    build, x, y = problem
    recipe, build = RECIPE | changes, adapted(build)
    (together,) = engine.train(build, x, y, RUNS, recipe, 0)
    alone = list(engine.train(build, x, y, RUNS, recipe, 0, stack=1))
    for place, run in enumerate(RUNS):
        plain = reference.train_one(build, x, y, run, recipe, 0)
        found = together.state(place, recipe["epochs"])
        assert found.keys() == plain.keys()
        for name, value in found.items():
            torch.testing.assert_close(value, alone[place].state(0, recipe["epochs"])[name], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(value, plain[name], rtol=1e-4, atol=1e-5)


def test_training_moves_every_adapter_its_own_way_and_nothing_else(problem):
    build, x, y = problem
    new = engine.initial_weights(adapted(build), 0, RUNS[0]).state_dict()
    (trained,) = engine.train(adapted(build), x, y, RUNS, RECIPE, 0)
    first, second = (trained.state(place, RECIPE["epochs"]) for place in (0, 1))
    own = lora.weights(adapted(build)())
    assert len(own) == 2 * sum(type(layer) is nn.Linear for layer in built(build).modules())
    for name in new:
        assert torch.equal(first[name], new[name]) == (name not in own)
        assert torch.equal(first[name], second[name]) == (name not in own)


def test_an_adapted_module_is_filled_by_the_weights_of_its_adapters_alone(problem):
    build, x, y = problem
    (trained,) = engine.train(adapted(build), x, y, RUNS, RECIPE, 0)
    state, module = trained.state(1, RECIPE["epochs"]), adapted(build)()
    kept = {name: state[name] for name in lora.weights(module)}
    fill_adapters(module, kept, "a-1")
    for name, value in module.state_dict().items():
        assert torch.equal(value, state[name])
    missing = sorted(kept)[0]
    with pytest.raises(ValueError, match=f"checkpoint a-1 is of another architecture: {missing}: missing"):
        fill_adapters(module, {name: value for name, value in kept.items() if name != missing}, "a-1")
    with pytest.raises(ValueError, match=r"other.weight: \(2,\), expected nothing"):
        fill_adapters(module, kept | {"other.weight": torch.zeros(2)}, "a-1")


def test_gradients_with_respect_to_adapters_are_factored_and_those_of_one_backward_pass_an_example(problem):
    build, x, y = problem
    (trained,) = engine.train(adapted(build), x, y, RUNS[:1], RECIPE, 0)
    module = adapted(build)()
    module.load_state_dict(trained.state(0, RECIPE["epochs"]))
    module = module.double().eval()
    given = torch.from_numpy(x[:2])
    given = given.double() if given.is_floating_point() else given
    assert {f"{name}.weight" for name in factored_layers(module, given)} == set(lora.weights(module))
    for output in ("loss", "margin"):
        gradients, expected = per_example(module, x, y, output), reference.gradients(module, x, y, output)
        assert gradients.size == expected.shape[1]
        torch.testing.assert_close(gradients.gram(gradients), expected @ expected.T)
