"""A job at work: clocks, memory, its log, its record, and what it says when it fails. Nothing here changes a number."""

import argparse
import os
import platform
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from attriflow import provenance
from attriflow.io import load_json, remove_partial

if TYPE_CHECKING:
    from attriflow.job import Job

DEVICE = "ATTRIFLOW_DEVICE"
_MORE_MEMORY = "; give it more memory, or let fewer jobs run at once; then run again, finished jobs are kept"


def cost(started: float) -> dict[str, float]:
    """Wall and processor seconds, and the peak of the memory, of this process since `started` (monotonic)."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": round(time.monotonic() - started, 3),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 3),
        "peak_mib": peak_mib(),
    }


def machine(threads: int) -> dict[str, object]:
    """What a job ran on: the same spec may give other bytes on another processor or device, none of which is in it."""
    torch = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability() if torch else None,
        "device": torch.cuda.get_device_name() if torch and torch.cuda.is_initialized() else "cpu",
        "threads": threads,
    }


def processor() -> str:
    """The processor's name, where Linux tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


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


def run(main: Callable[["Job"], None], begin: Callable[[Path, int, str], "Job"]):
    """Run a script's `main` for the job that begins with the spec on the command line, as `job.run` says."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("spec", type=Path, help="the job's spec, a file under specs/")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="processor threads to use")
    parser.add_argument(
        "--device", default=os.getenv(DEVICE, "auto"), help=f"cpu, cuda, or auto (also by the variable {DEVICE})"
    )
    arguments = parser.parse_args()
    stem = load_json(arguments.spec)["spec"]["job"]
    log, made = Path("logs", f"{stem}.log"), Path("results", f"{stem}.made.json")
    log.parent.mkdir(parents=True, exist_ok=True)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(arguments.threads)
    threadpool_limits(arguments.threads)  # scipy's and numpy's own: side by side, jobs would wait for each other
    terminal = sys.stderr
    with open(log, "w") as file:
        sys.stderr = _Tee(terminal, file)
        try:
            job = begin(arguments.spec, arguments.threads, arguments.device)
            for path in (*job.outputs.values(), made):
                remove_partial(path)
            provenance.withdraw(made)
            main(job)
            sums, spent = job.sums(), cost(started)
            provenance.write(made, job.spec, job.outputs, spent, inputs=sums, machine=machine(arguments.threads))
            print(f"[{stem}] {spent['seconds']:.1f} s, {spent['peak_mib']:.0f} MiB", file=sys.stderr)
        except Exception as error:
            traceback.print_exc(file=file)
            reason = " ".join(str(error).split()) + (_MORE_MEMORY if _out_of_memory(error) else "")
            print(f"[{stem}] failed, log {log}: {type(error).__name__}: {reason}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            print(f"[{stem}] interrupted; run again, finished jobs are kept", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
        finally:
            sys.stderr = terminal
