"""The config: read, filled with the schema's defaults, and checked whole before anything runs.

Shape and types come from the JSON schema; names and hyperparameters from the files of the rooms (`registry`).
Every error names the key's path, what was given and what would be right; all errors are reported at once.
"""

import copy
import math
from pathlib import Path

import jsonschema
import yaml

from attriflow import hyperparameters
from attriflow.ensembles import Member, whole
from attriflow.registry import REQUIRED, Registry
from attriflow.sizes import EnsembleSize

# catalogue of the config -> (room of the registry, functions whose hyperparameters an entry gives)
CATALOGUES = {
    "datasets": ("data", ("load",)),
    "ground_truth": ("ground_truth", ("runs", "training")),
    "ensembles": ("ensembles", ("members",)),
    "methods": ("scores", ("prepare", "score")),
}


# keys of an ensemble that are not hyperparameters of its kind
ENSEMBLES_OWN = ("kind", "sizes", "block", "only", "skip")
OPTIONAL = {"training"}  # functions that a kind need not have


class ConfigError(ValueError):
    """What is wrong with a config, one line an error."""

    def __init__(self, errors: list[str]):
        super().__init__("\n".join(errors))
        self.errors = errors


def read(*paths: Path) -> dict:
    """The first file, overridden by the others: mappings are merged, everything else is replaced."""
    config: dict = {}
    for path in paths:
        try:
            content = yaml.safe_load(Path(path).read_text())
        except yaml.YAMLError as error:
            raise ConfigError([f"{path}: not YAML: {' '.join(str(error).split())}"]) from error
        if not isinstance(content, dict):
            raise ConfigError([f"{path}: must be a mapping at the top, not {type(content).__name__}"])
        config = merge(config, content)
    return config


def merge(base: dict, override: dict) -> dict:
    """A new mapping, in which `override` wins."""
    merged = copy.deepcopy(base)
    for key, value in override.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else copy.deepcopy(value)
    return merged


def check(config: dict, schema: dict) -> dict:
    """The config with every default filled in. Raises ConfigError with everything that is wrong."""
    _check_shape(config, schema)
    full = copy.deepcopy(config)
    for catalogue in (*CATALOGUES, "settings"):
        # by name: whoever merges a study into the config, we or a workflow engine, leaves another order behind
        full[catalogue] = dict(sorted(full[catalogue].items()))
    for catalogue in CATALOGUES:
        full[catalogue] = {name: {"kind": name} | (entry or {}) for name, entry in full[catalogue].items()}
    full = _fill(full, schema, schema)
    for setting in full["settings"].values():
        if setting["checkpoint"] is not None:
            setting["access"] = "final_model"  # nothing else is known
    if full["removal"]:
        full["removal"] = _arranged(full["removal"], full)
    try:
        registry = Registry(full["plugins"])
    except ValueError as error:
        raise ConfigError([str(error)]) from error
    errors = [*_choice_errors(full, registry), *_entry_errors(full, registry)]
    errors = errors or list(_agreement_errors(full, registry))
    if errors:
        raise ConfigError(errors)
    return full


def _arranged(removal: dict, config: dict) -> dict:
    """Dampings in one order, however they were merged: values, the rule, the oracle; the ensemble, if one is scored."""

    def place(item: tuple[str, float | str]):
        name, damping = item
        return (isinstance(damping, str), damping == "best", damping, name)

    methods = [config["methods"][name] for name in removal["methods"] if name in config["methods"]]
    settings = {setting for method in methods for setting in chosen_settings(config, method)}
    names = [name for name in config["run"].get("ensembles", config["ensembles"]) if name in config["ensembles"]]
    entries = {name: config["ensembles"][name] for name in names}
    ensembles = [
        name
        for name, entry in entries.items()
        if settings & {*chosen_settings(config, entry)}
        and {*removal["methods"]} & {*entry["only"].get("methods", removal["methods"])}
    ]
    only = ensembles[0] if len(ensembles) == 1 else None
    dampings = dict(sorted(removal["dampings"].items(), key=place))
    return removal | {"dampings": dampings, "ensemble": removal["ensemble"] or only}


# --- shape ---------------------------------------------------------------------------------------------------


def _check_shape(config: dict, schema: dict):
    validator = jsonschema.Draft202012Validator(schema)
    errors = sorted(validator.iter_errors(config), key=lambda error: list(map(str, error.absolute_path)))
    if errors:
        raise ConfigError([_sentence(error) for error in errors])


