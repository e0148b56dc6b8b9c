"""Entries of a config that contradict themselves or each other."""

from pathlib import Path

from attriflow import hyperparameters
from attriflow.config.chosen import (
    checkpoints,
    chosen_ensembles,
    chosen_of,
    chosen_settings,
    ensemble_members,
    entries_of_run,
    epochs_of,
    examples_of,
    is_regression,
    own_values,
)
from attriflow.config.entries import CATALOGUES
from attriflow.config.members import change_errors, ensemble_errors, share_errors
from attriflow.config.removal import removal_errors
from attriflow.config.shape import of_key, path, said
from attriflow.ensembles import whole
from attriflow.hyperparameters import shown
from attriflow.registry import Registry

_LONGEST = 200  # file systems take 255 bytes, of which temporary names and endings need some


def contradictions(config: dict, registry: Registry):
    """What is wrong with an entry by itself; other errors may follow from it."""
    for name, dataset in config["datasets"].items():
        constants = registry.constants("data", dataset["kind"])
        yield from _size_errors(path("datasets", name), dataset, constants)
        yield from _noise_errors(path("datasets", name), dataset, constants)
    for name, setting in config["settings"].items():
        yield from _recipe_errors(path("settings", name), setting)
    for name, ensemble in config["ensembles"].items():
        yield from ensemble_errors(path("ensembles", name), ensemble, registry)
    for name, method in config["methods"].items():
        yield from _long_name_errors(path("methods", name), method, registry)
    yield from file_errors(config, registry)
    for name, setting in entries_of_run(config, "settings"):
        for file in checkpoints(setting) if setting["recipe"] is None else ():
            if not Path(file).is_file():
                where = path("settings", name, "checkpoint")
                yield _no_file(where, file)


def _no_file(where: str, file: str | Path) -> str:
    return f"{where}: {shown(str(file))} is no file; expected one relative to {Path.cwd()}"


def file_errors(config: dict, registry: Registry):
    """Files that hyperparameters of what runs name, and that are not there."""
    settings = dict(entries_of_run(config, "settings"))
    datasets = {setting["dataset"] for setting in settings.values()}
    entries = [(path("datasets", name), "data", config["datasets"][name]) for name in sorted(datasets)]
    entries += [(path("settings", name, "model"), "models", setting["model"]) for name, setting in settings.items()]
    for catalogue in ("ground_truth", "ensembles", "methods"):
        room, _ = CATALOGUES[catalogue]
        entries += [(path(catalogue, name), room, entry) for name, entry in entries_of_run(config, catalogue)]
    for where, room, entry in entries:
        for key, annotation in registry.annotations(room, entry["kind"]).items():
            for file in hyperparameters.files(entry.get(key), annotation):
                if not file.is_file():
                    yield _no_file(f"{where}.{key}", file)


def agreement_errors(config: dict, registry: Registry):
    yield from _empty_errors(config, registry)
    yield from _idle_errors(config)
    yield from _truth_errors(config, registry)
    yield from share_errors(config, registry)
    yield from _access_errors(config, registry)
    yield from change_errors(config, registry)
    yield from _epoch_errors(config, registry)
    yield from _regression_errors(config, registry)
    yield from removal_errors(config, registry)
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
    if noise and is_regression(dataset, constants):
        yield f"{where}.label_noise: {dataset['kind']} is a regression; noise replaces a class by another one"
    elif noise and round(noise["fraction"] * n) in (0, n):
        flips = f"{noise['fraction']} of {n} training labels is {round(noise['fraction'] * n)}"
        yield f"{where}.label_noise.fraction: {flips}; at least one must be flipped, and one not"


def _empty_errors(config: dict, registry: Registry):
    """Settings of the run of which nothing would be made."""
    retrained = {
        name
        for name, truth in entries_of_run(config, "ground_truth")
        if "training" not in registry.functions("ground_truth", truth["kind"])
    }
    ensembles = [name for name, _ in entries_of_run(config, "ensembles")]
    for setting, _ in entries_of_run(config, "settings"):
        measured = retrained.intersection(chosen_of(config, "ground_truth", setting))
        if not measured and not chosen_of(config, "ensembles", setting):
            yield (
                f"{path('settings', setting)}: nothing is made of it: 'only' and 'skip' leave it none of the run's "
                f"ensembles {ensembles} and nothing to retrain for; give it one, or leave it out of run.settings"
            )


def _long_name_errors(where: str, method: dict, registry: Registry):
    """Points of a method whose names are too long for those of files."""
    prepare, score = (registry.hyperparameters("scores", method["kind"], each) for each in ("prepare", "score"))
    largest = {}
    for name in prepare.keys() - score.keys():
        value = method.get(name, prepare[name].default)
        largest[name] = max(value if isinstance(value, list) else [value], key=lambda each: len(str(each)))
    if len(longest := hyperparameters.point_folder(largest)) > _LONGEST:
        yield f"{where}: a folder is named by its values, {shown(longest)}, {len(longest)} letters; at most {_LONGEST}"


