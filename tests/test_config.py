"""The config: wrong ones are refused early, by the key's path, with what would be right."""

import copy
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, TINY

from attriflow import hyperparameters, study
from attriflow.config import ConfigError, check, merge, read
from attriflow.registry import CONTRACTS, REQUIRED, Registry

SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())


def errors(*path_and_value, remove=None) -> list[str]:
    """What `check` says of the tiny config with one value set, or one key removed."""
    config = yaml.safe_load(TINY)
    *keys, last = path_and_value[:-1] if remove is None else path_and_value
    place = config
    for key in keys:
        place = place.setdefault(key, {})
    if remove is None:
        place[last] = path_and_value[-1]
    else:
        del place[last]
    with pytest.raises(ConfigError) as caught:
        check(config, SCHEMA)
    return caught.value.errors


SETTING = ("settings", "digits_mlp")
WRONG = {
    "unknown hyperparameter": (
        ("methods", "trak", {"dampng": [0.1], "proj_dim": 4}),
        "methods.trak.dampng: trak takes ['damping', 'epoch', 'parameters', 'proj_dim', 'projection'], not 'dampng'; did you mean 'damping'?",
    ),
    "missing hyperparameter": (("methods", "trak", {"proj_dim": 4}), "methods.trak.damping: missing; trak needs it: a number of at least 0"),
    "unknown method": (("methods", "trka", {}), "methods.trka: unknown scores 'trka'; did you mean 'trak'?"),
    "unknown kind": (
        ("methods", "mine", {"kind": "trka"}),
        "methods.mine.kind: unknown scores 'trka'; did you mean 'trak'?",
    ),
    "unknown dataset kind": (("datasets", "digts", {"train": 9, "test": 2}), "datasets.digts: unknown data 'digts'; did you mean 'digits'?"),
    "an unknown dataset kind that is near none": (("datasets", "zzz", {"train": 9, "test": 2}), "datasets.zzz: unknown data 'zzz'; known: ['adult', 'cifar2', 'concrete', 'diabetes', 'digits', 'energy', 'fico'"),
    "unknown dataset": ((*SETTING, "dataset", "mnist"), "settings.digits_mlp.dataset: unknown 'mnist'; known: ['digits']"),
    "unknown model": ((*SETTING, "model", {"kind": "mpl"}), "settings.digits_mlp.model.kind: unknown models 'mpl'; known: ['bert', 'cnn', 'logistic', 'mlp', 'transformer']"),
    "unknown choice": (("run", "methods", ["lissa"]), "run.methods: unknown 'lissa'; known: ['grad_dot', 'influence', 'trak']"),
    "skipping an unknown setting": (
        ("methods", "grad_dot", {"skip": ["digits_cnn"]}),
        "methods.grad_dot.skip: unknown 'digits_cnn'; known: ['digits_mlp']",
    ),
    "unknown figure": (("run", "figures", ["pie"]), "run.figures: unknown 'pie'; known: ['damping_selection'"),
    "unknown key": ((*SETTING, "recipe", "epoch", 3), "settings.digits_mlp.recipe.epoch: unknown; known: ['batch_size', 'epochs', 'learning_rate', 'momentum', 'optimiser', 'schedule', 'weight_decay']; did you mean 'epochs'?"),
    "unknown top key": (("ensemble", {}), "ensemble: unknown; known: ['datasets'"),
    "text for a number": (("methods", "influence", "damping", ["1e-5"]), "methods.influence.damping[0]: must be a number of at least 0, not '1e-5' (text: YAML reads 1e-5 as text, write 1.0e-5)"),
    "text for a rate": ((*SETTING, "recipe", "learning_rate", "1e-2"), "settings.digits_mlp.recipe.learning_rate: must be a number, not '1e-2' (text: YAML reads"),
    "negative damping": (("methods", "influence", "damping", [0.1, -1.0]), "methods.influence.damping[1]: must be a number of at least 0, not -1.0"),
    "infinite damping": (("methods", "influence", "damping", float("inf")), "methods.influence.damping: must be a number of at least 0, not inf"),
    "bool for a number": (("methods", "influence", "damping", True), "must be a number of at least 0, not True"),
    "damping twice": (("methods", "influence", "damping", [0.1, 0.1]), "methods.influence.damping: the same value twice"),
    "no damping": (("methods", "influence", "damping", []), "methods.influence.damping: an empty list"),
    "fraction of one": (("ground_truth", "subsets", "fraction", 1.0), "ground_truth.subsets.fraction: must be a number strictly between 0 and 1, not 1.0"),
    "fraction of zero": (("ground_truth", "subsets", "fraction", 0), "strictly between 0 and 1, not 0"),
    "noise of one": (("datasets", "digits", "label_noise", {"fraction": 1.0}), "datasets.digits.label_noise.fraction: must be below 1, not 1.0"),
    "no subsets": (("ground_truth", "subsets", "count", 0), "ground_truth.subsets.count: must be a whole number of at least 1, not 0"),
    "half an epoch": ((*SETTING, "recipe", "epochs", 1.5), "settings.digits_mlp.recipe.epochs: must be a whole number, not 1.5"),
    "no epochs": ((*SETTING, "recipe", "epochs", 0), "settings.digits_mlp.recipe.epochs: must be at least 1, not 0"),
    "unknown optimiser": ((*SETTING, "recipe", "optimiser", "lbfgs"), "must be one of ['sgd', 'adam', 'adamw'], not 'lbfgs'"),
    "momentum of adam": ((*SETTING, "recipe", "optimiser", "adam"), "settings.digits_mlp.recipe.momentum: only sgd takes it"),
    "unknown curvature": (("methods", "influence", "curvature", "kfac"), "methods.influence.curvature: must be one of ['fisher', 'ggn', 'hessian'], not 'kfac'"),
    "more tests than there are": (("datasets", "digits", "test", 1740), "datasets.digits: 60 training and 1740 test examples are more than the 1797 there are"),
    "more MNIST than there is": (("datasets", "mnist", {"train": 60001, "test": 5}), "datasets.mnist.train: 60001 is more than the 60000 examples there are"),
    "more buildings than there are": (("datasets", "energy", {"train": 700, "test": 69}), "datasets.energy: 700 training and 69 test examples are more than the 768 there are"),
    "noise on numbers": (("datasets", "diabetes", {"train": 60, "test": 9, "label_noise": {"fraction": 0.1}}), "datasets.diabetes.label_noise: diabetes is a regression; noise replaces a class by another one"),
    "noise on what the config calls numbers": (("datasets", "digits", {"train": 60, "test": 9, "task": "regression", "label_noise": {"fraction": 0.1}}), "datasets.digits.label_noise: digits is a regression; noise replaces a class by another one"),
    "an unknown task": (("datasets", "digits", "task", "ranking"), "datasets.digits.task: must be one of ['classification', 'regression'"),
    "size above the members": (("ensembles", "independent", "sizes", [1, 3]), "ensembles.independent.sizes[1]: 3 is more than its 2 models"),
    "epoch not kept": (("methods", "influence", "epoch", 3), "methods.influence.epoch: settings.digits_mlp does not keep epoch 3; its checkpoints: [2, 'last']"),
    "checkpoint beyond the end": ((*SETTING, "checkpoints", [2, 9]), "settings.digits_mlp.checkpoints: epoch 9 lies beyond the last, 4"),
    "left out beyond the data": (("ground_truth", "leave_one_out", "examples", [3, 60]), "ground_truth.leave_one_out.examples: [60] lies beyond the 60 training examples"),
    "left out twice": (("ground_truth", "leave_one_out", "examples", [3, 3]), "must be how many (at least 1), or a list of distinct indices"),
    "dropout of one": ((*SETTING, "model", "dropout", 1.0), "settings.digits_mlp.model.dropout: must be a number from 0 to below 1, not 1.0"),
    "width of zero": ((*SETTING, "model", "hidden", [8, 0]), "settings.digits_mlp.model.hidden: must be a list, each a whole number of at least 1"),
    "name with a slash": (("methods", "../trak", {"kind": "trak", "damping": 1, "proj_dim": 4}), "methods['../trak']: a name must be at most 100 lower-case letters"),
    "plugins that are nowhere": (("plugins", "nowhere"), "plugins: 'nowhere' is not a folder"),
    "only an unknown method": (("ensembles", "independent", "only", {"methods": ["lissa"]}), "ensembles.independent.only.methods: unknown 'lissa'"),
    "only an unknown setting": (("methods", "grad_dot", {"only": {"settings": ["cifar"]}}), "methods.grad_dot.only.settings: unknown 'cifar'"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_config_is_refused_with_the_keys_path(change, message):
    found = errors(*change)
    assert any(line.startswith(message) or message in line for line in found), found
    assert all("\n" not in line for line in found)


def test_a_setting_of_which_nothing_would_be_made_is_refused():
    config = yaml.safe_load(TINY)
    config["ensembles"]["independent"]["skip"] = ["digits_mlp"]
    check(config, SCHEMA)  # what is retrained needs no ensemble
    for truth in config["ground_truth"].values():
        truth["skip"] = ["digits_mlp"]
    with pytest.raises(ConfigError, match=r"settings.digits_mlp: nothing is made of it: .*ensembles \['independent'\]"):
        check(config, SCHEMA)


def test_an_ensemble_is_scored_by_the_methods_that_it_names():
    config = yaml.safe_load(TINY)
    config["ensembles"]["other"] = {"kind": "independent", "only": {"methods": ["grad_dot"]}}
    jobs = [job.settings for job in study.plan(ROOT, config).room("scores") if job.rule == "score"]
    scored = {(job["ensemble"], job["method"]) for job in jobs}
    assert {method for ensemble, method in scored if ensemble == "other"} == {"grad_dot"}
    assert {method for ensemble, method in scored if ensemble == "independent"} == set(config["methods"])


def test_what_the_run_names_and_runs_nowhere_is_refused():
    config = yaml.safe_load(TINY)
    config["methods"]["grad_dot"] = {"skip": ["digits_mlp"]}
    check(config, SCHEMA)  # of all methods, one that the settings of a run leave out is no mistake
    config["run"] = {"methods": ["grad_dot", "influence"]}
    with pytest.raises(
        ConfigError, match=r"run.methods: grad_dot runs nowhere in this run; methods.grad_dot has .*digits_mlp"
    ):
        check(config, SCHEMA)
    config["methods"]["grad_dot"] = {}
    config["ensembles"]["independent"]["only"] = {"methods": ["influence"]}
    with pytest.raises(ConfigError, match=r"run\.methods: grad_dot runs nowhere in this run"):
        check(config, SCHEMA)
    config["run"] = {"methods": ["grad_dot"], "ensembles": ["independent"]}
    with pytest.raises(ConfigError, match=r"run\.ensembles: independent runs nowhere in this run"):
        check(config, SCHEMA)


def test_all_errors_are_reported_at_once():
    config = yaml.safe_load(TINY)
    config["methods"]["influence"]["damping"] = [-1.0]
    config["methods"]["trak"] = {"dampng": 1}
    config["settings"]["digits_mlp"]["dataset"] = "mnist"
    with pytest.raises(ConfigError) as caught:
        check(config, SCHEMA)
    assert len(caught.value.errors) == 4


def test_a_method_that_does_not_run_need_not_agree_with_the_settings_that_do():
    config = yaml.safe_load(TINY)
    config["methods"]["trak"] |= {"epoch": 3}
    with pytest.raises(ConfigError, match=r"does not keep epoch 3"):
        check(config, SCHEMA)
    check(config | {"run": {"methods": ["influence"]}}, SCHEMA)


REGRESSION = {
    "the margin of a number": ("grad_dot", {"target": ["loss", "margin"]}, "methods.grad_dot.target: settings.diabetes_mlp is a regression, whose only output is 'loss', not ['margin']"),
    "a method for classes": ("rps", {}, "methods.rps: rps is for classes and settings.diabetes_mlp is a regression; `skip` it there"),
}  # fmt: skip


@pytest.mark.parametrize(("method", "entry", "message"), REGRESSION.values(), ids=REGRESSION)
def test_what_needs_classes_is_refused_where_a_regression_runs_with_it(method, entry, message):
    config = yaml.safe_load(TINY)
    config["datasets"]["diabetes"] = {"train": 60, "test": 12}
    config["settings"]["diabetes_mlp"] = config["settings"]["digits_mlp"] | {"dataset": "diabetes"}
    config["methods"][method] = entry
    with pytest.raises(ConfigError) as caught:
        check(config, SCHEMA)
    assert caught.value.errors == [message]
    config["methods"][method] = entry | {"skip": ["diabetes_mlp"]}
    check(config, SCHEMA)
    config["methods"][method] = entry
    check(config | {"run": {"settings": ["digits_mlp"]}}, SCHEMA)


def test_a_missing_key_is_named():
    assert errors(*SETTING, "recipe", "epochs", remove=True) == [
        "settings.digits_mlp.recipe.epochs: missing; Passes over the training examples."
    ]


def test_a_run_may_measure_against_nothing():
    config = yaml.safe_load(TINY) | {"run": {"ground_truth": []}}
    assert check(config, SCHEMA)["run"]["ground_truth"] == []


def test_defaults_are_filled_in_and_the_given_config_is_left_alone():
    config = yaml.safe_load(TINY)
    before = copy.deepcopy(config)
    full = check(config, SCHEMA)
    assert config == before
    assert full["settings"]["digits_mlp"]["recipe"]["optimiser"] == "sgd"
    assert full["datasets"]["digits"] == {
        "kind": "digits", "train": 60, "test": 12, "standardise": True, "label_noise": None, "task": None,
    }  # fmt: skip
    assert full["methods"]["grad_dot"] == {"kind": "grad_dot", "only": {}, "skip": []}
    assert full["evaluation"] == {"resamples": 100, "confidence": 0.95}


def test_overrides_merge_mappings_and_replace_lists():
    merged = merge({"a": {"b": [1, 2], "c": 1}}, {"a": {"b": [3]}})
    assert merged == {"a": {"b": [3], "c": 1}}


def test_a_file_that_is_no_mapping_is_refused(tmp_path):
    (tmp_path / "c.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match=r"c.yaml: must be a mapping at the top, not list"):
        read(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigError, match=r"c.yaml: not YAML: "):
        read(tmp_path / "c.yaml")


@pytest.mark.parametrize("name", ["default", *study.names(ROOT)])
def test_every_study_makes_a_plan(name):
    plan = study.plan_of(ROOT, name)
    assert all(plan.room(room) for room in ("data", "models", "scores", "evaluation", "figures"))
    assert len(plan.files()) == sum(len(job.outputs) + 1 for job in plan.jobs.values())


def test_a_study_bears_the_name_of_its_file(tmp_path):
    (tmp_path / "studies").mkdir()
    (tmp_path / "config.yaml").write_text(TINY)
    (tmp_path / "studies/mine.yaml").write_text("study: yours\n")
    with pytest.raises(ConfigError, match=r"mine.yaml: study: must be 'mine', the name of its file, not 'yours'"):
        study.plan_of(tmp_path, "mine")


# --- the registry, over every file of every folder -----------------------------------------------------------

REGISTRY = Registry()


@pytest.mark.parametrize(("room", "kind"), [(room, kind) for room in CONTRACTS for kind in REGISTRY.kinds(room)])
def test_every_kind_fulfils_the_contract_of_its_room(room, kind):
    for function in CONTRACTS[room]:
        for name, hyperparameter in REGISTRY.hyperparameters(room, kind, function).items():
            if room == "evaluation":  # its keywords come from the config's own section, not from a grid
                continue
            value = None if hyperparameter.default is REQUIRED else hyperparameter.default
            problem = hyperparameters.problem(value, hyperparameter.annotation)  # raises if it cannot be read
            assert hyperparameter.default is REQUIRED or problem is None
            assert name not in ("kind", "only", "sizes", "block"), "words that entries of the config keep to themselves"
    assert callable(getattr(REGISTRY.load(room, kind), CONTRACTS[room][0]))


def test_a_plugin_is_found_by_its_file_and_may_not_shadow_ours(tmp_path):
    folder = tmp_path / "mine/scores"
    folder.mkdir(parents=True)
    (folder / "length.py").write_text(
        "from attriflow.hyperparameters import Positive\ndef score(members, *, power: Positive = 2.0): ...\n"
    )
    registry = Registry(tmp_path / "mine")
    assert registry.hyperparameters("scores", "length", "score")["power"].default == 2.0
    assert registry.load("scores", "length").score.__name__ == "score"
    (folder / "trak.py").write_text("")
    registry = Registry(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"plugins: scores \['trak'\] exist in attriflow already"):
        registry.kinds("scores")


def test_hyperparameters_without_annotation_are_refused(tmp_path):
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores/mine.py").write_text("def score(members, *, power=2): ...\n")
    with pytest.raises(ValueError, match="hyperparameter 'power' has no annotation"):
        Registry(tmp_path).hyperparameters("scores", "mine", "score")


def test_the_example_of_the_readme_exists():
    assert Path(ROOT, "studies/mnist.yaml").exists()
