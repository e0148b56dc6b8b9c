"""The config: read, filled with the schema's defaults, and checked whole before anything runs.

Shape and types come from the JSON schema; names and hyperparameters from the files of the rooms (`registry`).
Every error names the key's path, what was given and what would be right; all errors are reported at once.
"""

import copy
import difflib
import math
import re
from pathlib import Path

import jsonschema
import yaml

from attriflow import hyperparameters
from attriflow.ensembles import Member, whole
from attriflow.hyperparameters import shown
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
    """The first file, overridden by the others: mappings are merged, everything else is replaced.

    Raises ConfigError for a file that is no YAML, gives a key twice, or asks to be run as a template.
    """
    config: dict = {}
    for path in paths:
        try:
            content = _content(Path(path).read_text(encoding="utf-8"))
        except (yaml.YAMLError, OSError, ValueError) as error:  # such as text in another code, or a date that is none
            raise ConfigError([f"{path}: not YAML: {' '.join(str(error).split())}"]) from error
        if not isinstance(content, dict):
            raise ConfigError([f"{path}: must be a mapping at the top, not {type(content).__name__}"])
        if _TEMPLATE in content:
            # a workflow would run the expressions of such a file when it reads it, before we see it
            raise ConfigError([f"{path}: {_TEMPLATE}: a config is data; write the values that the template makes"])
        config = merge(config, content)
    return config


_TEMPLATE = "__use_yte__"  # SOURCE: yte.process_yaml, which reads config files for the workflow


def _content(text: str):
    """What a YAML text says. Raises YAMLError, also for a key that a mapping has twice, of which one would be lost."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        _refuse_repeated(node, set())
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _refuse_repeated(node: yaml.Node | None, seen: set[int]):
    if id(node) in seen or not isinstance(node, yaml.CollectionNode):
        return
    seen.add(id(node))
    inside = node.value
    if isinstance(node, yaml.MappingNode):
        keys = set()
        for key, _ in node.value:
            if key.value in keys and isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem=f"'{key.value}' is there twice", problem_mark=key.start_mark)
            keys.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        inside = [value for _, value in node.value]
    for each in inside:
        _refuse_repeated(each, seen)


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
    if wrong := registry.wrong_plugins():
        raise ConfigError([f"plugins: {line}" for line in wrong])
    errors = [*_choice_errors(full, registry), *_entry_errors(full, registry)]
    errors = errors or list(_contradictions(full, registry)) or list(_agreement_errors(full, registry))
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
    return removal | {"dampings": dampings, "ensemble": only if removal["ensemble"] is None else removal["ensemble"]}


# --- shape ---------------------------------------------------------------------------------------------------


def _check_shape(config: dict, schema: dict):
    found = sorted(_Validator(schema).iter_errors(config), key=lambda error: list(map(str, error.absolute_path)))
    typed = {tuple(error.absolute_path) for error in found if error.validator == "type" and not _of_a_name(error)}
    lines = []
    for error in found:
        # what is of another type fits no other word of the schema either
        if error.validator == "type" or _of_a_name(error) or tuple(error.absolute_path) not in typed:
            lines += [line for line in _lines(error, schema) if line not in lines]
    if lines:
        raise ConfigError(lines)


def _whole(_, value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < hyperparameters.LARGEST


def _number(_, value) -> bool:
    return _whole(_, value) or (isinstance(value, float) and math.isfinite(value))


def _pattern(_, pattern: str, value, __):
    if isinstance(value, str) and not re.fullmatch(pattern, value):  # `$` alone lets a line break by
        yield jsonschema.ValidationError("")


# 2.0 is no count here, infinity is no number, and "trak\n" is no name
_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    {"pattern": _pattern},
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many({"integer": _whole, "number": _number}),
)


def _of_a_name(error: jsonschema.ValidationError) -> bool:
    """Whether an error is about a key and not about a value."""
    return "propertyNames" in error.absolute_schema_path


def _lines(error: jsonschema.ValidationError, schema: dict):
    """An error of the schema in words: a line for each key that is unknown or missing, and one for a wrong value."""
    where, value = list(error.absolute_path), error.instance
    if _of_a_name(error):
        yield f"{path(*where, value)}: a name must be {_NAME}"
    elif error.validator in ("additionalProperties", "required"):
        known = error.schema["properties"]
        unknown = [key for key in value if key not in known]
        if error.validator == "additionalProperties":
            yield from (f"{path(*where, key)}: unknown; known: {sorted(known)}{_meant(key, known)}" for key in unknown)
            return
        meant = {name for key in unknown for name in _close(key, known)}
        for key in error.validator_value:
            if key not in value and (key not in meant or error.schema.get("additionalProperties") is not False):
                yield f"{path(*where, key)}: missing; {_resolve(known[key], schema)['description']}"
    else:
        yield f"{path(*where)}: {_demand(error)}, not {shown(value)}{_hint(value, error)}"


_NAME = "at most 100 lower-case letters, digits and underscores, the first a letter"
_TYPES = {
    "number": "a number",
    "integer": "a whole number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}


def _demand(error: jsonschema.ValidationError) -> str:
    """What a value must be."""
    wanted = error.validator_value
    match error.validator:
        case "type":
            return f"must be {' or '.join(_TYPES[each] for each in _types(wanted))}"
        case "minimum":
            return f"must be at least {wanted}"
        case "exclusiveMinimum":
            return f"must be above {wanted}"
        case "exclusiveMaximum":
            return f"must be below {wanted}"
        case "enum":
            return f"must be one of {wanted}"
        case "pattern" | "maxLength":
            return f"must be {_NAME}"
        case "minItems" | "minProperties" | "minLength":
            return f"must not be empty ({error.schema['description']})"
        case "uniqueItems":
            return "must have every value once"
    raise NotImplementedError(f"the schema's word '{error.validator}' has no sentence here")


def _types(wanted: str | list[str]) -> list[str]:
    return [wanted] if isinstance(wanted, str) else wanted


def _hint(value, error: jsonschema.ValidationError) -> str:
    if error.validator != "type" or not {"number", "integer"}.intersection(_types(error.validator_value)):
        return ""
    if isinstance(value, str):
        return hyperparameters.TEXT_FOR_A_NUMBER
    return " (it is 2^63 or more)" if _is_large(value) else ""


def _is_large(value) -> bool:
    return isinstance(value, int) and abs(value) >= hyperparameters.LARGEST


def _close(key, known) -> list[str]:
    """The known word that an unknown one probably stands for."""
    return difflib.get_close_matches(key, list(known), 1, 0.75) if isinstance(key, str) else []


def _meant(key, known) -> str:
    return "".join(f"; did you mean '{name}'?" for name in _close(key, known))


def path(*keys) -> str:
    """A key's place as one reads it: methods.trak.damping[2], methods['a name that is none']."""
    text = "".join(_step(key) for key in keys)
    return text.removeprefix(".") if text.startswith(".") else f"config{text}"


