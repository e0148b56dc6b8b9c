"""The plan: every job of a config, with its spec. Nothing is computed here, and torch is not imported.

A job's spec holds the config values it uses, the fingerprint of the code it runs, the sums of its raw files, and for
each input the digest of the spec that the input must have been made from. Specs are therefore a chain: one changed
value changes the specs of exactly the jobs that depend on it.
"""

import itertools
import json
from collections import Counter
from collections.abc import Container
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

from attriflow import provenance, sizes
from attriflow.config import (
    ConfigError,
    checkpoints,
    chosen_ensembles,
    chosen_of,
    chosen_settings,
    ensemble_members,
    own_values,
)
from attriflow.data import raw_sums
from attriflow.ensembles import Member, by_model, whole
from attriflow.fingerprint import fingerprint
from attriflow.hyperparameters import RULES, point_folder, point_name
from attriflow.pairs import PAIRS, SIZE
from attriflow.provenance import sha256
from attriflow.registry import Registry
from attriflow.runs import Run
from attriflow.sizes import EnsembleSize


@dataclass(frozen=True)
class Source:
    """One output of another job, as an input."""

    job: "Job"
    name: str


@dataclass(frozen=True)
class Job:
    """One job: what it makes, from what, with which values and code."""

    rule: str
    stem: str  # room/...: the place of its outputs under results/, of its spec under specs/<study>/, of its log
    settings: dict
    outputs: dict[str, str]  # name -> file name extension
    inputs: dict[str, list[Source]] = field(default_factory=dict)
    files: tuple[Path, ...] = ()  # the code it runs

    @property
    def room(self) -> str:
        """The room it belongs to."""
        return self.stem.split("/")[0]

    def path(self, output: str) -> str:
        """The file of one output."""
        return f"results/{self.stem}.{self.outputs[output]}"

    @property
    def made(self) -> str:
        """The file that says what the outputs were made from."""
        return f"results/{self.stem}.made.json"

    @cached_property
    def spec(self) -> dict:
        """All that decides the outputs, as JSON holds it."""
        content = {
            "job": self.stem,
            "rule": self.rule,
            "settings": self.settings,
            "inputs": {
                name: [
                    {"path": source.job.path(source.name), "made": source.job.made, "spec": source.job.digest}
                    for source in sources
                ]
                for name, sources in self.inputs.items()
            },
            "outputs": {name: self.path(name) for name in self.outputs},
            **fingerprint(*self.files),
        }
        return json.loads(json.dumps(content))  # tuples are lists from here on

    @cached_property
    def text(self) -> str:
        """The spec as its file holds it."""
        return provenance.text(self.spec)

    @cached_property
    def digest(self) -> str:
        """What identifies the spec."""
        return provenance.digest(self.spec)


