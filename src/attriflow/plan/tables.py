"""Jobs of the tables of a study."""

from attriflow import sizes
from attriflow.hyperparameters import point_name
from attriflow.plan.grid import several_values
from attriflow.plan.jobs import Job, Jobs, Source
from attriflow.plan.models import add_data, training_of
from attriflow.plan.prices import add_prices


def add_tables_of_retraining(plan: Jobs, evaluated: list[Job], extremes: list[Job]) -> dict[str, list[Source]]:
    """The tables of a study about retraining from scratch; none where no setting has such a ground truth."""
    if not evaluated:
        return {}
    summary = _add_summary(plan, "summary", evaluated)
    made = {"summary": [Source(summary, "summary")], "examples": [Source(job, "examples") for job in extremes]}
    _add_outcome(plan, summary)
    _add_costs(plan)
    for job in (_add_sensitivity(plan, evaluated), _add_choices(plan, evaluated), add_prices(plan, evaluated)):
        made |= {name: [Source(job, name)] for name in (job.outputs if job else ())}
    return made


def add_tables_of_further_training(plan: Jobs) -> dict[str, list[Source]]:
    """The tables of a study about further training, where there is any."""
    made: dict[str, list[Source]] = {}
    for job in plan.room("evaluation"):
        if job.rule in ("evaluate_further", "convergence", "agree"):
            for output in job.outputs:
                made.setdefault(output, []).append(Source(job, output))
    tables = {}
    for output, sources in made.items():
        name = "further" if output == "further" else f"further.{output}"
        stem, settings = f"evaluation/{plan.prefix}{name}", {"columns": "further"}
        job = plan.add("summarise", stem, settings, {"summary": "csv"}, {"tables": sources})
        tables["further" if output == "further" else f"further_{output}"] = [Source(job, "summary")]
    jobs = [job for job in plan.room("evaluation") if job.rule == "evaluate_further"]
    if any("damping" in several_values(plan.config["methods"][job.settings["method"]], []) for job in jobs):
        tables["further_dampings"] = tables["further"]
    return tables


# tables of a study that only some have, and the rules whose measurements each holds
_OF_RULES = {
    "mislabel": ("mislabel", "mislabel_baseline"),
    "mechanism": ("mechanism",),
    "stability": ("stability",),
    "theory": ("variance",),
}


def add_tables_of_rules(plan: Jobs) -> dict[str, list[Source]]:
    """The tables that put together what jobs of some rules measured, where there are such."""
    made = {}
    for name, rules in _OF_RULES.items():
        if measured := [job for job in plan.jobs.values() if job.rule in rules]:
            made[name] = [Source(_add_summary(plan, name, measured), "summary")]
    return made


def _add_summary(plan: Jobs, name: str, measured: list[Job]) -> Job:
    """One of the tables of a study."""
    inputs, stem = {"tables": [Source(job, "table") for job in measured]}, f"evaluation/{plan.prefix}{name}"
    columns = {"columns": "summary" if name in ("summary", "mislabel") else None}
    return plan.add("summarise", stem, columns, {"summary": "csv"}, inputs)


def _add_outcome(plan: Jobs, summary: Job):
    """What the study came to, in few numbers, where any LDS is measured; for who compares commits."""
    if any(plan.kinds_of_truth(setting, "subsets") for setting in plan.chosen("settings")):
        inputs = {"tables": [Source(summary, "summary")]}
        outputs = {"best": "json", "along": "along.csv"}
        plan.add("outcome", f"evaluation/{plan.prefix}outcome", {}, outputs, inputs)


def _add_choices(plan: Jobs, evaluated: list[Job]) -> Job | None:
    """How good chosen dampings are, and the curves that chose them; None where nothing chooses."""
    choosing = [job for job in plan.jobs.values() if job.rule == "choose"]
    if not choosing:
        return None
    copied = ("setting", "ensemble", "method", "costly")
    plain = [name for name in plan.chosen("methods") if plan.config["methods"][name]["kind"] == "grad_dot"]
    return plan.add(
        "compare",
        f"evaluation/{plan.prefix}selection",
        {"chosen": [{key: job.settings[key] for key in copied} for job in choosing], "grad_dot": plain},
        {"selection": "csv", "curves": "curves.csv"},
        {
            "tables": [Source(job, "table") for job in evaluated],
            "effects": [Source(job, "effects") for job in evaluated],
            "selections": [Source(job, "selection") for job in choosing],
            "curves": [Source(job, "curve") for job in choosing],
        },
    )


