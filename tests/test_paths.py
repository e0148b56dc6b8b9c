"""Whatever the module is, the engine trains what a plain loop trains, or refuses and says why."""

import logging
from functools import partial

import numpy as np
import pytest
import reference
import torch
from conftest import RECIPE
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from attriflow import engine, outputs
from attriflow.engine import functional, further, layers, paths
from attriflow.models import aliases
from attriflow.runs import Run

RUNS = [Run("a"), Run("b"), Run("b", left_out=(3,))]
PENALTY = RECIPE | {"weight_decay": 0.05}


def trained(build, split, recipe=PENALTY, runs=RUNS) -> list[dict[str, torch.Tensor]]:
    """The state dict of every run."""
    stacks = engine.train(build, split.train_x, split.train_y, runs, recipe, 0)
    return [stack.state(place, recipe["epochs"]) for stack in stacks for place in range(len(stack.runs))]


def expect_plain(build, split, recipe=PENALTY, atol=1e-5):
    """Every run is that of a loop with torch.optim, and its weights fit a module that is built anew."""
    for run, state in zip(RUNS, trained(build, split, recipe), strict=True):
        expected = reference.train_one(build, split.train_x, split.train_y, run, recipe, 0)
        assert state.keys() == expected.keys()
        for name, values in expected.items():
            torch.testing.assert_close(state[name], values, rtol=0, atol=atol)
        build().load_state_dict(state)


def chain(*between: nn.Module) -> nn.Sequential:
    """A perceptron 16-6-3 with layers in its middle."""
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 6), *between, nn.Linear(6, 3))


def twice(layer: nn.Module) -> nn.Sequential:
    """A layer of 6 units that stands at two places."""
    return chain(layer, nn.Linear(6, 6), layer)


def hooked(register: str, hook, place: int | None = 2, **options) -> nn.Sequential:
    """A perceptron with a hook on a layer, or on all of it."""
    module = chain(nn.ReLU(), nn.Linear(6, 6), nn.ReLU())
    getattr(module if place is None else module[place], register)(hook, **options)
    return module


def changed(change, place: int = 1) -> nn.Sequential:
    """A perceptron of which a layer was changed by a function."""
    module = chain(nn.ReLU())
    change(module[place])
    return module


def tied(*names: str) -> nn.Sequential:
    """A perceptron whose two middle layers share a weight, a bias or both."""
    module = chain(nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU())
    for name in names:
        setattr(module[5], name, getattr(module[3], name))
    return module


class Doubled(nn.Linear):
    """A layer that is a Linear and does something else."""

    def forward(self, x):
        return 2 * super().forward(x)


def replaced(layer: nn.Module):
    forward = layer.forward
    layer.forward = lambda x: 2 * forward(x)


def zeroed() -> nn.Sequential:
    """A head that begins at 0: at first no gradient passes it."""
    module = twice(nn.ReLU())
    nn.init.zeros_(module[-1].weight)
    return module


class Calls(nn.Module):
    """A body and a head, the parts that tests change."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(16, 6), nn.Linear(6, 3)

    def hidden(self, x):
        return torch.relu(self.body(x.flatten(1)))

    def forward(self, x):
        return self.head(self.hidden(x))


class Scaled(Calls):
    """A hook that takes a parameter of another module than its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))
        self.body.register_forward_hook(lambda _layer, _given, output: output * self.scale)


class Named(Calls):
    """A layer under two names, both used."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = self.first

    def hidden(self, x):
        return torch.tanh(self.second(torch.tanh(self.first(super().hidden(x)))))


class Recurrent(nn.Module):
    """Without a rule for vmap."""

    def __init__(self):
        super().__init__()
        self.steps, self.head = nn.GRU(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.steps(x[:, 0])[0][:, -1])


class Counting(Calls):
    """A buffer that every pass changes in place."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        return super().forward(x) * (1 + 0.01 * self.count)


class Spare(Calls):
    """A head that no output uses."""

    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(6, 2)


class Fixed(Calls):
    """A body that is used, but not trained."""

    def hidden(self, x):
        with torch.no_grad():
            return super().hidden(x)


