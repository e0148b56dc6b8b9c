"""Configs as files: read, merged, refused where they are no plain data."""

import copy
from pathlib import Path

import yaml

_TEMPLATE = "__use_yte__"  # SOURCE: yte.process_yaml, which reads config files for the workflow


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
