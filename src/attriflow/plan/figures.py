"""Jobs of the figures of a study, and why there is nothing to draw."""

from attriflow.config import ConfigError
from attriflow.hyperparameters import RULES
from attriflow.pairs import PAIRS, SIZE
from attriflow.plan.grid import several_values
from attriflow.plan.jobs import Jobs, Source
from attriflow.plan.prices import VARIED

_SUBSETS = "a ground truth of the kind 'subsets'"  # what the LDS is measured by
_SEVERAL = "a method with several values of a hyperparameter"


def add_figures(plan: Jobs, made: dict[str, list[Source]]):
    """The figures that are asked for: those that the study has tables for, where none are.

    Raises ConfigError for a figure that is asked for and has nothing to show.
    """
    empty, listed = _empty(plan, made), plan.config["run"].get("figures")
    for figure in list(plan.registry.kinds("figures")) if listed is None else listed:
        needs = plan.registry.arguments("figures", figure, "draw")
        lacking = [empty[name] for name in needs if name in empty]
        if reasons := lacking + _unswept(plan, figure) + _without_kinds(plan, figure):
            if listed is None:
                continue
            raise ConfigError([f"run.figures: '{figure}' has nothing to show; it takes {reasons[0]}"])
        plan.add(
            "draw",
            f"figures/{plan.prefix}{figure}",
            {"figure": figure},
            {"pdf": "pdf", "png": "png"},
            {name: made[name] for name in needs},
            [("figures", figure)],
        )


def _empty(plan: Jobs, made: dict[str, list[Source]]) -> dict[str, str]:
    """The tables that would have no row, and what would give them some."""
    choosing = f"a method with a damping that a rule chooses, {list(RULES)}"
    reasons = {"selection": choosing, "curves": choosing, "mislabel": "a setting whose data set has `label_noise`"}
    reasons |= {"removal": "a section `removal` whose methods run", "stability": choosing}
    several = "a setting and method with several kinds of ensembles, and a ground truth of the kind 'subsets'"
    reasons |= {"ensembles": several, "savings": several}
    reasons["theory"] = f"{several}; one of {list(VARIED)} of 4 models, and 2 more among the independent ones"
    reasons["mechanism"] = f"{choosing}, with a function `powers`, and a ground truth of the kind 'subsets'"
    further = "a ground truth of the kind 'further_training', and an ensemble of one member"
    names = ("further", "further_seeds", "further_profile", "further_convergence", "further_truths")
    reasons |= dict.fromkeys(names, further)
    reasons["further_dampings"] = f"{further}, and a method with several dampings"
    reasons["examples"] = "a ground truth that retrains from scratch"
    empty = {name: reason for name, reason in reasons.items() if name not in made}
    swept = _swept(plan)
    if swept is None:
        names = ("summary", "sensitivity", "transfer", "interactions", "selection", "curves")
        return empty | dict.fromkeys(names, _SUBSETS)
    every = [names for settings in swept.values() for names in settings.values()]
    if not any(every):
        empty["sensitivity"] = _SEVERAL
    if not any(len(settings) > 1 and set.union(*settings.values()) - {SIZE} for settings in swept.values()):
        empty["transfer"] = "two settings in which a method has several values of a hyperparameter"
    if not any(set(pair) <= names for pair in PAIRS for names in every):
        empty["interactions"] = f"a method with several values of both of a pair, one of {list(PAIRS)}"
    return empty


def _swept(plan: Jobs) -> dict[tuple[str, str], dict[str, set[str]]] | None:
    """(ensemble, method) -> setting -> what has several values there; None where no LDS is measured."""
    if not any(plan.kinds_of_truth(setting, "subsets") for setting in plan.chosen("settings")):
        return None
    swept = {}
    for job in plan.room("scores"):
        if job.rule == "score" and plan.kinds_of_truth(job.settings["setting"], "subsets"):
            names = [job.settings[key] for key in ("ensemble", "method", "setting")]
            values = swept.setdefault(tuple(names[:2]), {}).setdefault(names[2], set())
            values |= several_values(plan.config["methods"][names[1]], job.settings["sizes"])
    return swept


def _unswept(plan: Jobs, figure: str) -> list[str]:
    """Why there is nothing along the hyperparameters that a figure shows together, its SWEPT."""
    names, swept = plan.registry.constants("figures", figure).get("SWEPT"), _swept(plan)
    if names is None:
        return []
    if swept is None:
        return [_SUBSETS]
    several = [found - {SIZE} for settings in swept.values() for found in settings.values()]
    if any(found and set(names) <= found for found in several):
        return []
    return [f"a method with several values of each of {sorted(names)}" if names else _SEVERAL]


def _without_kinds(plan: Jobs, figure: str) -> list[str]:
    """Why there are no such ensembles as a figure shows, its KINDS."""
    kinds = plan.registry.constants("figures", figure).get("KINDS", ())
    there = {plan.kind_of_ensemble(job) for job in plan.room("evaluation") if job.rule == "evaluate"}
    return [f"an ensemble of the kind '{kind}'" for kind in kinds if kind not in there]
