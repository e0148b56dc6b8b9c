"""Configs as files: read, merged, refused where they are no plain data."""

import contextlib
import copy
import json
from pathlib import Path

import yaml

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_TEMPLATE = "__use_yte__"  # SOURCE: yte.process_yaml, which reads config files for the workflow


class ConfigError(ValueError):
    """What is wrong with a config, one line an error."""

    def __init__(self, errors: list[str]):
        super().__init__("\n".join(errors))
        self.errors = errors


def read(*paths: Path) -> dict:
    """The first file, overridden by the others: mappings are merged, everything else is replaced.

    Raises ConfigError for a file that is no YAML, gives a key twice, has a number that readers of YAML take for
    different ones, or asks to be run as a template.
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


def given(values: dict) -> dict:
    """Values from a command line, on which a workflow leaves what is inside of mappings and lists as text.

    Raises ConfigError for a number with two meanings, as in a file.
    """
    try:
        return {key: value if isinstance(value, str) else _typed(value) for key, value in values.items()}
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError([f"--config: not YAML: {' '.join(str(error).split())}"]) from error


def _typed(value):
    if isinstance(value, dict):
        return {key: _typed(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_typed(each) for each in value]
    found = _content(value) if isinstance(value, str) else value
    return value if isinstance(found, dict | list) else found  # text that was in quotes


def _content(text: str):
    """What a YAML or JSON text says. Raises ValueError, or YAMLError that names the line.

    Also refused are a key that a mapping has twice, of which one would be lost, and a number with two meanings.
    """
    with contextlib.suppress(json.JSONDecodeError):  # YAML would take its 1e-5 for text
        return json.loads(text, object_pairs_hook=_mapping)
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        _refuse_ambiguous(node, set())
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _mapping(pairs: list[tuple[str, object]]) -> dict:
    """An object of JSON. Raises ValueError for a key that is there twice."""
    keys = [key for key, _ in pairs]
    if repeated := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"'{repeated[0]}' is there twice")
    return dict(pairs)


def _refuse_ambiguous(node: yaml.Node | None, seen: set[int]):
    """Raise YAMLError for what is read in two ways, anywhere in a node. `seen`: nodes that are done; aliases repeat."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        _refuse_two_numbers(node)
        return
    inside = node.value
    if isinstance(node, yaml.MappingNode):
        _refuse_repeated(node)
        inside = [each for pair in node.value for each in pair]
    for each in inside:
        _refuse_ambiguous(each, seen)


def _refuse_repeated(node: yaml.MappingNode):
    keys = set()
    for key, _ in node.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else id(key)
        if name in keys:
            raise yaml.MarkedYAMLError(problem=f"'{name}' is there twice", problem_mark=key.start_mark)
        keys.add(name)


def _refuse_two_numbers(node: yaml.ScalarNode):
    """SOURCE: YAML 1.1, which is read here, has octal numbers (0300 is 192) and base 60 (1:30 is 90); 1.2 does not."""
    digits = node.value.lstrip("+-").replace("_", "")
    octal = digits.isdecimal() and digits.startswith("0") and len(digits) > 1
    if node.tag in _NUMBERS and (octal or ":" in digits):
        other = "octal" if octal else "a number to the base of 60"
        problem = f"{node.value} is {other} to some readers of YAML; write the number that is meant, or text in quotes"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def merge(base: dict, override: dict) -> dict:
    """A new mapping, in which `override` wins."""
    merged = copy.deepcopy(base)
    for key, value in override.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else copy.deepcopy(value)
    return merged
