"""One job: reads its spec and its verified inputs, runs, and says what it made and what that cost; or says why not.

A job is a plain command, `python workflow/scripts/score.py specs/default/scores/<...>.json`, and runs by hand too.
"""

import argparse
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from attriflow import fingerprint, provenance
from attriflow.io import load_json, remove_partial
from attriflow.progress import Progress
from attriflow.registry import Registry

if TYPE_CHECKING:
    import torch

DEVICE = "ATTRIFLOW_DEVICE"
_MORE_MEMORY = "; give it more memory, or let fewer jobs run at once; then run again, finished jobs are kept"


class Job:
    """What a script sees of its job: settings, verified inputs, outputs, threads, progress."""

    def __init__(self, spec: dict, threads: int, device: str):
        self.spec = spec
        self.settings: dict = spec["settings"]
        self.seed: int = self.settings["seed"]
        self.threads = threads
        self._device = device
        self.registry = Registry(self.settings["plugins"])
        self.outputs = {name: Path(path) for name, path in spec["outputs"].items()}
        self._refuse_changed_code()

    def inputs(self, name: str) -> list[Path]:
        """The files of one input, each verified against the spec that must have made it."""
        return [self.input(name, place) for place in range(len(self.spec["inputs"][name]))]

    def input(self, name: str, place: int = 0) -> Path:
        """One file of an input, verified."""
        entry = self.spec["inputs"][name][place]
        provenance.verify(Path(entry["path"]), Path(entry["made"]), entry["spec"])
        return Path(entry["path"])

    def adapters(self) -> list[Path | None]:
        """The adapters of each of its models; None where they have none."""
        models = self.spec["inputs"]["models"]
        return self.inputs("adapters") if "adapters" in self.spec["inputs"] else [None] * len(models)

    def _refuse_changed_code(self):
        """What runs must be what the spec says: code may have been edited since the run began."""
        script = Path(sys.modules["__main__"].__file__).resolve()
        if changed := fingerprint.changed(self.spec["code"], [script, *self.registry.plugin_files()]):
            raise RuntimeError(f"the code of {', '.join(changed)} changed since this job was planned; run again")

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


def cost(started: float) -> dict[str, float]:
    """Wall and processor seconds, and the peak of the memory, of this process since `started` (monotonic)."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": round(time.monotonic() - started, 3),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 3),
        "peak_mib": peak_mib(),
    }


def peak_mib() -> float:
    """The peak of this process's memory so far."""
    return round(_peak() / 1024, 1)


def _peak() -> int:
    """The most KiB that this process held: where Linux says so without what the process that started it held."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    said = (int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return next(said, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


class _Tee:
    """Writes to the terminal and to the log."""

    def __init__(self, *streams):
        self._streams = streams

    def write(self, text: str):
        for stream in self._streams:
            stream.write(text)

    def flush(self):
        for stream in self._streams:
            stream.flush()


def _out_of_memory(error: Exception) -> bool:
    """Python, numpy and torch, on a processor and on a device, say it differently."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in ("allocate memory", "out of memory"))


def run(main: Callable[[Job], None]):
    """Run the script's `main` for the spec on the command line; exit with 1 and one clear line if it fails."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("spec", type=Path, help="the job's spec, a file under specs/")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="processor threads to use")
    parser.add_argument(
        "--device", default=os.getenv(DEVICE, "auto"), help=f"cpu, cuda, or auto (also by the variable {DEVICE})"
    )
    arguments = parser.parse_args()
    spec = load_json(arguments.spec)["spec"]
    log = Path("logs", f"{spec['job']}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(arguments.threads)
    threadpool_limits(arguments.threads)  # scipy's and numpy's own: side by side, jobs would wait for each other
    terminal = sys.stderr
    with open(log, "w") as file:
        sys.stderr = _Tee(terminal, file)
        try:
            job = Job(spec, arguments.threads, arguments.device)
            made = Path("results", f"{spec['job']}.made.json")
            for path in (*job.outputs.values(), made):
                remove_partial(path)
            main(job)
            spent = cost(started)
            provenance.write(made, spec, job.outputs, spent)
            print(f"[{spec['job']}] {spent['seconds']:.1f} s, {spent['peak_mib']:.0f} MiB", file=sys.stderr)
        except Exception as error:
            traceback.print_exc(file=file)
            reason = " ".join(str(error).split()) + (_MORE_MEMORY if _out_of_memory(error) else "")
            print(f"[{spec['job']}] failed, log {log}: {type(error).__name__}: {reason}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            print(f"[{spec['job']}] interrupted; run again, finished jobs are kept", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
        finally:
            sys.stderr = terminal
