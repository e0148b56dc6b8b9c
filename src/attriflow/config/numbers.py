"""Numbers in one form: 1 where 1.0 is meant is 1.0, so that both ways to write it are one config.

What takes numbers is read off the schema, and off the annotations of hyperparameters. A whole number stays one where
whole numbers are asked for.
"""

import ast

from attriflow.config.shape import resolve
from attriflow.hyperparameters import problem
from attriflow.registry import Registry

_FUNCTIONS = {  # of an entry of a catalogue: its room, and the functions that take its hyperparameters
    "datasets": ("data", ("load",)),
    "ground_truth": ("ground_truth", ("runs", "training")),
    "ensembles": ("ensembles", ("members",)),
    "methods": ("scores", ("prepare", "score")),
}


def in_one_form(config: dict, schema: dict, registry: Registry) -> dict:
    """A checked config whose numbers have the type that the schema and the annotations give them."""
    config = _by_schema(config, schema, schema)
    for catalogue, (room, functions) in _FUNCTIONS.items():
        for name, entry in config[catalogue].items():
            config[catalogue][name] = entry | _by_annotation(entry, registry, room, functions)
    for setting in config["settings"].values():
        setting["model"] = setting["model"] | _by_annotation(setting["model"], registry, "models", ("build",))
    return config


def _by_annotation(entry: dict, registry: Registry, room: str, functions: tuple[str, ...]) -> dict:
    """The hyperparameters of an entry, of several values each of them."""
    there, found = registry.functions(room, entry["kind"]), {}
    for function in there.intersection(functions):
        for name, each in registry.hyperparameters(room, entry["kind"], function).items():
            if name in entry:
                found[name] = annotated(entry[name], each.annotation)
    return found


def annotated(value, annotation: str):
    """A value, or each of a list, as the annotation has it.

    >>> annotated([1, 0.5, "select"], "NonNegative | Literal['select']"), annotated(1, "int | str")
    ([1.0, 0.5, 'select'], 1)
    >>> annotated([0, 3], "Examples"), annotated([-0.0, 1], "list[NonNegative] | NonNegative")
    ([0, 3], [0.0, 1.0])
    """
    if isinstance(value, list):
        inside = ast.parse(annotation, mode="eval").body
        listed = [
            each for each in ast.walk(inside) if isinstance(each, ast.Subscript) and ast.unparse(each.value) == "list"
        ]
        item = ast.unparse(listed[0].slice) if listed and problem(value, annotation) is None else annotation
        return [annotated(each, item) for each in value]
    if not _is_number(value):
        return value
    whole = isinstance(value, int) and any(problem(value, word) is None for word in _whole_words(annotation))
    fits = problem(_float(value), annotation) is None  # an index in a list of `Examples` does not, as a number
    return _float(value) if fits and not whole else value


def _whole_words(annotation: str) -> list[str]:
    """The parts of an annotation that a number with a point does not fit."""
    parts = [each.strip() for each in annotation.split("|")]
    return [part for part in parts if problem(0.5, part) is not None]


def _by_schema(value, schema: dict, root: dict):
    schema = resolve(schema, root)
    if isinstance(value, dict):
        known, other = schema.get("properties", {}), schema.get("additionalProperties")
        inner = {key: known.get(key, other if isinstance(other, dict) else {}) for key in value}
        return {key: _by_schema(each, inner[key], root) for key, each in value.items()}
    if isinstance(value, list):
        return [_by_schema(each, schema.get("items", {}), root) for each in value]
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    return _float(value) if _is_number(value) and "number" in types and "integer" not in types else value


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(value: float) -> float:
    return float(value) + 0.0  # -0.0 is 0.0