def _step(key) -> str:
    if isinstance(key, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key) and len(key) <= 100:
        return f".{key}"
    return f"[{shown(key)}]"


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
            yield f"{where}: unknown {shown(name)}; known: {sorted(known)}"


def _entry_errors(config: dict, registry: Registry):
    """Kinds and hyperparameters of every entry of the catalogue, chosen or not."""
    own = {"datasets": {"train", "test", "standardise", "label_noise"}, "ground_truth": {"block", "only", "skip"}}
    own |= {"ensembles": {"sizes", "block", "only", "skip"}, "methods": {"only", "skip"}}
    for catalogue, (room, functions) in CATALOGUES.items():
        for name, entry in config[catalogue].items():
            given = {key: value for key, value in entry.items() if key != "kind" and key not in own[catalogue]}
            listed, named = catalogue == "methods", path(catalogue, name, *(["kind"] if entry["kind"] != name else []))
            where = path(catalogue, name)
            yield from _kind_errors(where, named, registry, room, entry["kind"], functions, given, listed)
    for name, setting in config["settings"].items():
        given = {key: value for key, value in setting["model"].items() if key != "kind"}
        where = path("settings", name, "model")
        kind = setting["model"]["kind"]
        yield from _kind_errors(where, f"{where}.kind", registry, "models", kind, ("build",), given, False)


def _kind_errors(where, named, registry, room, kind, functions, given, listed):
    """named: the path of the word that says the kind. listed: whether a list is several values, not one."""
    try:
        there = registry.functions(room, kind)
    except ValueError as error:
        yield f"{named}: {error}"
        return
    takes = {}
    for function in functions:
        if function not in OPTIONAL or function in there:
            takes |= registry.hyperparameters(room, kind, function)
    meant = set()
    for key in given:
        if key not in takes:
            meant.update(_close(key, takes))
            yield f"{where}{_step(key)}: {kind} takes {sorted(takes)}, not {shown(key)}{_meant(key, takes)}"
    for key, hyperparameter in takes.items():
        if key not in given:
            if hyperparameter.default is REQUIRED and key not in meant:
                yield f"{where}.{key}: missing; {kind} needs it: {hyperparameters.expected(hyperparameter.annotation)}"
            continue
        values = given[key] if listed and isinstance(given[key], list) else [given[key]]
        if not values:
            yield f"{where}.{key}: an empty list; give at least one value"
        wrong = False
        for index, value in enumerate(values):
            place = f"{where}.{key}" + (f"[{index}]" if values is given[key] else "")
            if key == "damping" and listed and value in hyperparameters.RULES:
                found = [*_rule_errors(place, registry, kind, value)]
            elif problem := hyperparameters.problem(value, hyperparameter.annotation):
                found = [f"{place}: {problem}"]
            elif listed and isinstance(value, str) and not hyperparameters.IN_FILE_NAMES.fullmatch(value):
                found = [f"{place}: must be {hyperparameters.OF_FILE_NAMES}, not {shown(value)}"]
            else:
                found = []
            wrong = wrong or bool(found)
            yield from found
        if not wrong and len(values) != len({_same(value) for value in values}):
            yield f"{where}.{key}: the same value twice in {shown(values)}"


