"""A removal that asks for what the run does not make."""

from attriflow.config.chosen import checkpoints, chosen_ensembles, chosen_settings, entries_of_run
from attriflow.config.entries import unknown_errors
from attriflow.config.shape import path
from attriflow.hyperparameters import shown
from attriflow.registry import Registry
from attriflow.words import did_you_mean

_NONE = "write `removal: null`"


def removal_errors(config: dict, registry: Registry):
    """What the removal check asks for and the run does not make."""
    removal = config["removal"]
    if removal is None:
        return
    methods, ensembles = (dict(entries_of_run(config, catalogue)) for catalogue in ("methods", "ensembles"))
    trained = [name for name, setting in entries_of_run(config, "settings") if not checkpoints(setting)]
    if not trained:
        named = ", ".join(f"settings.{name}" for name, _ in entries_of_run(config, "settings"))
        yield f"removal: it trains from scratch, but {named} starts from a checkpoint and is not trained; {_NONE}"
        return
    if not methods.keys() & {*removal["methods"]} and len(removal["methods"]) > 1:
        yield f"removal.methods: none of {removal['methods']} is a method of the run, {sorted(methods)}; {_NONE}"
        return
    unknown = [*unknown_errors("removal.methods", removal["methods"], methods)]
    yield from unknown
    if removal["ensemble"] is None and not unknown:
        yield f"removal.ensemble: name the one whose scores are taken; the run has {sorted(ensembles)}"
    elif removal["ensemble"] is not None:
        yield from unknown_errors("removal.ensemble", [removal["ensemble"]], ensembles)
    if all(truth["kind"] != "subsets" for _, truth in entries_of_run(config, "ground_truth")):
        yield f"removal: points are chosen by their LDS, so the run needs a ground truth of kind 'subsets'; or {_NONE}"
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
            near = did_you_mean(damping, ["best", *(each for each in grid if isinstance(each, str))])
            yield f"{where}: {shown(damping)} is not among those of methods.{name}: {shown(grid)}{near}"
