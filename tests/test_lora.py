"""Low-rank adapters: what they are, that a stack of them trains as each alone, and what their gradients are."""

import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
import reference
import torch
import yaml
from conftest import RECIPE, ROOT, TINY, Project
from torch import nn

from attriflow import engine, lora, provenance, resources, study
from attriflow.config import ConfigError
from attriflow.data import load_split
from attriflow.ensembles.lora import members
from attriflow.gradients import factored_layers, per_example
from attriflow.io import load_arrays, load_json, load_weights
from attriflow.models import Trained, builder, built, fill_adapters, load_trained, mlp, transformer, with_adapters
from attriflow.registry import Registry
from attriflow.runs import Run

pytestmark = pytest.mark.slow

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


class Shared(nn.Module):
    """A layer under two names, and a head whose weight is another's."""

    def __init__(self):
        super().__init__()
        self.first, self.third, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.second, self.third.weight = self.first, self.first.weight

    def forward(self, x):
        return self.head(torch.tanh(self.third(torch.tanh(self.second(torch.tanh(self.first(x.flatten(1))))))))


@pytest.mark.parametrize("layers", ["*", "first", "second"])
def test_a_layer_under_two_names_has_one_adapter_and_comes_back(split, layers):
    build = adapted(Shared, layers=layers)
    module = build()
    assert module.first is module.second
    assert isinstance(module.first, lora.Adapted)
    (stack,) = engine.train(build, split.train_x, split.train_y, RUNS[:1], RECIPE, 0)
    state = stack.state(0, RECIPE["epochs"])
    own = {name: state[name] for name in lora.weights(module)}
    fill_adapters(module, own, "a")
    for name, values in module.state_dict().items():
        assert torch.equal(values, state[name])


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


# --- members of an ensemble ----------------------------------------------------------------------------------


def trained_with_adapters(problem) -> Trained:
    """A base model, and two adapters after some epochs."""
    build, x, y = problem
    base = engine.initial_weights(build, 0, Run("a")).state_dict()
    (stack,) = engine.train(with_adapters(build, base, "a", OPTIONS), x, y, RUNS[:2], RECIPE, 0)
    names = lora.weights(adapted(build)())
    states = [stack.state(place, RECIPE["epochs"]) for place in range(2)]
    adapters = [{name: state[name] for name in names} for state in states]
    return Trained("full-0", 0, build, {1: base, 3: base}, {1: 0.1, 3: 0.1}, adapters=adapters)


def change(number: int) -> dict:
    return {"kind": "lora", "number": number, "adapter": OPTIONS}


def test_a_member_is_the_model_with_its_adapter_which_alone_has_gradients(problem):
    trained = trained_with_adapters(problem)
    x = torch.from_numpy(problem[1])
    x = x.double() if x.is_floating_point() else x
    first, second = (trained.changed(change(number)).model() for number in (0, 1))
    assert not torch.equal(first(x), second(x))
    assert lora.weights(first) == lora.weights(adapted(problem[0])())
    for name, value in trained.adapters[1].items():
        assert torch.equal(second.state_dict()[name], value.double())
    gradients = per_example(second, problem[1], problem[2], "loss")
    assert gradients.size == sum(value.numel() for value in trained.adapters[1].values())


def test_a_pattern_of_parameters_chooses_among_those_of_adapters(problem):
    member = trained_with_adapters(problem).changed(change(0))
    every = lora.weights(member.model())
    assert lora.weights(member.model("last", "*.down.*")) == [name for name in every if ".down." in name]
    assert lora.weights(member.model("last", "last")) == every[-1:]
    with pytest.raises(ValueError, match=r"no parameter matches 'norm\.\*'; the model has"):
        member.model("last", "norm.*")


def test_adapters_know_the_final_model_alone_and_only_those_that_were_trained_are_there(problem):
    trained = trained_with_adapters(problem)
    with pytest.raises(ValueError, match=r"epoch 1 was not kept; kept: \[3\]"):
        trained.changed(change(0)).model(1)
    with pytest.raises(ValueError, match="model full-0 has no adapter 2; 2 were trained"):
        trained.changed(change(2))


