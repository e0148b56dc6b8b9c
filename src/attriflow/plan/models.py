"""Jobs of data, models and ensembles."""

from dataclasses import asdict, replace
from pathlib import Path

from attriflow import sizes
from attriflow.config import ConfigError, checkpoints, ensemble_members
from attriflow.data import raw_sums
from attriflow.ensembles import Member, by_model, whole
from attriflow.plan.jobs import Job, Jobs, Source
from attriflow.provenance import read, sha256
from attriflow.sizes import EnsembleSize


def add_data(plan: Jobs, name: str) -> Job:
    """The examples of a data set."""
    entry = plan.config["datasets"][name]
    kind = entry["kind"]
    constants = plan.registry.constants("data", kind)
    files = constants.get("FILES", {})
    raw = raw_sums(constants.get("FOLDER", kind), files, _seen(name, kind) if None in files.values() else {})
    takes = plan.registry.hyperparameters("data", kind, "load")
    given = {key: value for key, value in entry.items() if key in takes}  # apart: they may be called as they like
    own = {key: value for key, value in entry.items() if key not in takes}
    settings = {"dataset": name, **own, "hyperparameters": given, "raw": raw}
    return plan.add("dataset", f"data/{name}", settings, {"data": "npz"}, kinds=[("data", kind)])


def _seen(name: str, kind: str) -> dict[str, str | None]:
    """The sums of the raw files that a data set was made from, where it lies here: they travel with its record."""
    record = read(Path(f"results/data/{name}.made.json"))
    settings = record["spec"]["settings"] if record else {}
    return settings.get("raw", {}) if settings.get("kind") == kind else {}


def training_of(plan: Jobs, setting: str) -> dict:
    """What of a setting decides how its models come about."""
    entry = plan.config["settings"][setting]
    return {"model": entry["model"], "recipe": entry["recipe"]}  # no recipe where it is not trained


def add_model(plan: Jobs, setting: str, member: Member, data: Job) -> Job:
    """One member: trained, or the checkpoint of its number."""
    entry = plan.config["settings"][setting]
    if files := checkpoints(entry):
        return _add_adopted(plan, setting, member, data, Path(files[member.number]))
    kept = sorted({*entry["checkpoints"], entry["recipe"]["epochs"]})
    settings = training_of(plan, setting) | {"checkpoints": kept, "run": member.run.as_dict()}
    return plan.add(
        "train",
        f"models/{setting}/{member.name}",
        settings,
        {"model": "pt", "metrics": "json"},
        {"data": [Source(data, "data")]},
        [("models", entry["model"]["kind"])],
    )


def _add_adopted(plan: Jobs, setting: str, member: Member, data: Job, file: Path) -> Job:
    """A user's own checkpoint, of which nothing but the weights is known."""
    model = plan.config["settings"][setting]["model"]
    return plan.add(
        "adopt",
        f"models/{setting}/adopted/{member.name}",
        {"model": model, "file": str(file), "sha256": sha256(file), "checkpoints": [0], "run": None},
        {"model": "pt", "metrics": "json"},
        {"data": [Source(data, "data")]},
        [("models", model["kind"])],
    )


def add_adapters(plan: Jobs, setting: str, ensemble: str, members: list[Member], models: list[Job], data: Job):
    """The adapters of every model of an ensemble that is made of them, trained on the examples of the model."""
    for model, (name, each) in zip(models, by_model(members).items(), strict=True):
        changes = [member.change for member in each if member.change.get("kind") == "lora"]
        if not changes:
            continue
        if changes != [changes[0] | {"number": number} for number in range(len(changes))]:
            raise ConfigError([f"ensembles.{ensemble}: adapters of a model train together: they must be alike"])
        base = each[0].run
        runs = [replace(base, stream=f"{base.stream}/adapters/{change['number']}") for change in changes]
        entry = plan.config["settings"][setting]["model"]
        plan.add(
            "adapt",
            _adapters_stem(setting, ensemble, model),
            {"model": entry, "base": name, "adapter": changes[0]["adapter"], "recipe": changes[0]["recipe"]}
            | {"runs": [run.as_dict() for run in runs]},
            {"adapters": "pt", "metrics": "json"},
            {"data": [Source(data, "data")], "model": [Source(model, "model")]},
            [("models", entry["kind"])],
        )


def adapters_of(plan: Jobs, setting: str, ensemble: str, models: list[Job]) -> dict[str, list[Source]]:
    """The adapters of some models of an ensemble as an input of a job that reads these; none where it has none."""
    jobs = [plan.jobs.get(_adapters_stem(setting, ensemble, model)) for model in models]
    return {"adapters": [Source(job, "adapters") for job in jobs]} if all(jobs) else {}


def members_of(plan: Jobs, ensemble: str) -> list[Member]:
    """The members of an ensemble, of any setting."""
    return ensemble_members(plan.registry, plan.config["ensembles"][ensemble])


def sizes_of(plan: Jobs, ensemble: str) -> list[EnsembleSize]:
    """The sizes at which an ensemble is scored."""
    per_model = whole(members_of(plan, ensemble)).per_model
    return [EnsembleSize.read(size, per_model) for size in plan.config["ensembles"][ensemble]["sizes"]]


def add_ensemble(plan: Jobs, setting: str, ensemble: str, members: list[Member], models: list[Job]) -> Job:
    """The members of an ensemble of a setting, with what training them gave and cost."""
    runs = {Path(model.stem).name: model.settings["run"] for model in models}
    described = [asdict(member) | {"run": runs[member.name]} for member in members]
    settings = {"ensemble": ensemble, "members": described}
    inputs = {name: [Source(model, name) for model in models] for name in ("model", "metrics")}
    adapters = adapters_of(plan, setting, ensemble, models)
    if adapters:
        inputs |= adapters | {"adapter_metrics": [Source(each.job, "metrics") for each in adapters["adapters"]]}
    return plan.add("ensemble", f"ensembles/{setting}/{ensemble}", settings, {"ensemble": "json"}, inputs)


def described_members(plan: Jobs, members: list[Member], models: list[Job], wanted: list[EnsembleSize]) -> list[dict]:
    """Of every model that some sizes take: its name, its run, and the changes that its members are."""
    described = zip(by_model(members).items(), models, sizes.counts(wanted), strict=False)
    return [
        {"name": name, "run": model.settings["run"], "changes": [member.change for member in each[:count]]}
        for (name, each), model, count in described
    ]


def _adapters_stem(setting: str, ensemble: str, model: Job) -> str:
    return f"models/{setting}/adapters/{ensemble}/{Path(model.stem).name}"
