"""Jobs that price ensembles: what they are worth, what they cost, and how their errors are made up."""

import itertools

from attriflow import sizes
from attriflow.plan.jobs import Job, Jobs, Source
from attriflow.plan.scores import add_query, described_models

# kinds of ensembles whose variance is looked at: the others are controls of these, or change no gradients
VARIED = ("dropout", "lora")


def add_prices(plan: Jobs, evaluated: list[Job]) -> Job | None:
    """What ensembles cost, by methods that score several kinds of them in one setting; None where none does."""
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in evaluated:
        if plan.kinds_of_truth(job.settings["setting"], "subsets"):
            groups.setdefault((job.settings["setting"], job.settings["method"]), []).append(job)
    priced = [each for each in groups.values() if len({plan.kind_of_ensemble(job) for job in each}) > 1]
    priced = list(itertools.chain(*priced))
    if not priced:
        return None
    scored = [source.job for job in priced for source in job.inputs["scores"]]
    for job in priced:
        _add_variance(plan, job, priced)
    return plan.add(
        "price",
        f"evaluation/{plan.prefix}ensembles",
        {"kinds": [plan.kind_of_ensemble(job) for job in priced]},
        {"ensembles": "csv", "savings": "savings.csv"},
        {
            "tables": [Source(job, "table") for job in priced],
            "effects": [Source(job, "effects") for job in priced],
            "scores": [Source(job, "scores") for job in scored],
            "described": [source for job in priced for source in job.inputs["ensemble"]],
            "queries": [Source(add_query(plan, job), "query") for job in scored],
        },
    )


def _add_variance(plan: Jobs, evaluation: Job, priced: list[Job]):
    """How an ensemble's squared error is made up, from scores of single members, where halves of models can say.

    It takes four models with several members each, and two more that are members of a naive ensemble of the same
    setting at the same costly point, to measure errors from.
    """
    if plan.kind_of_ensemble(evaluation) not in VARIED:
        return
    scores = evaluation.inputs["scores"][0].job
    wanted = [size for size in sizes.read(scores.settings["sizes"]) if size.models >= 4 and size.per_model >= 2]
    naive = _naive(plan, evaluation, priced)
    if not wanted or naive is None:
        return
    size, reference = sizes.largest(wanted), naive.inputs["scores"][0].job
    names = {each["name"] for each in described_models(scores)[: size.models]}
    others = [place for place, each in enumerate(described_models(reference)) if each["name"] not in names]
    if len(others) < 2:
        return
    copied = ("setting", "ensemble", "method", "kind", "costly", "cheap")
    plan.add(
        "variance",
        f"{evaluation.stem}/variance",
        {key: scores.settings[key] for key in copied} | {"size": size.written, "reference": others} | plan.confidence,
        {"table": "csv"},
        {
            "prepared": scores.inputs["prepared"],
            "reference": reference.inputs["prepared"],
            "chosen": [Source(naive, "table")],
        },
        [("scores", scores.settings["kind"])],
    )


def _naive(plan: Jobs, evaluation: Job, priced: list[Job]) -> Job | None:
    """The largest naive ensemble of the same models, by the same method at the same costly point."""
    entry = plan.config["ensembles"][evaluation.settings["ensemble"]]
    found = [
        job
        for job in priced
        if plan.kind_of_ensemble(job) == "independent"
        and all(job.settings[key] == evaluation.settings[key] for key in ("setting", "method", "costly"))
        and plan.config["ensembles"][job.settings["ensemble"]].get("fraction") == entry.get("fraction")
    ]
    return max(found, key=lambda job: len(described_models(job.inputs["scores"][0].job)), default=None)
