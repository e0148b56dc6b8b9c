"""Jobs: what makes what, from what, with which values and code; and a collection of them that grows."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from attriflow import provenance
from attriflow.config import chosen_of
from attriflow.fingerprint import fingerprint
from attriflow.registry import Registry


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


class Jobs:
    """The jobs of a checked config, by stem, each after the jobs it needs."""

    def __init__(self, config: dict, scripts: Path):
        self.config = config
        self.registry = Registry(config["plugins"])
        self.jobs: dict[str, Job] = {}
        self.prefix = "" if config["study"] == "default" else config["study"] + "/"  # of tables and figures of a study
        self._scripts = scripts

    @property
    def confidence(self) -> dict[str, float]:
        """What jobs with intervals are told; the numbers kept of a measurement are the business of `evaluate` alone."""
        return {"confidence": self.config["evaluation"]["confidence"]}

    def room(self, room: str) -> list[Job]:
        """The jobs of a room, in order."""
        return [job for job in self.jobs.values() if job.room == room]

    def files(self) -> set[str]:
        """Every file that the jobs make."""
        return {path for job in self.jobs.values() for path in (job.made, *map(job.path, job.outputs))}

    def add(
        self,
        rule: str,
        stem: str,
        settings: dict,
        outputs: dict[str, str],
        inputs: dict[str, list[Source]] | None = None,
        kinds: Iterable[tuple[str, str]] = (),
    ) -> Job:
        """Add a job, or return the one that is there: settings share data, methods share members.

        kinds: the rooms and kinds whose code it runs beside its script.
        """
        paths = [self.registry.path(room, kind) for room, kind in kinds]
        plugged = any(self.registry.is_plugin(path) for path in paths)
        common = {"seed": self.config["seed"], "plugins": self.config["plugins"] if plugged else None}
        files = (self._scripts / f"{rule}.py", *paths)
        return self.jobs.setdefault(stem, Job(rule, stem, common | settings, outputs, inputs or {}, files))

    def chosen(self, catalogue: str) -> list[str]:
        """The entries of a catalogue that the study runs: all, where it does not say."""
        return self.config["run"].get(catalogue, list(self.config[catalogue]))

    def kinds_of_truth(self, setting: str, kind: str) -> list[str]:
        """The ground truths of a kind that a setting has."""
        chosen = chosen_of(self.config, "ground_truth", setting)
        return [truth for truth in chosen if self.config["ground_truth"][truth]["kind"] == kind]

    def kind_of_ensemble(self, job: Job) -> str:
        """The kind of the ensemble that a job is about."""
        return self.config["ensembles"][job.settings["ensemble"]]["kind"]