def _add_costs(plan: Jobs):
    """What choosing dampings costs beside scoring, and retraining for the LDS; nothing where nothing chooses.

    It reads what jobs say of themselves, never what they made, and nothing reads its table.
    """
    choosing = [job for job in plan.jobs.values() if job.rule == "choose"]
    settings = {job.settings["setting"] for job in choosing}
    truths = [job for job in plan.jobs.values() if job.rule == "collect" and job.settings["kind"] == "subsets"]
    retrained = [source for job in truths if job.stem.split("/")[1] in settings for source in job.inputs["blocks"]]
    if not retrained:
        return
    scored = [plan.jobs[job.stem.removesuffix("/selection")] for job in choosing]
    plan.add(
        "costs",
        f"evaluation/{plan.prefix}selection.costs",
        {},
        {"costs": "csv"},
        {
            "choosing": [Source(job, "selection") for job in choosing],
            "scoring": [Source(job, "scores") for job in scored],
            "preparing": [source for job in scored for source in job.inputs["prepared"]],
            "retraining": retrained,
        },
    )


def _add_sensitivity(plan: Jobs, evaluated: list[Job]) -> Job:
    return plan.add(
        "sensitivity",
        f"evaluation/{plan.prefix}sensitivity",
        {"kinds": {method: plan.config["methods"][method]["kind"] for method in plan.chosen("methods")}},
        {"sensitivity": "csv", "transfer": "transfer.csv", "interactions": "interactions.csv"},
        {
            "tables": [Source(job, "table") for job in evaluated],
            "effects": [Source(job, "effects") for job in evaluated],
        },
    )


def add_examples(plan: Jobs, setting: str, evaluated: list[Job]) -> Job:
    """The training examples that the best scores of a setting name, for the first test examples."""
    scores = [source for job in evaluated for source in job.inputs["scores"]]
    data = add_data(plan, plan.config["settings"][setting]["dataset"])
    return plan.add(
        "extremes",
        f"evaluation/{plan.prefix}examples/{setting}",
        {"setting": setting},
        {"examples": "npz"},
        {"tables": [Source(job, "table") for job in evaluated], "scores": scores, "data": [Source(data, "data")]},
    )


def add_removal(plan: Jobs, setting: str, evaluated: list[Job]) -> list[Job]:
    """Retraining without what the scores of a setting name; nothing where the config or no method asks for it."""
    entry = plan.config["removal"]
    if entry is None or not plan.kinds_of_truth(setting, "subsets"):
        return []
    used = [
        job
        for job in evaluated
        if job.settings["method"] in entry["methods"] and job.settings["ensemble"] == entry["ensemble"]
    ]
    if not used:
        return []
    training, data = training_of(plan, setting), add_data(plan, plan.config["settings"][setting]["dataset"])
    copied = {key: entry[key] for key in ("counts", "tests", "repeats")}
    points = [_dampings_of_points(job) for job in used]
    job = plan.add(
        "removal",
        f"evaluation/{plan.prefix}removal/{setting}",
        training
        | {"setting": setting, "dampings": list(entry["dampings"].items()), "points": points}
        | copied
        | plan.confidence,
        {"changes": "changes.csv", "summary": "summary.csv"},
        {
            "data": [Source(data, "data")],
            "ensemble": used[0].inputs["ensemble"],
            "tables": [Source(job, "table") for job in used],
            "scores": [source for job in used for source in job.inputs["scores"]],
        },
        [("models", training["model"]["kind"])],
    )
    return [job]


def _dampings_of_points(evaluation: Job) -> dict:
    """Name of an array of scores, at the largest ensemble -> its damping as the config has it."""
    settings = evaluation.settings
    size = sizes.largest(sizes.read(settings["sizes"]))
    return {
        # as a job reads it from its spec, whose keys are sorted
        point_name({"size": size.written} | dict(sorted(point.items()))): (settings["costly"] | point)["damping"]
        for point in settings["cheap"]
    }
