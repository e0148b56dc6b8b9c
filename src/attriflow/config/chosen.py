"""What of a checked config a run takes."""

from attriflow.ensembles import Member
from attriflow.registry import Registry

# keys of an ensemble that are not hyperparameters of its kind
_ENSEMBLES_OWN = ("kind", "sizes", "block", "only", "skip")


def own_values(registry: Registry, truth: dict, function: str) -> dict:
    """The hyperparameters of one function that an entry of `ground_truth` gives."""
    takes = registry.hyperparameters("ground_truth", truth["kind"], function)
    return {name: truth[name] for name in takes if name in truth}


def examples_of(config: dict, setting: str) -> int:
    """The training examples of a setting, n."""
    return config["datasets"][config["settings"][setting]["dataset"]]["train"]


def is_regression(dataset: dict, constants: dict) -> bool:
    """Whether the config, or else the file of a data set's kind, says that its labels are numbers."""
    return dataset["task"] == "regression" if dataset["task"] else bool(constants.get("REGRESSION"))


def epochs_of(method: dict, registry: Registry):
    """The hyperparameters of a method that are epochs, with every value that its entry gives."""
    for key, hyperparameter in registry.hyperparameters("scores", method["kind"], "prepare").items():
        if hyperparameter.annotation == "Epoch" and key in method:
            yield from ((key, value) for value in (method[key] if isinstance(method[key], list) else [method[key]]))


def checkpoints(setting: dict) -> list[str]:
    """The files that a setting starts from; none where it is trained."""
    files = setting["checkpoint"]
    return [files] if isinstance(files, str) else files or []


def ensemble_members(registry: Registry, entry: dict) -> list[Member]:
    """The members of an entry of `ensembles`."""
    given = {key: value for key, value in entry.items() if key not in _ENSEMBLES_OWN}
    return registry.load("ensembles", entry["kind"]).members(**given)


def entries_of_run(config: dict, catalogue: str) -> list[tuple[str, dict]]:
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
    return [name for name, entry in entries_of_run(config, catalogue) if setting in chosen_settings(config, entry)]


def _allowed(config: dict, method: dict, catalogue: str) -> list[str]:
    chosen = config["run"].get(catalogue, list(config[catalogue]))
    return [name for name in chosen if name in method["only"].get(catalogue, chosen)]