def _same(value) -> tuple:
    """What two values that mean the same have in common: 1 and 1.0, but not 1 and true."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return ("number", value) if number else (type(value).__name__, repr(value))


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


def _contradictions(config: dict, registry: Registry):
    """What is wrong with an entry by itself; other errors may follow from it."""
    for name, dataset in config["datasets"].items():
        constants = registry.constants("data", dataset["kind"])
        yield from _size_errors(path("datasets", name), dataset, constants)
        yield from _noise_errors(path("datasets", name), dataset, constants)
    for name, setting in config["settings"].items():
        yield from _recipe_errors(path("settings", name), setting)
    for name, ensemble in config["ensembles"].items():
        yield from _ensemble_errors(path("ensembles", name), ensemble, registry)
    for name, method in config["methods"].items():
        yield from _long_name_errors(path("methods", name), method, registry)
    for name, setting in _chosen(config, "settings"):
        for file in checkpoints(setting) if setting["recipe"] is None else ():
            if not Path(file).is_file():
                where = path("settings", name, "checkpoint")
                yield f"{where}: {shown(file)} is no file; expected one relative to {Path.cwd()}"


def _agreement_errors(config: dict, registry: Registry):
    yield from _empty_errors(config, registry)
    yield from _idle_errors(config)
    yield from _truth_errors(config, registry)
    yield from _share_errors(config, registry)
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
        yield _of_key(where, ensemble, str(error))
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


def _long_name_errors(where: str, method: dict, registry: Registry):
    """Points of a method whose names are too long for those of files."""
    prepare, score = (registry.hyperparameters("scores", method["kind"], each) for each in ("prepare", "score"))
    largest = {}
    for name in prepare.keys() - score.keys():
        value = method.get(name, prepare[name].default)
        largest[name] = max(value if isinstance(value, list) else [value], key=lambda each: len(str(each)))
    if len(longest := hyperparameters.point_folder(largest)) > _LONGEST:
        yield f"{where}: a folder is named by its values, {shown(longest)}, {len(longest)} letters; at most {_LONGEST}"


_LONGEST = 200  # file systems take 255 bytes, of which temporary names and endings need some


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


def _truth_errors(config: dict, registry: Registry):
    """What a ground truth of the run would refuse of its own hyperparameters, for the settings that it is of."""
    for name, truth in _chosen(config, "ground_truth"):
        kind, refused = registry.load("ground_truth", truth["kind"]), {}
        for setting in chosen_settings(config, truth):
            n = _examples(config, setting)
            try:
                _expect_examples(truth, n)
                runs = kind.runs(n, name, config["seed"], **own_values(registry, truth, "runs"))
                if "training" in registry.functions("ground_truth", truth["kind"]):
                    kind.training(n, **own_values(registry, truth, "training"))
                next(iter(runs.values()))[0].examples(n, config["seed"])  # all of them have as many
            except ValueError as error:
                refused.setdefault(str(error), []).append(f"settings.{setting}")
        for error, settings in refused.items():
            yield f"{_of_key(path('ground_truth', name), truth, error)} (for {', '.join(settings)})"


def _expect_examples(truth: dict, n: int):
    if isinstance(examples := truth.get("examples"), int) and examples > n:
        raise ValueError(f"examples: {examples} are more than the {n} training examples")


def _of_key(where: str, entry: dict, error: str) -> str:
    """What a kind says of its hyperparameters, `key: ...`, with the path of the key."""
    return f"{where}{'.' if error.partition(':')[0] in entry else ': '}{error}"


def _share_errors(config: dict, registry: Registry):
    """Members whose share of the training examples is none, or all."""
    for name, entry in _chosen(config, "ensembles"):
        runs = {member.run.fraction: member.run for member in ensemble_members(registry, entry)}
        for setting in chosen_settings(config, entry):
            for run in runs.values():
                try:
                    run.examples(_examples(config, setting), config["seed"])
                except ValueError as error:
                    yield f"{_of_key(path('ensembles', name), entry, str(error))} (for settings.{setting})"


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
    unknown = [*_unknown("removal.methods", removal["methods"], methods)]
    yield from unknown
    if removal["ensemble"] is None and not unknown:
        yield f"removal.ensemble: name the one whose scores are taken; the run has {sorted(ensembles)}"
    elif removal["ensemble"] is not None:
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
            where = path("removal", "dampings", choice)
            yield f"{where}: {shown(damping)} is not among those of methods.{name}: {shown(grid)}"


def _checkpoint_errors(config: dict, registry: Registry):
    """What a setting that is not trained cannot have."""
    for name, setting in _chosen(config, "settings"):
        files = checkpoints(setting)
        if not files:
            continue
        where = path("settings", name, "checkpoint")
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
