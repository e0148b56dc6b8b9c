"""Ensembles of a config whose members contradict themselves, their models or the methods that score them."""

from attriflow.config.chosen import (
    chosen_ensembles,
    chosen_settings,
    ensemble_members,
    entries_of_run,
    epochs_of,
    examples_of,
)
from attriflow.config.shape import of_key, path, said
from attriflow.ensembles import whole
from attriflow.registry import Registry
from attriflow.sizes import EnsembleSize


def ensemble_errors(where: str, ensemble: dict, registry: Registry):
    """Members that contradict each other, and sizes that are none or more than there is."""
    try:
        there = whole(ensemble_members(registry, ensemble))
    except Exception as error:  # a plugin's may raise anything
        yield of_key(where, ensemble, said(error))
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


def share_errors(config: dict, registry: Registry):
    """Members whose share of the training examples is none, or all."""
    for name, entry in entries_of_run(config, "ensembles"):
        runs = {member.run.fraction: member.run for member in ensemble_members(registry, entry)}
        for setting in chosen_settings(config, entry):
            for run in runs.values():
                try:
                    run.examples(examples_of(config, setting), config["seed"])
                except ValueError as error:
                    yield f"{of_key(path('ensembles', name), entry, str(error))} (for settings.{setting})"


def change_errors(config: dict, registry: Registry):
    """What the members of an ensemble do to models that allow no such thing, and methods that cannot follow it."""
    for name, entry in entries_of_run(config, "ensembles"):
        changes = [member.change for member in ensemble_members(registry, entry) if member.change]
        if not changes:
            continue
        where = path("ensembles", name)
        for setting in chosen_settings(config, entry):
            yield from _mask_errors(
                where, changes, f"settings.{setting}", config["settings"][setting]["model"], registry
            )
            yield from _changed_epoch_errors(where, changes, setting, config, registry)
        for method, each in entries_of_run(config, "methods"):
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
    for name, method in entries_of_run(config, "methods"):
        if setting not in chosen_settings(config, method) or where.split(".")[1] not in chosen_ensembles(config, name):
            continue
        for key, value in epochs_of(method, registry):
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