class Plan:
    """Every job of a checked config, by stem, each after the jobs it needs."""

    def __init__(self, config: dict, scripts: Path):
        self.config = config
        self.registry = Registry(config["plugins"])
        self.jobs: dict[str, Job] = {}
        self._scripts = scripts
        self._study = "" if config["study"] == "default" else config["study"] + "/"
        evaluated, extremes, removals = [], [], []
        for setting in self._chosen("settings"):
            rows = self._setting(setting)
            evaluated += rows
            if rows:
                extremes.append(self._examples(setting, rows))
                removals += self._removal(setting, rows)
        made = self._retrained(evaluated, extremes)
        if removals:
            made["removal"] = [Source(job, "summary") for job in removals]
        for name, rules in TABLES.items():
            if measured := [job for job in self.jobs.values() if job.rule in rules]:
                made[name] = [Source(self._summary(name, measured), "summary")]
        self._figures(made | self._further_tables())

    def _retrained(self, evaluated: list[Job], extremes: list[Job]) -> dict[str, list[Source]]:
        """The tables of a study about retraining from scratch; none where no setting has such a ground truth."""
        if not evaluated:
            return {}
        summary = self._summary("summary", evaluated)
        made = {"summary": [Source(summary, "summary")], "examples": [Source(job, "examples") for job in extremes]}
        self._outcome(summary)
        self._costs()
        for job in (self._sensitivity(evaluated), self._choices(evaluated), self._prices(evaluated)):
            made |= {name: [Source(job, name)] for name in (job.outputs if job else ())}
        return made

    def room(self, room: str) -> list[Job]:
        """The jobs of a room, in order."""
        return [job for job in self.jobs.values() if job.room == room]

    def files(self) -> set[str]:
        """Every file that the jobs make."""
        return {path for job in self.jobs.values() for path in (job.made, *map(job.path, job.outputs))}

    def _chosen(self, catalogue: str) -> list[str]:
        return self.config["run"].get(catalogue, list(self.config[catalogue]))

    def _job(self, rule, stem, settings, outputs, inputs=None, kinds=()) -> Job:
        """Add a job, or return the one that is there: settings share data, methods share members."""
        paths = [self.registry.path(room, kind) for room, kind in kinds]
        plugged = any(self.registry.is_plugin(path) for path in paths)
        common = {"seed": self.config["seed"], "plugins": self.config["plugins"] if plugged else None}
        files = (self._scripts / f"{rule}.py", *paths)
        return self.jobs.setdefault(stem, Job(rule, stem, common | settings, outputs, inputs or {}, files))

    # --- rooms -----------------------------------------------------------------------------------------------

    def _setting(self, setting: str) -> list[Job]:
        """Everything of one setting, up to its evaluations."""
        data = self._data(self.config["settings"][setting]["dataset"])
        chosen = chosen_of(self.config, "ground_truth", setting)
        truths = [self._ground_truth(setting, truth, data) for truth in chosen if not self._trains_on(truth)]
        evaluated = []
        for ensemble in chosen_of(self.config, "ensembles", setting):
            members = self._members(ensemble)
            models = [self._model(setting, first, data) for first, *_ in by_model(members).values()]
            self._adapters(setting, ensemble, members, models, data)
            ensembled = self._ensemble(setting, ensemble, members, models)
            wanted = set(self._sizes(ensemble))
            furthered = []
            if len(members) == 1:
                names = [truth for truth in chosen if self._trains_on(truth)]
                furthered = [self._further(setting, truth, models[0], data) for truth in names]
            if furthered:
                self._final_model(setting, ensemble, furthered, truths, models[0], data)
            for method in self._chosen("methods"):
                entry = self.config["methods"][method]
                if setting in chosen_settings(self.config, entry) and ensemble in chosen_ensembles(self.config, method):
                    for scores in self._scores(setting, ensemble, method, members, models, ensembled, data):
                        if truths:
                            evaluated.append(self._evaluation(scores, ensembled, truths))
                        if furthered:
                            self._evaluation_of_further(scores, furthered, truths)
                        self._mislabel(scores, Grid.of(self.registry, entry), data)
                        if "selection" in scores.inputs:
                            self._stability(scores)
                            self._mechanism(scores, truths)
                        wanted |= set(sizes.read(scores.settings["sizes"]))
            self._mislabel_baseline(setting, ensemble, sorted(wanted), members, models, data)
        return evaluated

    def _data(self, name: str) -> Job:
        entry = self.config["datasets"][name]
        kind = entry["kind"]
        constants = self.registry.constants("data", kind)
        raw = raw_sums(constants.get("FOLDER", kind), constants.get("FILES", {}))
        settings = {"dataset": name, **entry, "raw": raw}
        return self._job("dataset", f"data/{name}", settings, {"data": "npz"}, kinds=[("data", kind)])

    def _training(self, setting: str) -> dict:
        entry = self.config["settings"][setting]
        return {"model": entry["model"], "recipe": entry["recipe"]}  # no recipe where it is not trained

    def _model(self, setting: str, member: Member, data: Job) -> Job:
        """One member: trained, or the checkpoint of its number."""
        entry = self.config["settings"][setting]
        if files := checkpoints(entry):
            return self._adopted(setting, member, data, Path(files[member.number]))
        kept = sorted({*entry["checkpoints"], entry["recipe"]["epochs"]})
        settings = self._training(setting) | {"checkpoints": kept, "run": member.run.as_dict()}
        return self._job(
            "train",
            f"models/{setting}/{member.name}",
            settings,
            {"model": "pt", "metrics": "json"},
            {"data": [Source(data, "data")]},
            [("models", entry["model"]["kind"])],
        )

    def _adopted(self, setting: str, member: Member, data: Job, file: Path) -> Job:
        """A user's own checkpoint, of which nothing but the weights is known."""
        model = self.config["settings"][setting]["model"]
        return self._job(
            "adopt",
            f"models/{setting}/adopted/{member.name}",
            {"model": model, "file": str(file), "sha256": sha256(file), "checkpoints": [0], "run": None},
            {"model": "pt", "metrics": "json"},
            {"data": [Source(data, "data")]},
            [("models", model["kind"])],
        )

    def _adapters(self, setting: str, ensemble: str, members: list[Member], models: list[Job], data: Job):
        """The adapters of every model of an ensemble that is made of them, trained on the examples of the model."""
        for model, (name, each) in zip(models, by_model(members).items(), strict=True):
            changes = [member.change for member in each if member.change.get("kind") == "lora"]
            if not changes:
                continue
            if changes != [changes[0] | {"number": number} for number in range(len(changes))]:
                raise ConfigError([f"ensembles.{ensemble}: adapters of a model train together: they must be alike"])
            base = each[0].run
            runs = [replace(base, stream=f"{base.stream}/adapters/{change['number']}") for change in changes]
            entry = self.config["settings"][setting]["model"]
            self._job(
                "adapt",
                _adapters_stem(setting, ensemble, model),
                {"model": entry, "base": name, "adapter": changes[0]["adapter"], "recipe": changes[0]["recipe"]}
                | {"runs": [run.as_dict() for run in runs]},
                {"adapters": "pt", "metrics": "json"},
                {"data": [Source(data, "data")], "model": [Source(model, "model")]},
                [("models", entry["kind"])],
            )

    def _adapted(self, setting: str, ensemble: str, models: list[Job]) -> dict[str, list[Source]]:
        """The adapters of some models of an ensemble as an input of a job that reads these; none where it has none."""
        jobs = [self.jobs.get(_adapters_stem(setting, ensemble, model)) for model in models]
        return {"adapters": [Source(job, "adapters") for job in jobs]} if all(jobs) else {}

    def _ground_truth(self, setting: str, truth: str, data: Job) -> Job:
        entry = self.config["ground_truth"][truth]
        kind, size, n = entry["kind"], entry["block"], data.settings["train"]
        runs = self._runs(truth, data)
        training = self._training(setting)
        blocks, repeats = [], []
        for repeat, every in runs.items():
            for start in range(0, len(every), size):
                block = [run.as_dict() for run in every[start : start + size]]
                job = self._job(
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
        return self._job(
            "collect",
            f"ground_truth/{setting}/{truth}",
            {"truth": truth, "kind": kind, "n": n, "runs": described, "repeats": repeats},
            {"truth": "npz"},
            {"blocks": blocks},
            [("ground_truth", kind)],
        )

    def _trains_on(self, truth: str) -> bool:
        """Whether a ground truth starts from a final model."""
        return "training" in self.registry.functions("ground_truth", self.config["ground_truth"][truth]["kind"])

    def _runs(self, truth: str, data: Job) -> dict[int, list[Run]]:
        entry = self.config["ground_truth"][truth]
        values = own_values(self.registry, entry, "runs")
        runs = self.registry.load("ground_truth", entry["kind"]).runs
        return runs(data.settings["train"], f"ground_truth/{truth}", self.config["seed"], **values)

    def _further(self, setting: str, truth: str, model: Job, data: Job) -> Job:
        """A ground truth that starts from a final model, in blocks."""
        entry = self.config["ground_truth"][truth]
        kind, size, n = entry["kind"], entry["block"], data.settings["train"]
        values = own_values(self.registry, entry, "training")
        training = self.registry.load("ground_truth", kind).training(n, **values)
        model_entry = {"model": self.config["settings"][setting]["model"]}
        stem = f"ground_truth/{setting}/{truth}/{Path(model.stem).name}"
        inputs = {"data": [Source(data, "data")], "model": [Source(model, "model")]}
        kinds = [("models", model_entry["model"]["kind"])]
        runs, blocks, repeats = self._runs(truth, data), [], []
        for seed, every in runs.items():
            for start in range(0, len(every), size):
                block = [run.as_dict() for run in every[start : start + size]]
                settings = model_entry | training | {"runs": block}
                name = f"{stem}/{seed}.{start // size}"
                job = self._job("further", name, settings, {"outputs": "npz"}, inputs, kinds)
                blocks.append(Source(job, "outputs"))
                repeats.append(seed)
        described = [[run.as_dict() for run in every] for every in runs.values()]
        return self._job(
            "gather",
            stem,
            model_entry | training | {"truth": truth, "kind": kind, "n": n, "runs": described, "repeats": repeats},
            {"truth": "npz"},
            inputs | {"blocks": blocks},
            [("ground_truth", kind), *kinds],
        )

    def _members(self, ensemble: str) -> list[Member]:
        return ensemble_members(self.registry, self.config["ensembles"][ensemble])

    def _sizes(self, ensemble: str) -> list[EnsembleSize]:
        """The sizes at which an ensemble is scored."""
        per_model = whole(self._members(ensemble)).per_model
        return [EnsembleSize.read(size, per_model) for size in self.config["ensembles"][ensemble]["sizes"]]

    def _ensemble(self, setting: str, ensemble: str, members: list[Member], models: list[Job]) -> Job:
        runs = {Path(model.stem).name: model.settings["run"] for model in models}
        described = [asdict(member) | {"run": runs[member.name]} for member in members]
        settings = {"ensemble": ensemble, "members": described}
        inputs = {name: [Source(model, name) for model in models] for name in ("model", "metrics")}
        adapters = self._adapted(setting, ensemble, models)
        if adapters:
            inputs |= adapters | {"adapter_metrics": [Source(each.job, "metrics") for each in adapters["adapters"]]}
        return self._job("ensemble", f"ensembles/{setting}/{ensemble}", settings, {"ensemble": "json"}, inputs)

    def _scores(
        self,
        setting: str,
        ensemble: str,
        method: str,
        members: list[Member],
        models: list[Job],
        ensembled: Job,
        data: Job,
    ):
        """One job per costly point of a method's grid."""
        entry, own = self.config["methods"][method], self.config["ensembles"][ensemble]
        most = entry["only"].get("members", len(members))
        wanted = sorted({size.within(most) for size in self._sizes(ensemble)})
        grid = Grid.of(self.registry, entry)
        training, described = self._training(setting), self._changed(members, models, wanted)
        if self.config["settings"][setting]["access"] == "final_model":
            training, described = training | {"recipe": None}, [each | {"run": None} for each in described]
        written = [size.written for size in wanted]
        common = {"setting": setting, "ensemble": ensemble, "method": method, "kind": entry["kind"]}
        for costly in grid.costly():
            stem = f"scores/{setting}/{ensemble}/{method}/{point_folder(costly) or 'base'}"
            prepared = []
            for start in range(0, len(described), own["block"]):
                block = slice(start, min(start + own["block"], len(described)))
                job = self._job(
                    "prepare",
                    f"{stem}/{start // own['block']}",
                    common
                    | training
                    | {"members": described[block], "first": start}
                    | {"hyperparameters": costly | grid.prefixes(), "dtype": self.config["dtype"]},
                    {"prepared": "npz"},
                    {"data": [Source(data, "data")], "models": [Source(model, "model") for model in models[block]]}
                    | self._adapted(setting, ensemble, models[block]),
                    [("scores", entry["kind"]), ("models", training["model"]["kind"])],
                )
                prepared.append(Source(job, "prepared"))
            cheap = grid.cheap()
            inputs = {"ensemble": [Source(ensembled, "ensemble")], "prepared": prepared}
            if any(point.get("damping") in RULES for point in cheap):
                selected = self._selection(common | {"costly": costly, "sizes": written}, stem, cheap, prepared)
                inputs["selection"] = [Source(selected, "selection")]
            yield self._job(
                "score",
                stem,
                common | {"costly": costly, "cheap": cheap, "sizes": written},
                {"scores": "npz"},
                inputs,
                [("scores", entry["kind"])],
            )

    def _changed(self, members: list[Member], models: list[Job], wanted: list[EnsembleSize]) -> list[dict]:
        """Of every model that some sizes take: its name, its run, and the changes that its members are."""
        described = zip(by_model(members).items(), models, sizes.counts(wanted), strict=False)
        return [
            {"name": name, "run": model.settings["run"], "changes": [member.change for member in each[:count]]}
            for (name, each), model, count in described
        ]

    def _selection(self, common: dict, stem: str, cheap: list[dict], prepared: list[Source]) -> Job:
        """The dampings that rules choose for one costly point, at each cheap one that has a spectrum of its own."""
        takes = self.registry.hyperparameters("scores", common["kind"], "spectrum")
        points = [{name: point[name] for name in takes} for point in cheap if point["damping"] in RULES]
        return self._job(
            "choose",
            f"{stem}/selection",
            common | {"points": [point for place, point in enumerate(points) if point not in points[:place]]},
            {"selection": "json", "curve": "csv"},
            {"prepared": prepared},
            [("scores", common["kind"])],
        )

    def _evaluation(self, scores: Job, ensembled: Job, truths: list[Job]) -> Job:
        metrics = {
            metric: self.registry.constants("evaluation", metric)["TRUTH"]
            for metric in self.registry.kinds("evaluation")
        }
        copied = ("setting", "ensemble", "method", "costly", "cheap", "sizes")
        settings = {key: scores.settings[key] for key in copied}
        settings |= {"truths": [{key: truth.settings[key] for key in ("truth", "kind", "n")} for truth in truths]}
        return self._job(
            "evaluate",
            scores.stem.replace("scores/", "evaluation/", 1),
            settings | {"metrics": metrics} | self.config["evaluation"],
            {"table": "csv", "resamples": "npz"},
            {
                "scores": [Source(scores, "scores")],
                "ensemble": [Source(ensembled, "ensemble")],
                "truths": [Source(truth, "truth") for truth in truths],
            },
            [("evaluation", metric) for metric in metrics],
        )

    def _evaluation_of_further(self, scores: Job, furthered: list[Job], truths: list[Job]):
        """What scores say of further training, and of retraining without the same examples."""
        retrained = _with_all_of(truths, furthered)
        copied = ("setting", "ensemble", "method", "costly", "cheap", "sizes")
        self._job(
            "evaluate_further",
            f"{scores.stem.replace('scores/', 'evaluation/', 1)}/further",
            {key: scores.settings[key] for key in copied}
            | self._model_seed(scores.settings["ensemble"])
            | {"truths": _described(furthered), "retrained": _described(retrained)}
            | self.config["evaluation"],
            {"further": "csv", "seeds": "seeds.csv", "profile": "profile.csv"},
            {
                "scores": [Source(scores, "scores")],
                "truths": [Source(truth, "truth") for truth in furthered],
                "retrained": [Source(truth, "truth") for truth in retrained],
            },
        )

    def _final_model(self, setting: str, ensemble: str, furthered: list[Job], truths: list[Job], model: Job, data: Job):
        """How far one final model has converged, and how its ground truths agree."""
        entry, retrained = self.config["settings"][setting]["model"], _with_all_of(truths, furthered)
        named = {"setting": setting, "ensemble": ensemble} | self._model_seed(ensemble)
        self._job(
            "convergence",
            f"evaluation/{setting}/{ensemble}/convergence",
            named | {"model": entry},
            {"convergence": "csv"},
            {"data": [Source(data, "data")], "model": [Source(model, "model")]},
            [("models", entry["kind"])],
        )
        self._job(
            "agree",
            f"evaluation/{setting}/{ensemble}/agreement",
            named | {"truths": _described(furthered), "retrained": _described(retrained)} | self.config["evaluation"],
            {"truths": "csv", "profile": "profile.csv"},
            {
                "truths": [Source(truth, "truth") for truth in furthered],
                "retrained": [Source(truth, "truth") for truth in retrained],
            },
        )

    def _model_seed(self, ensemble: str) -> dict[str, int]:
        """Which of several final models of a setting an ensemble is."""
        return {"model_seed": self.config["ensembles"][ensemble].get("model", 0)}

    def _further_tables(self) -> dict[str, list[Source]]:
        """The tables of a study about further training, where there is any."""
        made: dict[str, list[Source]] = {}
        for job in self.room("evaluation"):
            if job.rule in ("evaluate_further", "convergence", "agree"):
                for output in job.outputs:
                    made.setdefault(output, []).append(Source(job, output))
        tables = {}
        for output, sources in made.items():
            name = "further" if output == "further" else f"further.{output}"
            stem, settings = f"evaluation/{self._study}{name}", {"columns": "further"}
            job = self._job("summarise", stem, settings, {"summary": "csv"}, {"tables": sources})
            tables["further" if output == "further" else f"further_{output}"] = [Source(job, "summary")]
        jobs = [job for job in self.room("evaluation") if job.rule == "evaluate_further"]
        if any("damping" in _several(self.config["methods"][job.settings["method"]], []) for job in jobs):
            tables["further_dampings"] = tables["further"]
        return tables

    def _mislabel(self, scores: Job, grid: "Grid", data: Job):
        """Flipped labels, where there are any, by self-influence, from the arrays that the scores are made from."""
        kind = scores.settings["kind"]
        if not data.settings["label_noise"] or "self_influence" not in self.registry.functions("scores", kind):
            return
        points = grid.cheap(self.registry.hyperparameters("scores", kind, "self_influence"))
        inputs = {name: scores.inputs[name] for name in ("prepared", "selection") if name in scores.inputs}
        self._job(
            "mislabel",
            f"{scores.stem.replace('scores/', 'evaluation/', 1)}/mislabel",
            scores.settings | {"cheap": points} | self.config["evaluation"],
            {"table": "csv"},
            inputs | {"data": [Source(data, "data")]},
            [("scores", kind)],
        )

    def _mislabel_baseline(
        self,
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
        model, described = self.config["settings"][setting]["model"], self._changed(members, models, wanted)
        kept = (
            []
            if any("epoch" in member.change or "adapter" in member.change for member in members)
            else self.config["settings"][setting]["checkpoints"]
        )
        self._job(
            "mislabel_baseline",
            f"evaluation/{setting}/{ensemble}/mislabel_baseline",
            {"setting": setting, "ensemble": ensemble, "model": model, "sizes": [size.written for size in wanted]}
            | {"members": described}
            | {"epochs": [*kept, "last"]}
            | self.config["evaluation"],
            {"table": "csv"},
            {"models": [Source(each, "model") for each in models[: len(described)]], "data": [Source(data, "data")]}
            | self._adapted(setting, ensemble, models[: len(described)]),
            [("models", model["kind"])],
        )

    def _stability(self, scores: Job):
        """What a rule chooses from a few test examples, at one costly point."""
        (selection,) = scores.inputs["selection"]
        self._job(
            "stability",
            f"{scores.stem.replace('scores/', 'evaluation/', 1)}/stability",
            selection.job.settings,
            {"table": "csv"},
            {"prepared": scores.inputs["prepared"]},
            [("scores", scores.settings["kind"])],
        )

    def _mechanism(self, scores: Job, truths: list[Job]):
        """Why a damping is best, where the method has `powers` and there are subsets; on the range of its dampings."""
        kind, (selection,) = scores.settings["kind"], scores.inputs["selection"]
        subsets = [truth for truth in truths if truth.settings["kind"] == "subsets"]
        grid = {point["damping"] for point in scores.settings["cheap"]} - set(RULES) - {0}
        if not subsets or not grid or "powers" not in self.registry.functions("scores", kind):
            return
        described = [{key: truth.settings[key] for key in ("truth", "n")} for truth in subsets]
        self._job(
            "mechanism",
            f"{scores.stem.replace('scores/', 'evaluation/', 1)}/mechanism",
            selection.job.settings | {"grid": sorted(grid), "truths": described} | self.config["evaluation"],
            {"table": "csv"},
            {
                "prepared": scores.inputs["prepared"],
                "ensemble": scores.inputs["ensemble"],
                "truths": [Source(truth, "truth") for truth in subsets],
            },
            [("scores", kind)],
        )

    def _summary(self, name: str, measured: list[Job]) -> Job:
        """One of the tables of a study."""
        inputs, stem = {"tables": [Source(job, "table") for job in measured]}, f"evaluation/{self._study}{name}"
        columns = {"columns": "summary" if name in ("summary", "mislabel") else None}
        return self._job("summarise", stem, columns, {"summary": "csv"}, inputs)

    def _outcome(self, summary: Job):
        """What the study came to, in few numbers, where any LDS is measured; for who compares commits."""
        if any(self._kinds_of_truth(setting, "subsets") for setting in self._chosen("settings")):
            inputs = {"tables": [Source(summary, "summary")]}
            outputs = {"best": "json", "along": "along.csv"}
            self._job("outcome", f"evaluation/{self._study}outcome", {}, outputs, inputs)

    def _choices(self, evaluated: list[Job]) -> Job | None:
        """How good chosen dampings are, and the curves that chose them; None where nothing chooses."""
        choosing = [job for job in self.jobs.values() if job.rule == "choose"]
        if not choosing:
            return None
        copied = ("setting", "ensemble", "method", "costly")
        plain = [name for name in self._chosen("methods") if self.config["methods"][name]["kind"] == "grad_dot"]
        return self._job(
            "compare",
            f"evaluation/{self._study}selection",
            {"chosen": [{key: job.settings[key] for key in copied} for job in choosing], "grad_dot": plain},
            {"selection": "csv", "curves": "curves.csv"},
            {
                "tables": [Source(job, "table") for job in evaluated],
                "resamples": [Source(job, "resamples") for job in evaluated],
                "selections": [Source(job, "selection") for job in choosing],
                "curves": [Source(job, "curve") for job in choosing],
            },
        )

    def _costs(self):
        """What choosing dampings costs beside scoring, and retraining for the LDS; nothing where nothing chooses.

        It reads what jobs say of themselves, never what they made, and nothing reads its table.
        """
        choosing = [job for job in self.jobs.values() if job.rule == "choose"]
        settings = {job.settings["setting"] for job in choosing}
        truths = [job for job in self.jobs.values() if job.rule == "collect" and job.settings["kind"] == "subsets"]
        retrained = [source for job in truths if job.stem.split("/")[1] in settings for source in job.inputs["blocks"]]
        if not retrained:
            return
        scored = [self.jobs[job.stem.removesuffix("/selection")] for job in choosing]
        self._job(
            "costs",
            f"evaluation/{self._study}selection.costs",
            {},
            {"costs": "csv"},
            {
                "choosing": [Source(job, "selection") for job in choosing],
                "scoring": [Source(job, "scores") for job in scored],
                "preparing": [source for job in scored for source in job.inputs["prepared"]],
                "retraining": retrained,
            },
        )

    def _prices(self, evaluated: list[Job]) -> Job | None:
        """What ensembles cost, by methods that score several kinds of them in one setting; None where none does."""
        groups: dict[tuple[str, str], list[Job]] = {}
        for job in evaluated:
            if self._kinds_of_truth(job.settings["setting"], "subsets"):
                groups.setdefault((job.settings["setting"], job.settings["method"]), []).append(job)
        priced = [each for each in groups.values() if len({self._kind(job) for job in each}) > 1]
        priced = list(itertools.chain(*priced))
        if not priced:
            return None
        scored = [source.job for job in priced for source in job.inputs["scores"]]
        for job in priced:
            self._variance(job, priced)
        return self._job(
            "price",
            f"evaluation/{self._study}ensembles",
            {"kinds": [self._kind(job) for job in priced]},
            {"ensembles": "csv", "savings": "savings.csv"},
            {
                "tables": [Source(job, "table") for job in priced],
                "resamples": [Source(job, "resamples") for job in priced],
                "scores": [Source(job, "scores") for job in scored],
                "described": [source for job in priced for source in job.inputs["ensemble"]],
                "queries": [Source(self._query(job), "query") for job in scored],
            },
        )

    def _kind(self, job: Job) -> str:
        """The kind of the ensemble that a job is about."""
        return self.config["ensembles"][job.settings["ensemble"]]["kind"]

    def _query(self, scores: Job) -> Job:
        """What one more test example takes, of one member; counted once for all ensembles whose members are whole.

        Adapters have sizes of their own. Names of ensembles begin with a letter, so `queries.0` is none of theirs.
        """
        named, block = scores.settings, scores.inputs["prepared"][0].job
        first = block.settings["members"][0]
        change = first["changes"][0]
        counted = named["ensemble"] if change.get("kind") == "lora" else 0
        point = scores.stem.rsplit("/", 1)[1]
        return self._job(
            "query",
            f"scores/{named['setting']}/queries.{counted}/{named['method']}/{point}",
            block.settings | {"members": [first | {"changes": [change]}], "cheap": named["cheap"]},
            {"query": "json"},
            {"data": block.inputs["data"], **{name: each[:1] for name, each in block.inputs.items() if name != "data"}},
            [("scores", named["kind"]), ("models", block.settings["model"]["kind"])],
        )

    def _variance(self, evaluation: Job, priced: list[Job]):
        """How an ensemble's squared error is made up, from scores of single members, where halves of models can say.

        It takes four models with several members each, and two more that are members of a naive ensemble of the same
        setting at the same costly point, to measure errors from.
        """
        if self._kind(evaluation) not in _VARIED:
            return
        scores = evaluation.inputs["scores"][0].job
        wanted = [size for size in sizes.read(scores.settings["sizes"]) if size.models >= 4 and size.per_model >= 2]
        naive = self._naive(evaluation, priced)
        if not wanted or naive is None:
            return
        size, reference = sizes.largest(wanted), naive.inputs["scores"][0].job
        names = {each["name"] for each in _described_models(scores)[: size.models]}
        others = [place for place, each in enumerate(_described_models(reference)) if each["name"] not in names]
        if len(others) < 2:
            return
        copied = ("setting", "ensemble", "method", "kind", "costly", "cheap")
        self._job(
            "variance",
            f"{evaluation.stem}/variance",
            {key: scores.settings[key] for key in copied}
            | {"size": size.written, "reference": others}
            | self.config["evaluation"],
            {"table": "csv"},
            {
                "prepared": scores.inputs["prepared"],
                "reference": reference.inputs["prepared"],
                "chosen": [Source(naive, "table")],
            },
            [("scores", scores.settings["kind"])],
        )

    def _naive(self, evaluation: Job, priced: list[Job]) -> Job | None:
        """The largest naive ensemble of the same models, by the same method at the same costly point."""
        entry = self.config["ensembles"][evaluation.settings["ensemble"]]
        found = [
            job
            for job in priced
            if self._kind(job) == "independent"
            and all(job.settings[key] == evaluation.settings[key] for key in ("setting", "method", "costly"))
            and self.config["ensembles"][job.settings["ensemble"]].get("fraction") == entry.get("fraction")
        ]
        return max(found, key=lambda job: len(_described_models(job.inputs["scores"][0].job)), default=None)

    def _sensitivity(self, evaluated: list[Job]) -> Job:
        return self._job(
            "sensitivity",
            f"evaluation/{self._study}sensitivity",
            {"kinds": {method: self.config["methods"][method]["kind"] for method in self._chosen("methods")}},
            {"sensitivity": "csv", "transfer": "transfer.csv", "interactions": "interactions.csv"},
            {
                "tables": [Source(job, "table") for job in evaluated],
                "resamples": [Source(job, "resamples") for job in evaluated],
            },
        )

    def _examples(self, setting: str, evaluated: list[Job]) -> Job:
        """The training examples that the best scores of a setting name, for the first test examples."""
        scores = [source for job in evaluated for source in job.inputs["scores"]]
        data = self._data(self.config["settings"][setting]["dataset"])
        return self._job(
            "extremes",
            f"evaluation/{self._study}examples/{setting}",
            {"setting": setting},
            {"examples": "npz"},
            {"tables": [Source(job, "table") for job in evaluated], "scores": scores, "data": [Source(data, "data")]},
        )

    def _removal(self, setting: str, evaluated: list[Job]) -> list[Job]:
        """Retraining without what the scores of a setting name; nothing where the config or no method asks for it."""
        entry = self.config["removal"]
        if entry is None or not self._kinds_of_truth(setting, "subsets"):
            return []
        used = [
            job
            for job in evaluated
            if job.settings["method"] in entry["methods"] and job.settings["ensemble"] == entry["ensemble"]
        ]
        if not used:
            return []
        training, data = self._training(setting), self._data(self.config["settings"][setting]["dataset"])
        copied = {key: entry[key] for key in ("counts", "tests", "repeats")}
        points = [_dampings_of_points(job) for job in used]
        job = self._job(
            "removal",
            f"evaluation/{self._study}removal/{setting}",
            training
            | {"setting": setting, "dampings": list(entry["dampings"].items()), "points": points}
            | copied
            | self.config["evaluation"],
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

    def _figures(self, made: dict[str, list[Source]]):
        """The figures that are asked for: those that the study has tables for, where none are.

        Raises ConfigError for a figure that is asked for and has nothing to show.
        """
        empty, listed = self._empty(made), self.config["run"].get("figures")
        for figure in list(self.registry.kinds("figures")) if listed is None else listed:
            needs = self.registry.arguments("figures", figure, "draw")
            lacking = [empty[name] for name in needs if name in empty]
            if reasons := lacking + self._unswept(figure) + self._without_kinds(figure):
                if listed is None:
                    continue
                raise ConfigError([f"run.figures: '{figure}' has nothing to show; it takes {reasons[0]}"])
            self._job(
                "draw",
                f"figures/{self._study}{figure}",
                {"figure": figure},
                {"pdf": "pdf", "png": "png"},
                {name: made[name] for name in needs},
                [("figures", figure)],
            )

    def _kinds_of_truth(self, setting: str, kind: str) -> list[str]:
        """The ground truths of a kind that a setting has."""
        chosen = chosen_of(self.config, "ground_truth", setting)
        return [truth for truth in chosen if self.config["ground_truth"][truth]["kind"] == kind]

    def _empty(self, made: dict[str, list[Source]]) -> dict[str, str]:
        """The tables that would have no row, and what would give them some."""
        choosing = f"a method with a damping that a rule chooses, {list(RULES)}"
        reasons = {"selection": choosing, "curves": choosing, "mislabel": "a setting whose data set has `label_noise`"}
        reasons |= {"removal": "a section `removal` whose methods run", "stability": choosing}
        several = "a setting and method with several kinds of ensembles, and a ground truth of the kind 'subsets'"
        reasons |= {"ensembles": several, "savings": several}
        reasons["theory"] = f"{several}; one of {list(_VARIED)} of 4 models, and 2 more among the independent ones"
        reasons["mechanism"] = f"{choosing}, with a function `powers`, and a ground truth of the kind 'subsets'"
        further = "a ground truth of the kind 'further_training', and an ensemble of one member"
        names = ("further", "further_seeds", "further_profile", "further_convergence", "further_truths")
        reasons |= dict.fromkeys(names, further)
        reasons["further_dampings"] = f"{further}, and a method with several dampings"
        reasons["examples"] = "a ground truth that retrains from scratch"
        empty = {name: reason for name, reason in reasons.items() if name not in made}
        swept = self._swept()
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

    def _swept(self) -> dict[tuple[str, str], dict[str, set[str]]] | None:
        """(ensemble, method) -> setting -> what has several values there; None where no LDS is measured."""
        if not any(self._kinds_of_truth(setting, "subsets") for setting in self._chosen("settings")):
            return None
        swept = {}
        for job in self.room("scores"):
            if job.rule == "score" and self._kinds_of_truth(job.settings["setting"], "subsets"):
                names = [job.settings[key] for key in ("ensemble", "method", "setting")]
                values = swept.setdefault(tuple(names[:2]), {}).setdefault(names[2], set())
                values |= _several(self.config["methods"][names[1]], job.settings["sizes"])
        return swept

    def _unswept(self, figure: str) -> list[str]:
        """Why there is nothing along the hyperparameters that a figure shows together, its SWEPT."""
        names, swept = self.registry.constants("figures", figure).get("SWEPT"), self._swept()
        if names is None:
            return []
        if swept is None:
            return [_SUBSETS]
        several = [found - {SIZE} for settings in swept.values() for found in settings.values()]
        if any(found and set(names) <= found for found in several):
            return []
        return [f"a method with several values of each of {sorted(names)}" if names else _SEVERAL]

    def _without_kinds(self, figure: str) -> list[str]:
        """Why there are no such ensembles as a figure shows, its KINDS."""
        kinds = self.registry.constants("figures", figure).get("KINDS", ())
        there = {self._kind(job) for job in self.room("evaluation") if job.rule == "evaluate"}
        return [f"an ensemble of the kind '{kind}'" for kind in kinds if kind not in there]


def _adapters_stem(setting: str, ensemble: str, model: Job) -> str:
    return f"models/{setting}/adapters/{ensemble}/{Path(model.stem).name}"


_SUBSETS = "a ground truth of the kind 'subsets'"  # what the LDS is measured by
_SEVERAL = "a method with several values of a hyperparameter"


# kinds of ensembles whose variance is looked at: the others are controls of these, or change no gradients
_VARIED = ("dropout", "lora")


def _described_models(scores: Job) -> list[dict]:
    """The models of an ensemble that are scored, in their order."""
    return [each for source in scores.inputs["prepared"] for each in source.job.settings["members"]]


def _described(truths: list[Job]) -> list[dict]:
    """What tables say of ground truths."""
    return [{key: truth.settings[key] for key in ("truth", "estimator") if key in truth.settings} for truth in truths]


def _with_all_of(truths: list[Job], furthered: list[Job]) -> list[Job]:
    """The leave-one-out retrainings that leave out every example that further training leaves out."""
    wanted = set().union(*(_left_out(truth) for truth in furthered))
    return [truth for truth in truths if truth.settings["kind"] == "leave_one_out" and wanted <= _left_out(truth)]


def _left_out(truth: Job) -> set[int]:
    return {index for every in truth.settings["runs"] for run in every for index in run["left_out"]}


def _several(entry: dict, written: list[int | str]) -> set[str]:
    """What a method's entry has several values of, at ensembles of these sizes; dampings that a rule chooses are none.

    Several sizes are those of as many members of each model.
    """
    most = max(Counter(size.per_model for size in sizes.read(written)).values(), default=0)
    grid = entry | {SIZE: list(range(most))}
    lists = {name: values for name, values in grid.items() if isinstance(values, list) and name != "skip"}
    return {name for name, values in lists.items() if len([value for value in values if value not in RULES]) > 1}


# tables of a study that only some have, and the rules whose measurements each holds
TABLES = {
    "mislabel": ("mislabel", "mislabel_baseline"),
    "mechanism": ("mechanism",),
    "stability": ("stability",),
    "theory": ("variance",),
}


@dataclass(frozen=True)
class Grid:
    """The values of a method's hyperparameters, split by the signatures of its two functions.

    What only `prepare` takes is costly, what only `score` takes is cheap. What both take is a prefix: prepared once
    at its largest value, scored at each.
    """

    prepare: dict[str, list]
    score: dict[str, list]

    @classmethod
    def of(cls, registry: Registry, entry: dict) -> "Grid":
        """The grid of one entry of `methods`; defaults stand in for what it leaves out."""

        def values(function: str) -> dict[str, list]:
            found = {}
            for name, hyperparameter in registry.hyperparameters("scores", entry["kind"], function).items():
                value = entry.get(name, hyperparameter.default)
                found[name] = value if isinstance(value, list) else [value]
            return found

        return cls(values("prepare"), values("score"))

    def prefixes(self) -> dict:
        """The largest value of each prefix."""
        return {name: max(values) for name, values in self.prepare.items() if name in self.score}

    def costly(self) -> list[dict]:
        """Every costly point."""
        return _product({name: values for name, values in self.prepare.items() if name not in self.score})

    def cheap(self, names: Container[str] | None = None) -> list[dict]:
        """Every cheap point; of some hyperparameters alone where these are named."""
        return _product({name: values for name, values in self.score.items() if names is None or name in names})


def _dampings_of_points(evaluation: Job) -> dict:
    """Name of an array of scores, at the largest ensemble -> its damping as the config has it."""
    settings = evaluation.settings
    size = sizes.largest(sizes.read(settings["sizes"]))
    return {
        # as a job reads it from its spec, whose keys are sorted
        point_name({"size": size.written} | dict(sorted(point.items()))): (settings["costly"] | point)["damping"]
        for point in settings["cheap"]
    }


def _product(grid: dict[str, list]) -> list[dict]:
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