def test_members_come_model_by_model_and_differ_in_their_number_alone():
    found = members(count=2, adapters=3, rank=2, epochs=4, fraction=0.5)
    assert [member.name for member in found] == ["part0.5-0"] * 3 + ["part0.5-1"] * 3
    assert [member.change["number"] for member in found] == [0, 1, 2] * 2
    assert {member.change["recipe"]["epochs"] for member in found} == {4}
    assert found[:3] == members(count=1, adapters=3, rank=2, epochs=4, fraction=0.5)


# --- the whole way -------------------------------------------------------------------------------------------

ADAPTERS = "  lora: {count: 2, adapters: 3, rank: 2, epochs: 2, fraction: 0.5, sizes: [1x1, 1x3, 2x3], block: 2}\n"
METHODS = """methods:
  grad_dot:
  grad_cos:
  influence: {damping: [0.01, 0.1]}
  logra: {rank: 4, damping: 0.1}
  trak: {proj_dim: [4, 8], damping: [0.1, 1.0]}
  influence_down: {kind: influence, damping: 0.1, parameters: "*.down.*"}
"""
TRUTHS = re.sub("  leave_one_out:.*\n", "", TINY.split("ensembles:")[0])
CONFIG = TRUTHS + "ensembles:\n" + ADAPTERS + METHODS + "evaluation: {resamples: 100}\n"
PLACE = "models/digits_mlp/adapters/lora"


@pytest.fixture(scope="module")
def finished_adapters(tmp_path_factory) -> Project:
    """A project with an ensemble of adapters, after its first run."""
    project = Project.create(tmp_path_factory.mktemp("adapters") / "project")
    (project.folder / "config.yaml").write_text(CONFIG)
    project.snakemake()
    return project


def test_every_method_scores_adapters_and_a_second_run_does_nothing(finished_adapters):
    table = pd.read_csv(finished_adapters.folder / "results/evaluation/summary.csv")
    assert set(table.method) == {"grad_dot", "grad_cos", "influence", "logra", "trak", "influence_down"}
    assert {*zip(table.models, table.per_model, strict=True)} == {(1, 1), (1, 3), (2, 3)}
    assert np.isfinite(table.value).all()
    assert finished_adapters.planned() == set()


def test_saved_adapters_are_those_of_one_by_one_training_on_the_examples_of_the_model(finished_adapters):
    results = finished_adapters.folder / "results"
    made = study.plan_of(finished_adapters.folder)
    split = load_split(results / "data/digits.npz")
    build = builder(Registry(), made.config["settings"]["digits_mlp"]["model"], split.shape, split.classes)
    job = made.jobs[f"{PLACE}/part0.5-1"]
    base = load_trained(results / "models/digits_mlp/part0.5-1.pt", "part0.5-1", 0, build)
    saved = load_weights(results / f"{PLACE}/part0.5-1.pt")["adapters"]
    assert len(saved) == 3
    for number, weights in enumerate(saved):
        run = Run.from_dict(job.settings["runs"][number])
        assert run == Run(f"models/part0.5-1/adapters/{number}", "models/part0.5-1/subset", 0.5)
        adapted = with_adapters(build, base.final, base.name, job.settings["adapter"])
        plain = reference.train_one(adapted, split.train_x, split.train_y, run, job.settings["recipe"], 0)
        for name, value in weights.items():
            torch.testing.assert_close(value, plain[name], rtol=1e-4, atol=1e-5)


def test_gradients_of_a_prepared_member_are_those_of_its_adapter_one_backward_pass_an_example(finished_adapters):
    results = finished_adapters.folder / "results"
    split = load_split(results / "data/digits.npz")
    model = study.plan_of(finished_adapters.folder).config["settings"]["digits_mlp"]["model"]
    build, paths = builder(Registry(), model, split.shape, split.classes), {}
    for room in ("", "adapters/lora/"):
        paths[room] = results / f"models/digits_mlp/{room}part0.5-0.pt"
    base = load_trained(paths[""], "part0.5-0", 0, build, adapters=paths["adapters/lora/"])
    options = load_json(results / f"{PLACE}/part0.5-0.made.json")["spec"]["settings"]["adapter"]
    (prepared,) = results.glob("scores/digits_mlp/lora/grad_dot/*/0.npz")
    arrays = load_arrays(prepared)
    for number in range(3):
        module = base.changed({"kind": "lora", "number": number, "adapter": options}).model()
        train = reference.gradients(module, split.train_x, split.train_y, "loss")
        test = reference.gradients(module, split.test_x, split.test_y, "loss")
        expected = (train @ test.T).numpy()
        np.testing.assert_allclose(arrays[f"{number}/products"], expected, rtol=1e-4, atol=1e-5 * abs(expected).max())


