"""Jobs that measure: scores of one method, or one final model, against ground truths."""

from attriflow.ensembles import Member
from attriflow.hyperparameters import RULES
from attriflow.plan.grid import Grid
from attriflow.plan.jobs import Job, Jobs, Source
from attriflow.plan.models import adapters_of, described_members, members_of
from attriflow.sizes import EnsembleSize


def add_evaluation(plan: Jobs, scores: Job, ensembled: Job, truths: list[Job]) -> Job:
    """What scores say of retraining from scratch, by every metric."""
    metrics = {
        metric: plan.registry.constants("evaluation", metric)["TRUTH"] for metric in plan.registry.kinds("evaluation")
    }
    copied = ("setting", "ensemble", "method", "costly", "cheap", "sizes")
    settings = {key: scores.settings[key] for key in copied}
    settings |= {"truths": [{key: truth.settings[key] for key in ("truth", "kind", "n")} for truth in truths]}
    return plan.add(
        "evaluate",
        scores.stem.replace("scores/", "evaluation/", 1),
        settings | {"metrics": metrics} | plan.config["evaluation"],
        {"table": "csv", "effects": "npz"},
        {
            "scores": [Source(scores, "scores")],
            "ensemble": [Source(ensembled, "ensemble")],
            "truths": [Source(truth, "truth") for truth in truths],
        },
        [("evaluation", metric) for metric in metrics],
    )


def add_evaluation_of_further(plan: Jobs, scores: Job, furthered: list[Job], truths: list[Job]):
    """What scores say of further training, and of retraining without the same examples."""
    retrained = _with_all_of(truths, furthered)
    copied = ("setting", "ensemble", "method", "costly", "cheap", "sizes")
    plan.add(
        "evaluate_further",
        f"{scores.stem.replace('scores/', 'evaluation/', 1)}/further",
        {key: scores.settings[key] for key in copied}
        | _model_seed(plan, scores.settings["ensemble"])
        | {"truths": _described(furthered), "retrained": _described(retrained)}
        | plan.confidence,
        {"further": "csv", "seeds": "seeds.csv", "profile": "profile.csv"},
        {
            "scores": [Source(scores, "scores")],
            "truths": [Source(truth, "truth") for truth in furthered],
            "retrained": [Source(truth, "truth") for truth in retrained],
        },
    )


def add_final_model(
    plan: Jobs, setting: str, ensemble: str, furthered: list[Job], truths: list[Job], model: Job, data: Job
):
    """How far one final model has converged, and how its ground truths agree."""
    entry, retrained = plan.config["settings"][setting]["model"], _with_all_of(truths, furthered)
    named = {"setting": setting, "ensemble": ensemble} | _model_seed(plan, ensemble)
    plan.add(
        "convergence",
        f"evaluation/{setting}/{ensemble}/convergence",
        named | {"model": entry},
        {"convergence": "csv"},
        {"data": [Source(data, "data")], "model": [Source(model, "model")]},
        [("models", entry["kind"])],
    )
    plan.add(
        "agree",
        f"evaluation/{setting}/{ensemble}/agreement",
        named | {"truths": _described(furthered), "retrained": _described(retrained)},
        {"truths": "csv", "profile": "profile.csv"},
        {
            "truths": [Source(truth, "truth") for truth in furthered],
            "retrained": [Source(truth, "truth") for truth in retrained],
        },
    )


def _model_seed(plan: Jobs, ensemble: str) -> dict[str, int]:
    """Which of several final models of a setting an ensemble is."""
    return {"model_seed": members_of(plan, ensemble)[0].number}


def add_mislabel(plan: Jobs, scores: Job, grid: Grid, data: Job):
    """Flipped labels, where there are any, by self-influence, from the arrays that the scores are made from."""
    kind = scores.settings["kind"]
    if not data.settings["label_noise"] or "self_influence" not in plan.registry.functions("scores", kind):
        return
    points = grid.cheap(plan.registry.hyperparameters("scores", kind, "self_influence"))
    inputs = {name: scores.inputs[name] for name in ("prepared", "selection") if name in scores.inputs}
    plan.add(
        "mislabel",
        f"{scores.stem.replace('scores/', 'evaluation/', 1)}/mislabel",
        scores.settings | {"cheap": points} | plan.confidence,
        {"table": "csv"},
        inputs | {"data": [Source(data, "data")]},
        [("scores", kind)],
    )


def add_mislabel_baseline(
    plan: Jobs,
    setting: str,
    ensemble: str,
    wanted: list[EnsembleSize],
    members: list[Member],
    models: list[Job],
    data: Job,
):
    """Flipped labels, where there are any, by the training loss of the members."""
    if not data.settings["label_noise"]:
        return
    model, described = plan.config["settings"][setting]["model"], described_members(plan, members, models, wanted)
    kept = (
        []
        if any("epoch" in member.change or "adapter" in member.change for member in members)
        else plan.config["settings"][setting]["checkpoints"]
    )
    plan.add(
        "mislabel_baseline",
        f"evaluation/{setting}/{ensemble}/mislabel_baseline",
        {"setting": setting, "ensemble": ensemble, "model": model, "sizes": [size.written for size in wanted]}
        | {"members": described}
        | {"epochs": [*kept, "last"]}
        | plan.confidence,
        {"table": "csv"},
        {"models": [Source(each, "model") for each in models[: len(described)]], "data": [Source(data, "data")]}
        | adapters_of(plan, setting, ensemble, models[: len(described)]),
        [("models", model["kind"])],
    )


def add_stability(plan: Jobs, scores: Job):
    """What a rule chooses from a few test examples, at one costly point."""
    (selection,) = scores.inputs["selection"]
    plan.add(
        "stability",
        f"{scores.stem.replace('scores/', 'evaluation/', 1)}/stability",
        selection.job.settings,
        {"table": "csv"},
        {"prepared": scores.inputs["prepared"]},
        [("scores", scores.settings["kind"])],
    )


def add_mechanism(plan: Jobs, scores: Job, truths: list[Job]):
    """Why a damping is best, where the method has `powers` and there are subsets; on the range of its dampings."""
    kind, (selection,) = scores.settings["kind"], scores.inputs["selection"]
    subsets = [truth for truth in truths if truth.settings["kind"] == "subsets"]
    grid = {point["damping"] for point in scores.settings["cheap"]} - set(RULES) - {0}
    if not subsets or not grid or "powers" not in plan.registry.functions("scores", kind):
        return
    described = [{key: truth.settings[key] for key in ("truth", "n")} for truth in subsets]
    plan.add(
        "mechanism",
        f"{scores.stem.replace('scores/', 'evaluation/', 1)}/mechanism",
        selection.job.settings | {"grid": sorted(grid), "truths": described} | plan.confidence,
        {"table": "csv"},
        {
            "prepared": scores.inputs["prepared"],
            "ensemble": scores.inputs["ensemble"],
            "truths": [Source(truth, "truth") for truth in subsets],
        },
        [("scores", kind)],
    )


def _described(truths: list[Job]) -> list[dict]:
    """What tables say of ground truths."""
    return [{key: truth.settings[key] for key in ("truth", "estimator") if key in truth.settings} for truth in truths]


def _with_all_of(truths: list[Job], furthered: list[Job]) -> list[Job]:
    """The leave-one-out retrainings that leave out every example that further training leaves out."""
    wanted = set().union(*(_left_out(truth) for truth in furthered))
    return [truth for truth in truths if truth.settings["kind"] == "leave_one_out" and wanted <= _left_out(truth)]


def _left_out(truth: Job) -> set[int]:
    return {index for every in truth.settings["runs"] for run in every for index in run["left_out"]}