def _idle_errors(config: dict):
    """Entries that the run names and that run nowhere: a study inherits 'only' and 'skip' from config.yaml."""
    scored = {
        (ensemble, method)
        for method, entry in entries_of_run(config, "methods")
        for ensemble in chosen_ensembles(config, method)
        if {*chosen_settings(config, entry)} & {*chosen_settings(config, config["ensembles"][ensemble])}
    }
    runs = {
        "ground_truth": {
            name for name, entry in entries_of_run(config, "ground_truth") if chosen_settings(config, entry)
        },
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
    for name, truth in entries_of_run(config, "ground_truth"):
        refused: dict[str, list[str]] = {}
        for setting in chosen_settings(config, truth):
            n = examples_of(config, setting)
            try:
                _expect_examples(truth, n)
                kind = registry.load("ground_truth", truth["kind"])
                runs = kind.runs(n, name, config["seed"], **own_values(registry, truth, "runs"))
                if "training" in registry.functions("ground_truth", truth["kind"]):
                    _expect_training(kind.training(n, **own_values(registry, truth, "training")))
                next(iter(runs.values()))[0].examples(n, config["seed"])  # all of them have as many
            except Exception as error:  # a plugin's may raise anything
                refused.setdefault(said(error), []).append(f"settings.{setting}")
        for error, settings in refused.items():
            yield f"{of_key(path('ground_truth', name), truth, error)} (for {', '.join(settings)})"


_TRAINING = {"amounts", "dropout", "estimator", "precision", "recipe"}  # what `engine.further.train` takes


def _expect_training(said: dict):
    if not isinstance(said, dict) or said.keys() != _TRAINING:
        given = sorted(said) if isinstance(said, dict) else type(said).__name__
        raise ValueError(f"training returns {given}; expected a mapping with {sorted(_TRAINING)}")


def _expect_examples(truth: dict, n: int):
    if isinstance(examples := truth.get("examples"), int) and examples > n:
        raise ValueError(f"examples: {examples} are more than the {n} training examples")


def _access_errors(config: dict, registry: Registry):
    """What looks at more of a setting than its final model, where that is all there is."""
    final = [name for name, setting in entries_of_run(config, "settings") if setting["access"] == "final_model"]
    for name in final:
        if config["settings"][name]["checkpoints"]:
            yield f"{path('settings', name)}.checkpoints: access is final_model, so nothing but the last may be kept"
    for name, method in entries_of_run(config, "methods"):
        if registry.constants("scores", method["kind"]).get("ACCESS") == "training":
            for setting in chosen_settings(config, method):
                if setting in final:
                    yield (
                        f"{path('methods', name)}: {method['kind']} looks at the training, and settings.{setting} "
                        f"gives access to the final model alone; skip it there"
                    )
    for name, ensemble in entries_of_run(config, "ensembles"):
        models = whole(ensemble_members(registry, ensemble)).models
        for setting in chosen_settings(config, ensemble):
            if setting in final and models > max(1, len(checkpoints(config["settings"][setting]))):
                yield (
                    f"{path('ensembles', name)}: it has {models} models, and settings.{setting} gives access to one "
                    f"final model; let it run on other settings `only`"
                )


def _epoch_errors(config: dict, registry: Registry):
    """Epochs that a method asks for and a setting does not keep."""
    for name, method in entries_of_run(config, "methods"):
        for key, value in epochs_of(method, registry):
            for setting in chosen_settings(config, method):
                kept = config["settings"][setting]["checkpoints"]
                if value != "last" and value not in kept:
                    yield (
                        f"{path('methods', name, key)}: settings.{setting} does not keep epoch {value}; "
                        f"its checkpoints: {[*kept, 'last']}"
                    )


def _regression_errors(config: dict, registry: Registry):
    """What needs classes, on a setting whose labels are numbers."""
    for name, method in entries_of_run(config, "methods"):
        kind = method["kind"]
        takes = registry.hyperparameters("scores", kind, "prepare")
        known = "target" in takes and takes["target"].annotation == "Target"  # a plugin's may be anything
        target = method.get("target", "loss") if known else "loss"
        other = [value for value in (target if isinstance(target, list) else [target]) if value != "loss"]
        classes_only = registry.constants("scores", kind).get("CLASSES_ONLY")
        for setting in chosen_settings(config, method):
            dataset = config["datasets"][config["settings"][setting]["dataset"]]
            if not is_regression(dataset, registry.constants("data", dataset["kind"])):
                continue
            if classes_only:
                where = path("methods", name)
                yield f"{where}: {kind} is for classes and settings.{setting} is a regression; `skip` it there"
            if other:
                where = path("methods", name, "target")
                yield f"{where}: settings.{setting} is a regression, whose only output is 'loss', not {other}"


def _checkpoint_errors(config: dict, registry: Registry):
    """What a setting that is not trained cannot have. Where none is, `removal_errors` says so of the removal."""
    trained = [name for name, setting in entries_of_run(config, "settings") if not checkpoints(setting)]
    for name, setting in entries_of_run(config, "settings"):
        files = checkpoints(setting)
        if not files:
            continue
        where = path("settings", name, "checkpoint")
        untrained = f"settings.{name} starts from a checkpoint and is not trained"
        for truth in chosen_of(config, "ground_truth", name):
            entry = config["ground_truth"][truth]
            if "training" not in registry.functions("ground_truth", entry["kind"]):  # how it trains on
                yield f"{path('ground_truth', truth)}: {entry['kind']} trains from scratch, but {untrained}"
        removed = [
            method
            for method in (config["removal"]["methods"] if config["removal"] and trained else ())
            if name in chosen_settings(config, config["methods"].get(method, {"only": {}, "skip": [name]}))
        ]
        if removed:
            yield f"removal: it trains from scratch, but {untrained}; {removed} must skip it, or write `removal: null`"
        for ensemble in chosen_of(config, "ensembles", name):
            members = ensemble_members(registry, config["ensembles"][ensemble])
            largest = max(member.number for member in members)
            if largest >= len(files):
                yield f"{path('ensembles', ensemble)}: member {largest} (from 0), but {where} names {len(files)}"
            if any(member.run.subset is not None for member in members):
                yield f"{path('ensembles', ensemble)}: members see parts of the data, but {untrained}"
