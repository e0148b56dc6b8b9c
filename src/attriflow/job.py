"""What a script sees of its job: everything that it may take its numbers from.

A job is a plain command, `python workflow/scripts/score.py specs/default/scores/<...>.json`, and runs by hand too.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import attriflow
from attriflow import fingerprint, provenance, running, source
from attriflow.io import load_json
from attriflow.progress import Progress
from attriflow.registry import Registry

if TYPE_CHECKING:
    import torch


class Job:
    """What a script sees of its job: settings, verified inputs, outputs, threads, progress."""

    def __init__(self, path: Path, threads: int, device: str):
        self.spec = load_json(path)["spec"]
        self.settings: dict = self.spec["settings"]
        self.seed: int = self.settings["seed"]
        self.threads = threads
        self._device = device
        self.registry = Registry(self.settings["plugins"])
        self.outputs = {name: Path(path) for name, path in self.spec["outputs"].items()}
        self._sums: dict[str, str] = {}  # of the inputs that it has read
        self._refuse_changed_code()

    def inputs(self, name: str) -> list[Path]:
        """The files of one input, each verified against the spec that must have made it."""
        return [self.input(name, place) for place in range(len(self.spec["inputs"][name]))]

    def input(self, name: str, place: int = 0) -> Path:
        """One file of an input, verified."""
        entry = self.spec["inputs"][name][place]
        self._sums[entry["path"]] = provenance.verify(Path(entry["path"]), Path(entry["made"]), entry["spec"])
        return Path(entry["path"])

    def adapters(self) -> list[Path | None]:
        """The adapters of each of its models; None where they have none."""
        models = self.spec["inputs"]["models"]
        return self.inputs("adapters") if "adapters" in self.spec["inputs"] else [None] * len(models)

    def _refuse_changed_code(self):
        """What runs must be what the spec says: code, libraries and files may be others since the run began."""
        source.refuse_kept(attriflow, source)
        fingerprint.refuse_changed(self.spec, *self._code(), plugins=self.registry.plugins)
        for path, planned in self.spec["files"].items():
            if provenance.sha256(Path(path)) != planned:
                raise RuntimeError(f"{path} changed since this job was planned; run again")

    def _code(self) -> list[Path]:
        """The script and the kinds that it runs."""
        script = Path(sys.modules["__main__"].__file__).resolve()
        return [script, *(self.registry.path(room, kind) for room, kind in self.spec["kinds"])]

    def sums(self) -> dict[str, str]:
        """File of an input -> SHA-256: of what was read, and of the rest as its record has it.

        Raises RuntimeError where code ran that is in no fingerprint: what was made of these files would be unaccounted.
        """
        fingerprint.refuse_others(*self._code(), plugins=self.registry.plugins)
        entries = [entry for entries in self.spec["inputs"].values() for entry in entries]
        return provenance.recorded(entries) | self._sums

    @property
    def device(self) -> "torch.device":
        """Where to compute. Raises ValueError for a device that is asked for and not there."""
        from attriflow import device

        return device.choose(self._device)

    def costs(self, name: str) -> list[dict]:
        """What each file of an input cost to make: seconds, cpu_seconds, peak_mib."""
        return [each["cost"] for each in provenance.of_jobs(self.spec["inputs"][name])]

    def progress(self, total: int, unit: str) -> Progress:
        """A counter of this job's work."""
        return Progress(f"[{self.spec['job']}]", total, unit)


def run(main: Callable[[Job], None]):
    """Run the script's `main` for the spec on the command line; exit with 1 and one clear line if it fails."""
    running.run(main, Job)
