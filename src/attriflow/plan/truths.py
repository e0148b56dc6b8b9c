"""Jobs of ground truths."""

from pathlib import Path

from attriflow.config import own_values
from attriflow.plan.jobs import Job, Jobs, Source
from attriflow.plan.models import training_of
from attriflow.runs import Run


def add_ground_truth(plan: Jobs, setting: str, truth: str, data: Job) -> Job:
    """A ground truth that retrains from scratch, in blocks."""
    entry = plan.config["ground_truth"][truth]
    kind, size, n = entry["kind"], entry["block"], data.settings["train"]
    runs = _runs(plan, truth, data)
    training = training_of(plan, setting)
    blocks, repeats = [], []
    for repeat, every in runs.items():
        for start in range(0, len(every), size):
            block = [run.as_dict() for run in every[start : start + size]]
            job = plan.add(
                "retrain",
                f"ground_truth/{setting}/{truth}/{repeat}.{start // size}",
                training | {"runs": block},
                {"outputs": "npz"},
                {"data": [Source(data, "data")]},
                [("models", training["model"]["kind"])],
            )
            blocks.append(Source(job, "outputs"))
            repeats.append(repeat)
    described = [[run.as_dict() for run in every] for every in runs.values()]
    return plan.add(
        "collect",
        f"ground_truth/{setting}/{truth}",
        {"truth": truth, "kind": kind, "n": n, "runs": described, "repeats": repeats},
        {"truth": "npz"},
        {"blocks": blocks},
        [("ground_truth", kind)],
    )


def trains_on(plan: Jobs, truth: str) -> bool:
    """Whether a ground truth starts from a final model."""
    return "training" in plan.registry.functions("ground_truth", plan.config["ground_truth"][truth]["kind"])


def _runs(plan: Jobs, truth: str, data: Job) -> dict[int, list[Run]]:
    entry = plan.config["ground_truth"][truth]
    values = own_values(plan.registry, entry, "runs")
    runs = plan.registry.load("ground_truth", entry["kind"]).runs
    return runs(data.settings["train"], f"ground_truth/{truth}", plan.config["seed"], **values)


def add_further(plan: Jobs, setting: str, truth: str, model: Job, data: Job) -> Job:
    """A ground truth that starts from a final model, in blocks."""
    entry = plan.config["ground_truth"][truth]
    kind, size, n = entry["kind"], entry["block"], data.settings["train"]
    values = own_values(plan.registry, entry, "training")
    training = plan.registry.load("ground_truth", kind).training(n, **values)
    model_entry = {"model": plan.config["settings"][setting]["model"]}
    stem = f"ground_truth/{setting}/{truth}/{Path(model.stem).name}"
    inputs = {"data": [Source(data, "data")], "model": [Source(model, "model")]}
    kinds = [("models", model_entry["model"]["kind"])]
    runs, blocks, repeats = _runs(plan, truth, data), [], []
    for seed, every in runs.items():
        for start in range(0, len(every), size):
            block = [run.as_dict() for run in every[start : start + size]]
            settings = model_entry | training | {"runs": block}
            name = f"{stem}/{seed}.{start // size}"
            job = plan.add("further", name, settings, {"outputs": "npz"}, inputs, kinds)
            blocks.append(Source(job, "outputs"))
            repeats.append(seed)
    described = [[run.as_dict() for run in every] for every in runs.values()]
    return plan.add(
        "gather",
        stem,
        model_entry | training | {"truth": truth, "kind": kind, "n": n, "runs": described, "repeats": repeats},
        {"truth": "npz"},
        inputs | {"blocks": blocks},
        [("ground_truth", kind), *kinds],
    )
