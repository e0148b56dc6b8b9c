"""The plan: every job of a config, with its spec. Nothing is computed here, and torch is not imported.

A job's spec holds the config values it uses, the fingerprint of the code it runs, the sums of its raw files, and for
each input the digest of the spec that the input must have been made from. Specs are therefore a chain: one changed
value changes the specs of exactly the jobs that depend on it.
"""

from pathlib import Path

from attriflow import sizes
from attriflow.config import ConfigError, chosen_ensembles, chosen_of, chosen_settings
from attriflow.ensembles import by_model
from attriflow.imports import refuse_hiding
from attriflow.plan.evaluations import (
    add_evaluation,
    add_evaluation_of_further,
    add_final_model,
    add_mechanism,
    add_mislabel,
    add_mislabel_baseline,
    add_stability,
)
from attriflow.plan.figures import add_figures
from attriflow.plan.grid import Grid
from attriflow.plan.jobs import Job, Jobs, Source
from attriflow.plan.models import add_adapters, add_data, add_ensemble, add_model, members_of, sizes_of
from attriflow.plan.scores import add_scores
from attriflow.plan.tables import (
    add_examples,
    add_removal,
    add_tables_of_further_training,
    add_tables_of_retraining,
    add_tables_of_rules,
)
from attriflow.plan.truths import add_further, add_ground_truth, trains_on

__all__ = ["Job", "Plan", "Source"]


class Plan(Jobs):
    """Every job of a checked config, by stem, each after the jobs it needs."""

    def __init__(self, config: dict, scripts: Path):
        super().__init__(config, scripts)
        try:
            refuse_hiding(scripts)
        except ImportError as error:
            raise ConfigError([str(error)]) from error
        evaluated, extremes, removals = [], [], []
        for setting in self.chosen("settings"):
            rows = self._add_setting(setting)
            evaluated += rows
            if rows:
                extremes.append(add_examples(self, setting, rows))
                removals += add_removal(self, setting, rows)
        made = add_tables_of_retraining(self, evaluated, extremes)
        if removals:
            made["removal"] = [Source(job, "summary") for job in removals]
        made |= add_tables_of_rules(self)
        add_figures(self, made | add_tables_of_further_training(self))

    def _add_setting(self, setting: str) -> list[Job]:
        """Everything of one setting, up to its evaluations against retraining from scratch, which are returned."""
        data = add_data(self, self.config["settings"][setting]["dataset"])
        chosen = chosen_of(self.config, "ground_truth", setting)
        truths = [add_ground_truth(self, setting, truth, data) for truth in chosen if not trains_on(self, truth)]
        evaluated = []
        for ensemble in chosen_of(self.config, "ensembles", setting):
            members = members_of(self, ensemble)
            models = [add_model(self, setting, first, data) for first, *_ in by_model(members).values()]
            add_adapters(self, setting, ensemble, members, models, data)
            ensembled = add_ensemble(self, setting, ensemble, members, models)
            wanted = set(sizes_of(self, ensemble))
            furthered = []
            if len(members) == 1:
                names = [truth for truth in chosen if trains_on(self, truth)]
                furthered = [add_further(self, setting, truth, models[0], data) for truth in names]
            if furthered:
                add_final_model(self, setting, ensemble, furthered, truths, models[0], data)
            for method in self.chosen("methods"):
                entry = self.config["methods"][method]
                if setting in chosen_settings(self.config, entry) and ensemble in chosen_ensembles(self.config, method):
                    for scores in add_scores(self, setting, ensemble, method, members, models, ensembled, data):
                        if truths:
                            evaluated.append(add_evaluation(self, scores, ensembled, truths))
                        if furthered:
                            add_evaluation_of_further(self, scores, furthered, truths)
                        add_mislabel(self, scores, Grid.of(self.registry, entry), data)
                        if "selection" in scores.inputs:
                            add_stability(self, scores)
                            add_mechanism(self, scores, truths)
                        wanted |= set(sizes.read(scores.settings["sizes"]))
            add_mislabel_baseline(self, setting, ensemble, sorted(wanted), members, models, data)
        return evaluated
