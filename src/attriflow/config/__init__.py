"""The config: read, filled with the schema's defaults, and checked whole before anything runs.

Shape and types come from the JSON schema; names and hyperparameters from the files of the rooms (`registry`).
Every error names the key's path, what was given and what would be right; all errors are reported at once.
"""

import copy

from attriflow.config.agreement import agreement_errors, contradictions
from attriflow.config.chosen import (
    checkpoints,
    chosen_ensembles,
    chosen_of,
    chosen_settings,
    ensemble_members,
    own_values,
)
from attriflow.config.entries import CATALOGUES, choice_errors, entry_errors
from attriflow.config.kinds import own_keys, signature_errors
from attriflow.config.numbers import in_one_form
from attriflow.config.reading import ConfigError, given, merge, read
from attriflow.config.shape import check_shape, filled
from attriflow.registry import Registry

__all__ = [
    "CATALOGUES",
    "ConfigError",
    "check",
    "checkpoints",
    "chosen_ensembles",
    "chosen_of",
    "chosen_settings",
    "ensemble_members",
    "given",
    "merge",
    "own_values",
    "read",
]


def check(config: dict, schema: dict) -> dict:
    """The config with every default filled in. Raises ConfigError with everything that is wrong."""
    check_shape(config, schema)
    full = copy.deepcopy(config)
    for catalogue in (*CATALOGUES, "settings"):
        # by name: whoever merges a study into the config, we or a workflow engine, leaves another order behind
        full[catalogue] = dict(sorted(full[catalogue].items()))
    for catalogue in CATALOGUES:
        full[catalogue] = {name: {"kind": name} | (entry or {}) for name, entry in full[catalogue].items()}
    full = filled(full, schema, schema)
    for setting in full["settings"].values():
        if setting["checkpoint"] is not None:
            setting["access"] = "final_model"  # nothing else is known
    if full["removal"]:
        full["removal"] = _arranged(full["removal"], full)
    try:
        registry = Registry(full["plugins"])
    except ValueError as error:
        raise ConfigError([str(error)]) from error
    own = own_keys(schema)
    wrong = [f"plugins: {line}" for line in registry.wrong_plugins()] or [*signature_errors(registry, own)]
    if wrong:
        raise ConfigError(wrong)
    errors = [*choice_errors(full, registry), *entry_errors(full, registry, own)]
    errors = errors or list(contradictions(full, registry)) or list(agreement_errors(full, registry))
    if errors:
        raise ConfigError(errors)
    return in_one_form(full, schema, registry)


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