RIGHT = {
    "an activation twice": lambda: twice(nn.ReLU()),
    "a layer twice": lambda: twice(nn.Linear(6, 6)),
    "an idle dropout twice": lambda: twice(nn.Dropout(0.0)),
    "a head that is 0": zeroed,
    "a hook": lambda: hooked("register_forward_hook", lambda _layer, _given, output: output**2),
    "a hook on all": lambda: hooked("register_forward_hook", lambda _layer, _given, output: output / 2, None),
    "a hook with keywords": lambda: hooked(
        "register_forward_hook", lambda _layer, _given, _keywords, output: output**2, with_kwargs=True
    ),
    "a hook before": lambda: hooked("register_forward_pre_hook", lambda _layer, given: (given[0] ** 2,)),
    "a hook on the way back": lambda: hooked("register_full_backward_hook", lambda _layer, into, _out: (into[0] / 2,)),
    "a hook before the way back": lambda: hooked("register_full_backward_pre_hook", lambda _layer, out: (out[0] / 2,)),
    "pruned": lambda: changed(partial(prune.l1_unstructured, name="weight", amount=0.5)),
    "weight norm": lambda: changed(parametrizations.weight_norm),
    "old weight norm": lambda: changed(weight_norm),
    "spectral norm": lambda: changed(parametrizations.spectral_norm),
    "old spectral norm": lambda: changed(spectral_norm),
    "tied weights": lambda: tied("weight"),
    "tied biases": lambda: tied("bias"),
    "tied both": lambda: tied("weight", "bias"),
    "a subclass": lambda: chain(Doubled(6, 6), nn.ReLU()),
    "a forward of its own": lambda: changed(replaced),
    "a frozen layer": lambda: changed(lambda layer: layer.requires_grad_(False)),
    "in place": lambda: chain(nn.ReLU(inplace=True)),
    "flattened elsewhere": lambda: nn.Sequential(nn.Flatten(2), nn.Linear(16, 6), nn.Flatten(), nn.Linear(6, 3)),
    "a parameter in a hook": Scaled,
    "a layer under two names": Named,
    "recurrent": Recurrent,
    "a counter": Counting,
    "an unused head": Spare,
    "a body without gradients": Fixed,
}


@pytest.mark.parametrize("build", RIGHT.values(), ids=RIGHT)
def test_training_equals_a_plain_loop(split, build):
    expect_plain(build, split)


@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
@pytest.mark.parametrize("build", [RIGHT["tied both"], Named, Spare, Fixed], ids=["tied", "named", "spare", "fixed"])
def test_tied_and_unused_parameters_are_those_of_torchs_optimisers(split, build, optimiser):
    expect_plain(build, split, PENALTY | {"optimiser": optimiser, "momentum": 0.0, "learning_rate": 0.003})


LAYERS = {
    "linear": lambda: nn.Linear(6, 6),
    "relu": nn.ReLU,
    "relu in place": partial(nn.ReLU, inplace=True),
    "tanh": nn.Tanh,
    "dropout": partial(nn.Dropout, 0.2),
    "norm": partial(nn.LayerNorm, 6),
}
CHANGES = {
    "hook": lambda layer: layer.register_forward_hook(lambda _layer, _given, output: output * 1.5) and None,
    "pruned": lambda layer: isinstance(layer, nn.Linear) and prune.random_unstructured(layer, "weight", 0.3),
    "weight norm": lambda layer: isinstance(layer, nn.Linear) and parametrizations.weight_norm(layer),
    "frozen": lambda layer: layer.requires_grad_(False),
    "replaced": replaced,
}


def composed(kinds, repeated, changes, ties) -> nn.Sequential:
    """Layers of 6 units: some stand twice, some are changed, and some linear ones tied."""
    middle = [LAYERS[kind]() for kind in kinds]
    for place, name in changes:
        if place < len(middle) and type(middle[place]) is not nn.Dropout:  # the loop puts another layer there
            CHANGES[name](middle[place])
    linear = [layer for layer in middle if type(layer) is nn.Linear and set(layer._parameters) == {"weight", "bias"}]
    for name in ties if len(linear) > 1 else ():
        setattr(linear[-1], name, getattr(linear[0], name))
    # a dropout that stands twice is refused
    middle += [middle[place] for place in repeated if place < len(kinds) and type(middle[place]) is not nn.Dropout]
    return chain(*middle)


@settings(deadline=None, max_examples=12)
@given(
    kinds=st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=4),
    repeated=st.lists(st.integers(0, 3), max_size=2),
    changes=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(sorted(CHANGES))), max_size=2, unique_by=lambda a: a),
    ties=st.lists(st.sampled_from(["weight", "bias"]), max_size=2, unique=True),
)
def test_modules_of_any_composition_are_trained_as_by_a_plain_loop(split, kinds, repeated, changes, ties):
    build = partial(composed, kinds, repeated, changes, ties)
    try:
        states = trained(build, split)
    except ValueError as error:  # in place where a gradient needs what was there, which a plain loop refuses, too
        pytest.fail(f"{build()}: {error}")
    except RuntimeError as error:
        assert "inplace operation" in str(error)
        return
    for run, state in zip(RUNS, states, strict=True):
        expected = reference.train_one(build, split.train_x, split.train_y, run, PENALTY, 0)
        for name, values in expected.items():
            torch.testing.assert_close(state[name], values, rtol=0, atol=1e-5)