def _sentence(error: jsonschema.ValidationError) -> str:
    where = path(*error.absolute_path)
    match error.validator:
        case "additionalProperties":
            known = sorted(error.schema["properties"])
            unknown = sorted(set(error.instance) - set(known))
            return f"{where}: unknown {unknown}; known: {known}"
        case "required":
            missing = sorted(set(error.validator_value) - set(error.instance))
            return f"{where}: {missing} missing"
        case "type":
            hint = ""
            if isinstance(error.instance, str) and error.validator_value in ("number", "integer"):
                hint = " (text: YAML reads 1e-5 as text, write 1.0e-5)"
            return f"{where}: must be {error.validator_value}, not {error.instance!r}{hint}"
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
            words = {
                "minimum": "at least",
                "exclusiveMinimum": "above",
                "maximum": "at most",
                "exclusiveMaximum": "below",
            }
            return f"{where}: must be {words[error.validator]} {error.validator_value}, not {error.instance!r}"
        case "enum":
            return f"{where}: must be one of {error.validator_value}, not {error.instance!r}"
    return f"{where}: {error.message}"


def path(*keys: str | int) -> str:
    """A key's place as one reads it: methods.trak.damping[2]."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.lstrip(".") or "config"


def _fill(value, schema: dict, root: dict):
    schema = _resolve(schema, root)
    if isinstance(value, dict):
        for key, inner in schema.get("properties", {}).items():
            resolved = _resolve(inner, root)
            if key not in value and "default" in resolved:
                value[key] = copy.deepcopy(resolved["default"])
            if key in value:
                value[key] = _fill(value[key], inner, root)
        each = schema.get("additionalProperties")
        if isinstance(each, dict):
            for key in value.keys() - schema.get("properties", {}).keys():
                value[key] = _fill(value[key], each, root)
    return value


def _resolve(schema: dict, root: dict) -> dict:
    if "$ref" not in schema:
        return schema
    target = root
    for key in schema["$ref"].removeprefix("#/").split("/"):
        target = target[key]
    return target | {key: value for key, value in schema.items() if key != "$ref"}


# --- names and hyperparameters -------------------------------------------------------------------------------


def _choice_errors(config: dict, registry: Registry):
    """Names that are written somewhere and must exist elsewhere."""
    run = config["run"]
    for room in ("settings", "ground_truth", "ensembles", "methods"):
        yield from _unknown(path("run", room), run.get(room, []), config[room])
    yield from _unknown("run.figures", run.get("figures", []), registry.kinds("figures"))
    for name, setting in config["settings"].items():
        yield from _unknown(path("settings", name, "dataset"), [setting["dataset"]], config["datasets"])
    for catalogue in ("ground_truth", "ensembles"):
        for name, entry in config[catalogue].items():
            where = path(catalogue, name, "only", "settings")
            yield from _unknown(where, entry["only"].get("settings", []), config["settings"])
            yield from _unknown(path(catalogue, name, "skip"), entry["skip"], config["settings"])
    for name, ensemble in config["ensembles"].items():
        where = path("ensembles", name, "only", "methods")
        yield from _unknown(where, ensemble["only"].get("methods", []), config["methods"])
    for name, method in config["methods"].items():
        for room in ("settings", "ensembles"):
            yield from _unknown(path("methods", name, "only", room), method["only"].get(room, []), config[room])
        yield from _unknown(path("methods", name, "skip"), method["skip"], config["settings"])


def _unknown(where: str, names, known):
    for name in names:
        if name not in known:
            yield f"{where}: unknown '{name}'; known: {sorted(known)}"


def _entry_errors(config: dict, registry: Registry):
    """Kinds and hyperparameters of every entry of the catalogue, chosen or not."""
    own = {"datasets": {"train", "test", "standardise", "label_noise"}, "ground_truth": {"block", "only", "skip"}}
    own |= {"ensembles": {"sizes", "block", "only", "skip"}, "methods": {"only", "skip"}}
    for catalogue, (room, functions) in CATALOGUES.items():
        for name, entry in config[catalogue].items():
            given = {key: value for key, value in entry.items() if key != "kind" and key not in own[catalogue]}
            listed = catalogue == "methods"
            yield from _kind_errors(path(catalogue, name), registry, room, entry["kind"], functions, given, listed)
    for name, setting in config["settings"].items():
        given = {key: value for key, value in setting["model"].items() if key != "kind"}
        where = path("settings", name, "model")
        yield from _kind_errors(where, registry, "models", setting["model"]["kind"], ("build",), given, False)


def _kind_errors(where, registry, room, kind, functions, given, listed):
    try:
        takes = {}
        there = registry.functions(room, kind)
        for function in functions:
            if function in OPTIONAL and function not in there:
                continue
            takes |= registry.hyperparameters(room, kind, function)
    except (ValueError, TypeError) as error:
        yield f"{where}: {error}"
        return
    for key in given:
        if key not in takes:
            yield f"{where}: {kind} takes {sorted(takes)}, not '{key}'"
    for key, hyperparameter in takes.items():
        if key not in given:
            if hyperparameter.default is REQUIRED:
                yield f"{where}: {kind} needs '{key}'"
            continue
        values = given[key] if listed and isinstance(given[key], list) else [given[key]]
        if not values:
            yield f"{where}.{key}: an empty list; give at least one value"
        if len(values) != len({repr(value) for value in values}):
            yield f"{where}.{key}: the same value twice in {values}"
        for index, value in enumerate(values):
            place = path(key, index) if values is given[key] else key
            if key == "damping" and listed and value in hyperparameters.RULES:
                yield from _rule_errors(f"{where}.{place}", registry, kind, value)
            elif problem := hyperparameters.problem(value, hyperparameter.annotation):
                yield f"{where}.{place}: {problem}"


def _rule_errors(where: str, registry: Registry, kind: str, rule: str):
    """A rule chooses what `score` takes, from a spectrum."""
    able = [
        name
        for name in registry.kinds("scores")
        if "spectrum" in registry.functions("scores", name)
        and "damping" in registry.hyperparameters("scores", name, "score")
    ]
    if kind not in able:
        yield f"{where}: {kind} has no spectrum from which '{rule}' could choose a damping; these have: {able}"


# --- agreement between entries -------------------------------------------------------------------------------


def _agreement_errors(config: dict, registry: Registry):
    for name, dataset in config["datasets"].items():
        constants = registry.constants("data", dataset["kind"])
        yield from _size_errors(path("datasets", name), dataset, constants)
        yield from _noise_errors(path("datasets", name), dataset, constants)
    for name, setting in config["settings"].items():
        yield from _recipe_errors(path("settings", name), setting)
    for name, ensemble in config["ensembles"].items():
        yield from _ensemble_errors(path("ensembles", name), ensemble, registry)
    yield from _empty_errors(config, registry)
    yield from _idle_errors(config)
    yield from _index_errors(config)
    yield from _further_errors(config, registry)
    yield from _access_errors(config, registry)
    yield from _change_errors(config, registry)
    yield from _epoch_errors(config, registry)
    yield from _regression_errors(config, registry)
    yield from _removal_errors(config, registry)
    yield from _checkpoint_errors(config, registry)


def _recipe_errors(where: str, setting: dict):
    """A setting that nothing makes, or two things do; a recipe that contradicts itself."""
    recipe = setting["recipe"]
    if setting["checkpoint"] is not None:
        given = [key for key in ("recipe", "checkpoints") if setting[key]]
        if given:
            yield f"{where}: a setting with a 'checkpoint' is not trained; leave out {given}"
        return
    if recipe is None:
        yield f"{where}: 'recipe' missing, how it is trained, or 'checkpoint', the file of a trained model"
        return
    if recipe["optimiser"] != "sgd" and recipe["momentum"]:
        yield f"{where}.recipe.momentum: only sgd takes it; {recipe['optimiser']} must leave it 0"
    for epoch in setting["checkpoints"]:
        if epoch > recipe["epochs"]:
            yield f"{where}.checkpoints: epoch {epoch} lies beyond the last, {recipe['epochs']}"


def _size_errors(where: str, dataset: dict, constants: dict):
    """More examples than the data set has, where its file says how many there are."""
    if "EXAMPLES" in constants:  # one pool for both
        wanted, there = dataset["train"] + dataset["test"], constants["EXAMPLES"]
        if wanted > there:
            asked = f"{dataset['train']} training and {dataset['test']} test examples"
            yield f"{where}: {asked} are more than the {there} there are"
        return
    for key, constant in (("train", "TRAIN_EXAMPLES"), ("test", "TEST_EXAMPLES")):
        if dataset[key] > constants.get(constant, dataset[key]):
            yield f"{where}.{key}: {dataset[key]} is more than the {constants[constant]} examples there are"


def _noise_errors(where: str, dataset: dict, constants: dict):
    """Label noise that leaves nothing to find, or nothing to tell it from, or on labels that are no classes."""
    noise, n = dataset["label_noise"], dataset["train"]
    if noise and constants.get("REGRESSION"):
        yield f"{where}.label_noise: {dataset['kind']} is a regression; noise replaces a class by another one"
    elif noise and round(noise["fraction"] * n) in (0, n):
        flips = f"{noise['fraction']} of {n} training labels is {round(noise['fraction'] * n)}"
        yield f"{where}.label_noise.fraction: {flips}; at least one must be flipped, and one not"


def _empty_errors(config: dict, registry: Registry):
    """Settings of the run of which nothing would be made."""
    retrained = {
        name
        for name, truth in _chosen(config, "ground_truth")
        if "training" not in registry.functions("ground_truth", truth["kind"])
    }
    ensembles = [name for name, _ in _chosen(config, "ensembles")]
    for setting, _ in _chosen(config, "settings"):
        measured = retrained.intersection(chosen_of(config, "ground_truth", setting))
        if not measured and not chosen_of(config, "ensembles", setting):
            yield (
                f"{path('settings', setting)}: nothing is made of it: 'only' and 'skip' leave it none of the run's "
                f"ensembles {ensembles} and nothing to retrain for; give it one, or leave it out of run.settings"
            )


def _ensemble_errors(where: str, ensemble: dict, registry: Registry):
    """Members that contradict each other, and sizes that are none or more than there is."""
    try:
        there = whole(ensemble_members(registry, ensemble))
    except ValueError as error:
        yield f"{where}: {error}"
        return
    read = {}
    for index, value in enumerate(ensemble["sizes"]):
        try:
            size = EnsembleSize.read(value, there.per_model)
        except ValueError as error:
            yield f"{where}.sizes[{index}]: {error}"
            continue
        if size.models > there.models:
            yield f"{where}.sizes[{index}]: {value} is more than its {there.models} models"
        if size.per_model > there.per_model:
            yield f"{where}.sizes[{index}]: {value} is more than the {there.per_model} members of each model"
        if size in read:
            yield f"{where}.sizes: {read[size]!r} and {value!r} are one size"
        read[size] = value


def _idle_errors(config: dict):
    """Entries that the run names and that run nowhere: a study inherits 'only' and 'skip' from config.yaml."""
    scored = {
        (ensemble, method)
        for method, entry in _chosen(config, "methods")
        for ensemble in chosen_ensembles(config, method)
        if {*chosen_settings(config, entry)} & {*chosen_settings(config, config["ensembles"][ensemble])}
    }
    runs = {
        "ground_truth": {name for name, entry in _chosen(config, "ground_truth") if chosen_settings(config, entry)},
        "ensembles": {ensemble for ensemble, _ in scored},
        "methods": {method for _, method in scored},
    }
    for catalogue, running in runs.items():
        for name in config["run"].get(catalogue, []):
            if name not in running:
                limits = {key: config[catalogue][name][key] for key in ("only", "skip")}
                yield f"run.{catalogue}: {name} runs nowhere in this run; {path(catalogue, name)} has {limits}"


def _index_errors(config: dict):
    """Listed training examples that no data set of the run holds."""
    for name, truth in _chosen(config, "ground_truth"):
        settings = chosen_settings(config, truth)
        smallest = min((_examples(config, setting) for setting in settings), default=math.inf)
        examples = truth.get("examples")
        beyond = [index for index in examples if index >= smallest] if isinstance(examples, list) else []
        if beyond or (isinstance(examples, int) and examples > smallest):
            yield (
                f"{path('ground_truth', name)}.examples: {beyond or examples} lies beyond "
                f"the {smallest} training examples of the smallest setting"
            )


def _further_errors(config: dict, registry: Registry):
    """What a ground truth that trains on would refuse of its own hyperparameters, for the settings that it is of."""
    for name, truth in _chosen(config, "ground_truth"):
        if "training" not in registry.functions("ground_truth", truth["kind"]):
            continue
        kind = registry.load("ground_truth", truth["kind"])
        for setting in chosen_settings(config, truth):
            n = _examples(config, setting)
            try:
                kind.runs(n, name, config["seed"], **own_values(registry, truth, "runs"))
                kind.training(n, **own_values(registry, truth, "training"))
            except ValueError as error:
                yield f"{path('ground_truth', name)}.{error} (for settings.{setting})"


def _access_errors(config: dict, registry: Registry):
    """What looks at more of a setting than its final model, where that is all there is."""
    final = [name for name, setting in _chosen(config, "settings") if setting["access"] == "final_model"]
    for name in final:
        if config["settings"][name]["checkpoints"]:
            yield f"{path('settings', name)}.checkpoints: access is final_model, so nothing but the last may be kept"
    for name, method in _chosen(config, "methods"):
        if registry.constants("scores", method["kind"]).get("ACCESS") == "training":
            for setting in chosen_settings(config, method):
                if setting in final:
                    yield (
                        f"{path('methods', name)}: {method['kind']} looks at the training, and settings.{setting} "
                        f"gives access to the final model alone; skip it there"
                    )
    for name, ensemble in _chosen(config, "ensembles"):
        models = whole(ensemble_members(registry, ensemble)).models
        for setting in chosen_settings(config, ensemble):
            if setting in final and models > max(1, len(checkpoints(config["settings"][setting]))):
                yield (
                    f"{path('ensembles', name)}: it has {models} models, and settings.{setting} gives access to one "
                    f"final model; let it run on other settings `only`"
                )


def _change_errors(config: dict, registry: Registry):
    """What the members of an ensemble do to models that allow no such thing, and methods that cannot follow it."""
    for name, entry in _chosen(config, "ensembles"):
        changes = [member.change for member in ensemble_members(registry, entry) if member.change]
        if not changes:
            continue
        where = path("ensembles", name)
        for setting in chosen_settings(config, entry):
            yield from _mask_errors(
                where, changes, f"settings.{setting}", config["settings"][setting]["model"], registry
            )
            yield from _changed_epoch_errors(where, changes, setting, config, registry)
        for method, each in _chosen(config, "methods"):
            settings = {*chosen_settings(config, each)} & {*chosen_settings(config, entry)}
            if settings and name in chosen_ensembles(config, method):
                yield from _follow_errors(path("methods", method), each["kind"], name, changes, registry)


def _mask_errors(where: str, changes: list[dict], setting: str, model: dict, registry: Registry):
    """Masks on a model without dropout, as far as its file tells; `attriflow.changes` refuses the others."""
    masks = [change for change in changes if "rate" in change]
    if not masks or registry.is_plugin(registry.path("models", model["kind"])):
        return
    takes = registry.hyperparameters("models", model["kind"], "build")
    if "dropout" not in takes:
        yield (
            f"{where}: {setting} has a {model['kind']}, which has no nn.Dropout to mask; add layers nn.Dropout(p) to "
            f"its `build`, with a hyperparameter `dropout` (p = 0 will do, the ensemble then gives the `rate`), or "
            f"`skip` the setting"
        )
    elif masks[0]["rate"] is None and model.get("dropout", takes["dropout"].default) == 0:
        yield f"{where}.rate: {setting} has dropout 0, so a mask drops nothing; give a rate, such as 0.1"


def _changed_epoch_errors(where: str, changes: list[dict], setting: str, config: dict, registry: Registry):
    """Members that end at an epoch which a setting does not keep, or know none that a method asks for."""
    kept = config["settings"][setting]["checkpoints"]
    epochs = {change["epoch"] for change in changes if "epoch" in change} - {"last"}
    for epoch in sorted(epochs - {*kept}):
        yield f"{where}.epochs: settings.{setting} does not keep epoch {epoch}; its checkpoints: {[*kept, 'last']}"
    adapted = any("adapter" in change for change in changes)
    if not epochs and not adapted:
        return
    for name, method in _chosen(config, "methods"):
        if setting not in chosen_settings(config, method) or where.split(".")[1] not in chosen_ensembles(config, name):
            continue
        for key, value in _epochs_of(method, registry):
            if value != "last" and (adapted or value > min(epochs)):
                known = "are adapters of the last epoch, not" if adapted else f"end at epoch {min(epochs)}, before"
                yield (
                    f"{path('methods', name, key)}: {where} has members that {known} epoch {value}; let it score other "
                    f"ensembles `only`, or take the epoch 'last'"
                )


def _follow_errors(where: str, kind: str, ensemble: str, changes: list[dict], registry: Registry):
    """A method that cannot follow what the members do."""
    if registry.constants("scores", kind).get("CHANGES") is False:
        yield (
            f"{where}: {kind} scores trainings, which the members of ensembles.{ensemble} do not change; let it score "
            f"other ensembles `only`"
        )
    elif any(change.get("parts") == ["residuals"] for change in changes) and "residuals" not in registry.functions(
        "scores", kind
    ):
        able = [each for each in registry.kinds("scores") if "residuals" in registry.functions("scores", each)]
        yield (
            f"{where}: {kind} has no residuals, and the members of ensembles.{ensemble} differ in these alone; let it "
            f"score other ensembles `only`, or that ensemble `skip` its settings; these have residuals: {able}"
        )


def own_values(registry: Registry, truth: dict, function: str) -> dict:
    """The hyperparameters of one function that an entry of `ground_truth` gives."""
    takes = registry.hyperparameters("ground_truth", truth["kind"], function)
    return {name: truth[name] for name in takes if name in truth}


def _examples(config: dict, setting: str) -> int:
    """The training examples of a setting, n."""
    return config["datasets"][config["settings"][setting]["dataset"]]["train"]


def _epoch_errors(config: dict, registry: Registry):
    """Epochs that a method asks for and a setting does not keep."""
    for name, method in _chosen(config, "methods"):
        for key, value in _epochs_of(method, registry):
            for setting in chosen_settings(config, method):
                kept = config["settings"][setting]["checkpoints"]
                if value != "last" and value not in kept:
                    yield (
                        f"{path('methods', name, key)}: settings.{setting} does not keep epoch {value}; "
                        f"its checkpoints: {[*kept, 'last']}"
                    )


def _epochs_of(method: dict, registry: Registry):
    """The hyperparameters of a method that are epochs, with every value that its entry gives."""
    for key, hyperparameter in registry.hyperparameters("scores", method["kind"], "prepare").items():
        if hyperparameter.annotation == "Epoch" and key in method:
            yield from ((key, value) for value in (method[key] if isinstance(method[key], list) else [method[key]]))


def _regression_errors(config: dict, registry: Registry):
    """What needs classes, on a setting whose labels are numbers."""
    for name, method in _chosen(config, "methods"):
        kind = method["kind"]
        takes = registry.hyperparameters("scores", kind, "prepare")
        target = method.get("target", "loss") if "target" in takes else "loss"
        other = [value for value in (target if isinstance(target, list) else [target]) if value != "loss"]
        classes_only = registry.constants("scores", kind).get("CLASSES_ONLY")
        for setting in chosen_settings(config, method):
            dataset = config["datasets"][config["settings"][setting]["dataset"]]["kind"]
            if not registry.constants("data", dataset).get("REGRESSION"):
                continue
            if classes_only:
                where = path("methods", name)
                yield f"{where}: {kind} is for classes and settings.{setting} is a regression; `skip` it there"
            if other:
                where = path("methods", name, "target")
                yield f"{where}: settings.{setting} is a regression, whose only output is 'loss', not {other}"


def _removal_errors(config: dict, registry: Registry):
    """What the removal check asks for and the run does not make."""
    removal = config["removal"]
    if removal is None:
        return
    methods, ensembles = (dict(_chosen(config, catalogue)) for catalogue in ("methods", "ensembles"))
    yield from _unknown("removal.methods", removal["methods"], methods)
    if removal["ensemble"] is None:
        yield f"removal.ensemble: name the one whose scores are taken; the run has {sorted(ensembles)}"
    else:
        yield from _unknown("removal.ensemble", [removal["ensemble"]], ensembles)
    if all(truth["kind"] != "subsets" for _, truth in _chosen(config, "ground_truth")):
        yield "removal: points are chosen by their LDS, so the run needs a ground truth of kind 'subsets'"
    for name in removal["methods"]:
        if name in methods:
            yield from _removed_method_errors(config, registry, name)
    yield from _removed_count_errors(config)


def _removed_count_errors(config: dict):
    """More test examples than a setting has, or a removal of all training examples."""
    removal = config["removal"]
    for name in config["run"].get("settings", config["settings"]):
        dataset = config["datasets"][config["settings"][name]["dataset"]]
        if removal["tests"] > dataset["test"]:
            there = f"the {dataset['test']} test examples of settings.{name}"
            yield f"removal.tests: {removal['tests']} is more than {there}"
        for index, count in enumerate(removal["counts"]):
            if count >= dataset["train"]:
                where = path("removal", "counts", index)
                yield f"{where}: {count} of the {dataset['train']} training examples of settings.{name} leaves none"


def _removed_method_errors(config: dict, registry: Registry, name: str):
    """A method that has no such damping, or does not run where it must."""
    method, ensemble = config["methods"][name], config["removal"]["ensemble"]
    if not chosen_settings(config, method):
        yield f"removal.methods: {name} runs on no setting of the run"
    if ensemble in config["ensembles"] and ensemble not in chosen_ensembles(config, name):
        yield f"removal.methods: {name} does not score the ensemble '{ensemble}'"
    takes = {}
    for function in ("prepare", "score"):
        takes |= registry.hyperparameters("scores", method["kind"], function)
    if "damping" not in takes:
        yield f"removal.methods: {name} takes no damping"
        return
    grid = method.get("damping", takes["damping"].default)
    grid = grid if isinstance(grid, list) else [grid]
    for choice, damping in config["removal"]["dampings"].items():
        if damping != "best" and damping not in grid:
            yield f"{path('removal', 'dampings', choice)}: {damping!r} is not among those of methods.{name}: {grid}"


def _checkpoint_errors(config: dict, registry: Registry):
    """Files that are not there, and what a setting that is not trained cannot have."""
    for name, setting in _chosen(config, "settings"):
        files = checkpoints(setting)
        if not files:
            continue
        where = path("settings", name, "checkpoint")
        for file in files:
            if not Path(file).is_file():
                yield f"{where}: {file} is no file; expected one relative to {Path.cwd()}"
        untrained = f"settings.{name} starts from a checkpoint and is not trained"
        for truth in chosen_of(config, "ground_truth", name):
            entry = config["ground_truth"][truth]
            if "training" not in registry.functions("ground_truth", entry["kind"]):  # how it trains on
                yield f"{path('ground_truth', truth)}: {entry['kind']} trains from scratch, but {untrained}"
        for method in config["removal"]["methods"] if config["removal"] else ():
            if name in chosen_settings(config, config["methods"].get(method, {"only": {}, "skip": [name]})):
                yield f"removal: it trains from scratch, but {untrained}; '{method}' must skip it"
        for ensemble in chosen_of(config, "ensembles", name):
            members = ensemble_members(registry, config["ensembles"][ensemble])
            largest = max(member.number for member in members)
            if largest >= len(files):
                yield f"{path('ensembles', ensemble)}: member {largest} (from 0), but {where} names {len(files)}"
            if any(member.run.subset is not None for member in members):
                yield f"{path('ensembles', ensemble)}: members see parts of the data, but {untrained}"


def checkpoints(setting: dict) -> list[str]:
    """The files that a setting starts from; none where it is trained."""
    files = setting["checkpoint"]
    return [files] if isinstance(files, str) else files or []


def ensemble_members(registry: Registry, entry: dict) -> list[Member]:
    """The members of an entry of `ensembles`."""
    given = {key: value for key, value in entry.items() if key not in ENSEMBLES_OWN}
    return registry.load("ensembles", entry["kind"]).members(**given)


def _chosen(config: dict, catalogue: str) -> list[tuple[str, dict]]:
    """The entries of a catalogue that run: what nobody runs need not agree with what does."""
    return [(name, config[catalogue][name]) for name in config["run"].get(catalogue, config[catalogue])]


def chosen_settings(config: dict, method: dict) -> list[str]:
    """The settings of the run that a method, a ground truth or an ensemble runs on."""
    return [name for name in _allowed(config, method, "settings") if name not in method["skip"]]


def chosen_ensembles(config: dict, method: str) -> list[str]:
    """The ensembles of the run that a method runs on: those that it names, of those that name it or none."""
    allowed = _allowed(config, config["methods"][method], "ensembles")
    return [name for name in allowed if method in config["ensembles"][name]["only"].get("methods", [method])]


def chosen_of(config: dict, catalogue: str, setting: str) -> list[str]:
    """The ground truths or ensembles of the run that a setting has."""
    return [name for name, entry in _chosen(config, catalogue) if setting in chosen_settings(config, entry)]


def _allowed(config: dict, method: dict, catalogue: str) -> list[str]:
    chosen = config["run"].get(catalogue, list(config[catalogue]))
    return [name for name in chosen if name in method["only"].get(catalogue, chosen)]
