"""Jobs: what makes what, from what, with which values and code; and a collection of them that grows."""

import json
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from attriflow import hyperparameters, provenance
from attriflow.config import ConfigError, chosen_of
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
    kinds: tuple[tuple[str, str], ...] = ()  # (room, kind) that it runs
    code: dict[str, dict[str, str]] = field(default_factory=dict)  # the fingerprint of all that
    files: dict[str, str] = field(default_factory=dict)  # files of the user's that hyperparameters name -> SHA-256

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
            "kinds": self.kinds,
            "files": self.files,
            **self.code,
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
        if stem in self.jobs:
            return self.jobs[stem]
        kinds = tuple(kinds)
        paths = [self.registry.path(room, kind) for room, kind in kinds]
        plugged = any(self.registry.is_plugin(path) for path in paths)
        common = {"seed": self.config["seed"], "plugins": self.config["plugins"] if plugged else None}
        try:
            code = fingerprint(self._scripts / f"{rule}.py", *paths, plugins=self.registry.plugins if plugged else None)
        except (ImportError, ValueError) as error:  # what runs cannot be told
            raise ConfigError([str(error)]) from error
        settings = common | settings
        self.jobs[stem] = Job(
            rule, stem, settings, outputs, inputs or {}, kinds, code, self._sums_of_files(kinds, settings)
        )
        return self.jobs[stem]

    def _sums_of_files(self, kinds: tuple[tuple[str, str], ...], settings: dict) -> dict[str, str]:
        """SHA-256 of the files that hyperparameters of these kinds name, those with the annotation `Path`."""
        annotations = {name: each for kind in kinds for name, each in self.registry.annotations(*kind).items()}
        annotations = {name: each for name, each in annotations.items() if "Path" in each}
        named = _values(settings, annotations.keys()) if annotations else ()
        files = sorted({str(file) for name, each in named for file in hyperparameters.files(each, annotations[name])})
        if missing := [path for path in files if not Path(path).is_file()]:
            raise ConfigError([f"{missing[0]}: no such file; a hyperparameter names it"])
        return {path: provenance.sha256(Path(path)) for path in files}

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


def _values(held: object, names: Set[str]) -> Iterator[tuple[str, object]]:
    """What stands under these keys, at any depth, and the key."""
    if isinstance(held, dict):
        for key, value in held.items():
            if key in names:  # a list may be one value, or several of a sweep
                yield from ((key, each) for each in (value, *(value if isinstance(value, list) else ())))
            yield from _values(value, names)
    elif isinstance(held, list | tuple):
        for each in held:
            yield from _values(each, names)
