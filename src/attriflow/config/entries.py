"""Names that entries of a config give, their kinds and hyperparameters, from the files of the rooms."""

from attriflow import hyperparameters
from attriflow.config.shape import path, step
from attriflow.hyperparameters import RULES, shown
from attriflow.registry import REQUIRED, Registry
from attriflow.words import close_to, did_you_mean
from attriflow.words import known as known_words

# catalogue of the config -> (room of the registry, functions whose hyperparameters an entry gives)
CATALOGUES = {
    "datasets": ("data", ("load",)),
    "ground_truth": ("ground_truth", ("runs", "training")),
    "ensembles": ("ensembles", ("members",)),
    "methods": ("scores", ("prepare", "score")),
}
_OPTIONAL = {"training"}  # functions that a kind need not have


def choice_errors(config: dict, registry: Registry):
    """Names that are written somewhere and must exist elsewhere."""
    run = config["run"]
    for room in ("settings", "ground_truth", "ensembles", "methods"):
        yield from unknown_errors(path("run", room), run.get(room, []), config[room])
    yield from unknown_errors("run.figures", run.get("figures", []), registry.kinds("figures"))
    for name, setting in config["settings"].items():
        yield from unknown_errors(path("settings", name, "dataset"), [setting["dataset"]], config["datasets"])
    for catalogue in ("ground_truth", "ensembles"):
        for name, entry in config[catalogue].items():
            where = path(catalogue, name, "only", "settings")
            yield from unknown_errors(where, entry["only"].get("settings", []), config["settings"])
            yield from unknown_errors(path(catalogue, name, "skip"), entry["skip"], config["settings"])
    for name, ensemble in config["ensembles"].items():
        where = path("ensembles", name, "only", "methods")
        yield from unknown_errors(where, ensemble["only"].get("methods", []), config["methods"])
    for name, method in config["methods"].items():
        for room in ("settings", "ensembles"):
            yield from unknown_errors(path("methods", name, "only", room), method["only"].get(room, []), config[room])
        yield from unknown_errors(path("methods", name, "skip"), method["skip"], config["settings"])


def unknown_errors(where: str, names, known):
    """Names that are not among those there are."""
    for name in names:
        if name not in known:
            yield f"{where}: unknown {shown(name)}{known_words(name, known)}"


def entry_errors(config: dict, registry: Registry, own: dict[str, set[str]]):
    """Kinds and hyperparameters of every entry of the catalogue, chosen or not. own: see `kinds.own_keys`."""
    for catalogue, (room, functions) in CATALOGUES.items():
        for name, entry in config[catalogue].items():
            given = {key: value for key, value in entry.items() if key not in own[room]}
            listed, named = catalogue == "methods", path(catalogue, name, *(["kind"] if entry["kind"] != name else []))
            where = path(catalogue, name)
            yield from _kind_errors(where, named, registry, room, entry["kind"], functions, given, own[room], listed)
    for name, setting in config["settings"].items():
        given = {key: value for key, value in setting["model"].items() if key != "kind"}
        where = path("settings", name, "model")
        kind = setting["model"]["kind"]
        yield from _kind_errors(
            where, f"{where}.kind", registry, "models", kind, ("build",), given, own["models"], False
        )


_ENTRIES = {"data": "data set", "models": "model", "ground_truth": "ground truth", "ensembles": "ensemble"}


def _kind_errors(where, named, registry, room, kind, functions, given, own, listed):
    """named: the path of the word that says the kind. own: keys of every entry. listed: whether a list is several
    values, not one.
    """
    if kind not in registry.kinds(room):
        yield f"{named}: unknown {room} {kind!r}{known_words(kind, registry.kinds(room))}"
        return
    there = registry.functions(room, kind)
    takes = {}
    for function in functions:
        if function not in _OPTIONAL or function in there:
            takes |= registry.hyperparameters(room, kind, function)
    meant = set()
    for key in given:
        if key not in takes:
            meant.update(close_to(key, takes))
            hint = did_you_mean(key, takes) or _hint_elsewhere(registry, room, kind, functions, key, own)
            yield f"{where}{step(key)}: {kind} takes {sorted(takes) or 'no hyperparameters'}, not {shown(key)}{hint}"
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
            if key == "damping" and listed and value in RULES:
                found = [*_rule_errors(place, registry, kind, value)]
            elif key == "damping" and listed and close_to(value, RULES):
                found = [
                    f"{place}: unknown {shown(value)}; a number, or one of {list(RULES)}{did_you_mean(value, RULES)}"
                ]
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


def _hint_elsewhere(registry: Registry, room: str, kind: str, functions, key, own: set[str]) -> str:
    """What a word may have been that is none of a kind's hyperparameters, and near none of them."""
    for name in close_to(key, own):
        return f"; did you mean '{name}' of the {_ENTRIES.get(room, 'method')}?"
    for function in registry.functions(room, kind).intersection(functions):
        if key in registry.arguments(room, kind, function):
            return f"; {function} takes it by position: write it behind `*`, with an annotation"
    return ""


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