def test_no_job_takes_more_memory_than_was_estimated(finished_adapters, monkeypatch):
    monkeypatch.chdir(finished_adapters.folder)
    made = study.plan_of(".")
    jobs = [job for job in made.jobs.values() if job.rule in ("adapt", "prepare")]
    assert {job.rule for job in jobs} == {"adapt", "prepare"}
    for job in jobs:
        taken = provenance.read(finished_adapters.folder / job.made)["cost"]["peak_mib"] * 2**20 / 10**6
        assert taken <= resources.megabytes(job, made.registry) <= 3 * taken + 400, job.stem


def test_the_ensemble_says_what_adapters_cost(finished_adapters):
    described = load_json(finished_adapters.folder / "results/ensembles/digits_mlp/lora.json")
    assert len(described["members"]) == 6
    for model in described["models"]:
        assert model["adapter"]["bytes"] > 0
        assert 0 < model["adapter"]["parameters"] < model["parameters"]
        assert model["adapter"]["training_flops"] > 0
        assert model["adapter"]["training_seconds"] > 0
    metrics = load_json(finished_adapters.folder / f"results/{PLACE}/part0.5-0.json")
    assert metrics["parameters"] == 2 * (64 + 8 + 8 + 10)
    assert len(metrics["adapters"]) == len(metrics["epoch_losses"]) == 3


def test_more_adapters_retrain_no_model(finished_adapters, tmp_path):
    project = finished_adapters.copy(tmp_path / "project")
    project.edit("config.yaml", "adapters: 3, rank: 2", "adapters: 4, rank: 2")
    rooms = ("data/", "models/", "ground_truth/")
    planned = {stem for stem in project.planned() if stem.startswith(rooms)}
    assert planned == {f"{PLACE}/part0.5-0", f"{PLACE}/part0.5-1"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rank: 2", "rank: 20, layers: '4'", "rank 20 is above the size of layer '4', 8 to 10; expected at most 8"),
        ("rank: 2", "layers: attention", "layers: no linear layer matches 'attention'; the model has ['1', '4']"),
    ],
)
def test_a_job_says_which_layer_an_adapter_does_not_fit(finished_adapters, tmp_path, old, new, message):
    project = finished_adapters.copy(tmp_path / "project")
    project.edit("config.yaml", old, new)
    failed = project.snakemake(f"results/{PLACE}/part0.5-0.pt", check=False)
    assert failed.returncode != 0
    assert message in failed.stderr


MIXED = """from attriflow.ensembles._changed import changed


def members():
    return changed(1, None, "lora", [{"adapter": {"rank": rank}, "recipe": {}} for rank in (1, 2)])
"""


def test_a_method_that_asks_for_an_epoch_that_adapters_do_not_know_is_refused():
    config = yaml.safe_load(CONFIG.replace("  grad_dot:\n", "  grad_dot: {epoch: [2, last]}\n"))
    with pytest.raises(
        ConfigError, match=r"grad_dot.epoch: .* are adapters of the last epoch, not epoch 2; let it score"
    ):
        study.plan(ROOT, config)


def test_adapters_that_are_not_alike_are_refused(tmp_path):
    (tmp_path / "mine/ensembles").mkdir(parents=True)
    (tmp_path / "mine/ensembles/mixed.py").write_text(MIXED)
    config = yaml.safe_load(TINY) | {"plugins": str(tmp_path / "mine"), "ensembles": {"mixed": {"sizes": [1]}}}
    with pytest.raises(ConfigError, match=r"ensembles\.mixed: adapters of a model train together"):
        study.plan(ROOT, config)