# --- which path ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(RIGHT.keys() - {"in place"}))
def test_the_fast_path_takes_nothing_that_it_does_not_represent(name):
    assert not layers.supports(RIGHT[name]())


def logits_only(_module, _given, output):
    return output


def test_the_fast_path_knows_the_hook_that_takes_logits_out_of_an_output(split):
    logits_only.__module__ = outputs.__name__
    build = partial(hooked, "register_forward_hook", logits_only, None)
    assert layers.supports(build())
    expect_plain(build, split)


def test_a_fast_path_that_says_it_can_and_cannot_is_found_out(split, monkeypatch, caplog):
    build = RIGHT["an activation twice"]
    monkeypatch.setattr(layers, "supports", lambda module: True)
    with caplog.at_level(logging.WARNING):
        expect_plain(build, split)
    assert "the fast path of perceptrons does not train this model (its loss is" in caplog.text


def test_a_head_that_is_0_hides_nothing_from_the_check(split, monkeypatch):
    monkeypatch.setattr(layers, "supports", lambda module: True)
    expect_plain(zeroed, split)


def test_runs_go_one_after_the_other_where_vmap_cannot_and_the_log_says_so(split, caplog):
    with caplog.at_level(logging.WARNING):
        trained(Recurrent, split)
    assert "all runs at once, does not train this model (RuntimeError: Batching rule not implemented" in caplog.text


def test_the_stack_changes_at_most_rounding_where_runs_go_one_after_the_other(split):
    alone = [trained(Recurrent, split, runs=[run])[0] for run in RUNS]
    for together, single in zip(trained(Recurrent, split), alone, strict=True):
        for name, values in single.items():
            torch.testing.assert_close(together[name], values, rtol=0, atol=1e-6)


def test_unused_parameters_are_named_once(split, caplog):
    with caplog.at_level(logging.WARNING):
        list(engine.train(Spare, split.train_x, split.train_y, RUNS, PENALTY, 0, stack=1))
    assert caplog.text.count("no output uses the parameters ['spare.bias', 'spare.weight']: they stay") == 1


def test_dropout_that_a_module_switched_off_stays_off(split):
    def build():
        module = chain(nn.ReLU(), nn.Dropout(0.5))
        module[3].eval()
        return module

    without = trained(partial(chain, nn.ReLU()), split)
    for state, expected in zip(trained(build, split), without, strict=True):
        torch.testing.assert_close(state["4.weight"], expected["3.weight"], rtol=0, atol=1e-6)


# --- what is refused -----------------------------------------------------------------------------------------


def shared_memory() -> nn.Sequential:
    module = tied()
    module[5].weight = nn.Parameter(module[3].weight.detach())
    return module


class Assigning(Counting):
    """A buffer that every pass replaces."""

    def forward(self, x):
        self.count = self.count + 1
        return Calls.forward(self, x) * (1 + 0.01 * self.count)


class Calling(Calls):
    """A number that every pass changes, which is no buffer."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * (1 + 0.01 * self.calls)


class Drawn(Calls):
    """Numbers of its own that are no weights."""

    def __init__(self):
        super().__init__()
        self.factors = torch.randn(6)

    def hidden(self, x):
        return super().hidden(x) * self.factors


class Routed(nn.Module):
    """Experts, of which a batch uses those that its examples need."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(16, 3) for _ in range(3))

    def forward(self, x):
        x = x.flatten(1)
        to, found = (x[:, 0] > 1).long() + (x[:, 0] > -1).long(), x.new_zeros(len(x), 3)
        for place, expert in enumerate(self.experts):
            if len(rows := (to == place).nonzero()[:, 0]):
                found = found.index_add(0, rows, expert(x[rows]))
        return found


def output_hook(hook) -> nn.Sequential:
    return hooked("register_forward_hook", lambda _layer, _given, output: hook(output), None)


REFUSED = {
    "centred": (lambda: output_hook(lambda z: z - z.mean(0)), "mixes the examples of a batch: outputs of an example"),
    "a norm by hand": (
        lambda: hooked("register_forward_hook", lambda _layer, _given, z: (z - z.mean(0)) / (z.std(0) + 0.1)),
        "mixes the examples of a batch",
    ),
    "by the size of the batch": (lambda: output_hook(lambda z: z / len(z)), "mixes the examples of a batch"),
    "the largest": (lambda: output_hook(lambda z: z / z.abs().max()), "mixes the examples of a batch"),
    "squeezed": (lambda: output_hook(lambda z: z.squeeze()), r"mixes the examples .* squeeze\(-1\)"),
    "noise": (lambda: output_hook(lambda z: z + 1e-3 * torch.randn_like(z)), "draws random numbers other than by"),
    "another dropout": (lambda: output_hook(lambda z: nn.functional.dropout(z, 0.01)), "draws random numbers other"),
    "rare dropout of maps": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout2d(1e-6), nn.Flatten(), nn.Linear(8, 3)),
        "draws random numbers other than by nn.Dropout",
    ),
    "numpy's noise": (
        lambda: output_hook(lambda z: z + float(np.random.default_rng().random())),
        "gives the same examples other outputs when it is called again",
    ),
    "counted calls": (Calling, "gives the same examples other outputs when it is called again"),
    "a replaced buffer": (Assigning, "the buffer 'count' is another after a pass; .* no buffers that a forward pass"),
    "a hook on a gradient": (
        lambda: changed(lambda layer: layer.weight.register_hook(lambda gradient: gradient / 2)),
        "the engine does not train what this model is: the gradient of '1.weight' is .* no hooks on gradients",
    ),
    "weights that are none": (Drawn, "training a: the saved model has a loss of .* a parameter or a buffer"),
    "shared memory": (shared_memory, "weights '3.weight' and '5.weight' share memory but are not one parameter"),
    "experts": (Routed, r"some steps use the parameter 'experts.\d.weight'"),
    "nothing to train": (lambda: chain().requires_grad_(False), "there is nothing to train"),
}


@pytest.mark.parametrize(("build", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_trained_as_it_is_is_refused(split, build, message):
    with pytest.raises(ValueError, match=message):
        trained(build, split)


def test_a_saved_model_that_is_not_what_was_trained_is_refused_by_its_run(split, build, monkeypatch):
    state = layers.Stack.state
    monkeypatch.setattr(
        layers.Stack, "state", lambda stack: {name: values.roll(1, 0) for name, values in state(stack).items()}
    )
    with pytest.raises(ValueError, match=r"training a: the saved model has a loss of .*, where the engine has"):
        trained(build, split)


def test_outputs_that_depend_on_the_batch_after_training_alone_are_refused(split, monkeypatch):
    monkeypatch.setattr(paths, "_refuse_what_no_run_reproduces", lambda module, x: None)
    with pytest.raises(ValueError, match="training a: the saved model has a loss of"):
        trained(lambda: output_hook(lambda z: z - z.mean(0)), split)


# --- tied weights, further -----------------------------------------------------------------------------------

FURTHER = {"optimiser": "sgd", "learning_rate": 0.02, "momentum": 0.9, "weight_decay": 0.01, "batch_size": 16}


@pytest.mark.parametrize("estimator", further.ESTIMATORS)
@pytest.mark.parametrize(
    "name", ["tied both", "a layer under two names", "an activation twice", "recurrent", "weight norm", "pruned",
             "an unused head", "a body without gradients"],
)  # fmt: skip
def test_further_training_equals_an_explicit_loop(split, name, estimator):
    build = RIGHT[name]
    (weights,) = trained(build, split, runs=RUNS[:1])
    data = (split.train_x, split.train_y, split.test_x, split.test_y)
    runs = [Run("further/0"), Run("further/0", left_out=(3,))]
    stacks = further.train(build, weights, *data, runs, FURTHER, 0, amounts=[1, 2], estimator=estimator)
    found = np.concatenate([stack.losses for stack in stacks])
    for run, losses in zip(runs, found, strict=True):
        count = 40 - (len(run.left_out) if estimator == "deletion" else 0)
        steps = further.steps([1, 2], count, 16)
        expected = reference.further_one(build, weights, split, run, FURTHER, 0, steps, estimator, True)
        np.testing.assert_allclose(losses, expected, atol=1e-5)


def test_the_resolution_rounds_tied_weights_once(split):
    build = RIGHT["tied both"]
    (weights,) = trained(build, split, runs=RUNS[:1])
    found = further.resolution(build, weights, split.test_x, split.test_y, 0)
    once = {name: values for name, values in weights.items() if name not in aliases(build())}
    np.testing.assert_array_equal(found, further.resolution(build, once, split.test_x, split.test_y, 0))


def test_passes_that_only_look_leave_buffers_as_they_were():
    module = Counting()
    functional.sites(module, torch.zeros(2, 1, 4, 4))
    assert module.count == 0
