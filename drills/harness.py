"""What drills share: how they are listed, a study that ran undisturbed, what counts as the same numbers."""

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from project import DIGITS, Project

from attriflow import provenance
from attriflow.io import load_arrays, load_json

CONFIG = (
    DIGITS
    + """
plugins: drills/plugins
ground_truth:
  subsets: {count: 6, repeats: 2, fraction: 0.5, block: 3}
ensembles:
  independent: {count: 2, sizes: [1, 2], block: 1}
methods:
  grad_dot:
  waiting: {power: [0.5, 1.0]}
evaluation: {resamples: 100}
run: {figures: [lds_by_method]}
"""
)
SCORES = "results/scores/digits_mlp/independent"
WAITING = f"{SCORES}/waiting/base"  # the scores in whose job a drill can act
MEASURED = "results/evaluation/digits_mlp/independent/waiting/base"

_TIME = re.compile(r"seconds|peak_mib|^costs$|^serving$")  # columns, keys and arrays that tell what making took
_PATIENCE = 300  # seconds that anything may take here before it counts as hanging


class SkippedError(Exception):
    """Why a drill cannot run on this machine."""


# --- the list of drills --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drill:
    """A fault, and the function that brings it about and follows the remedy: it returns what was said."""

    name: str
    description: str
    function: Callable[["Place"], str]


DRILLS: dict[str, Drill] = {}
SAME = "same numbers"  # said where nothing but the numbers was to be seen


def drill(description: str) -> Callable:
    """Put a function on the list, under its name, with one line that says what goes wrong and what is done then."""

    def listed(function: Callable[["Place"], str]):
        if function.__name__ in DRILLS:
            raise ValueError(f"two drills are called '{function.__name__}'; give one another name")
        DRILLS[function.__name__] = Drill(function.__name__, description, function)
        return function

    return listed


# --- where they run ------------------------------------------------------------------------------------------


class Place:
    """A folder outside the project with a study that ran undisturbed, and copies of it to do harm to."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._copies: list[Path] = []  # to be cleared
        self._numbers = itertools.count()
        self._once: dict[Callable[[Place], Project], Project] = {}

    @cached_property
    def finished(self) -> Project:
        """The drills' study after an undisturbed run. Copy it before changing anything."""
        project = Project.create(self.folder / "undisturbed", CONFIG)
        project.snakemake()
        return project

    @cached_property
    def recorded(self) -> Project:
        """The same under git, recorded with DVC and sent to the folder `store` beside it."""
        project = self.finished.copy(self.folder / "recorded/project")
        project.git("init", "-q")
        project.run("dvc", "remote", "add", "--default", "store", str(self.folder / "recorded/store"))
        project.make("record")
        project.git("add", "-A")
        project.git("commit", "-q", "-m", "results")
        project.make("push")
        return project

    @cached_property
    def changed(self) -> tuple[Project, set[str]]:
        """The finished project after one changed value, made up to date undisturbed; and the jobs that this took."""
        project = self.finished.copy(self.folder / "changed")
        change(project)
        jobs = project.planned()
        project.snakemake()
        return project, jobs

    def copy(self, project: Project | None = None) -> Project:
        """A project, by default the finished one, in a folder of its own."""
        return (project or self.finished).copy(self.new_folder())

    def fresh(self, config: str = CONFIG) -> Project:
        """A project that never ran."""
        return Project.create(self.new_folder(), config)

    def new_folder(self) -> Path:
        """A name for a folder that is cleared after the drill."""
        self._copies.append(self.folder / f"copy-{next(self._numbers)}")
        return self._copies[-1]

    def once(self, make: Callable[["Place"], Project]) -> Project:
        """What `make` makes here of one fresh project, made once and kept. Copy it before changing anything."""
        if make not in self._once:
            self._once[make] = make(self)
            self._copies.pop()
        return self._once[make]

    def unfinished(self, project: Project | None = None) -> Project:
        """A copy that lacks the scores that can wait, and what is made from them."""
        copy = self.copy(project)
        remove(copy, f"{WAITING}.*", f"{MEASURED}.*", "results/evaluation/*.*", "results/evaluation/examples/*")
        remove(copy, "results/figures/*")
        return copy

    def clear(self):
        """Take the copies away, and end what still runs in them."""
        end_all(self.folder)
        while self._copies:
            shutil.rmtree(self._copies.pop())
        for path in self.folder.glob("*.txt"):
            path.unlink()


def change(project: Project):
    """Change one value of the config: a hyperparameter of the scores that can wait."""
    project.edit("config.yaml", "waiting: {power: [0.5, 1.0]}", "waiting: {power: [0.5, 2.0]}")


class Running:
    """A command at work in a project, in a session of its own."""

    def __init__(self, project: Project, *command: str, **environment: str):
        self.project = project
        self.output = project.folder.with_name(f"{project.folder.name}.txt")
        with open(self.output, "w") as file:
            self.process = subprocess.Popen(
                command or ("snakemake", "--cores", "2"), cwd=project.folder,
                env=project.environment() | environment, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip

    def ended(self) -> str:
        """Wait for its end; what it said."""
        self.process.wait(_PATIENCE)
        return self.output.read_text()

    def succeeded(self):
        """Wait for its end. Raises AssertionError with what it said if it failed."""
        said = self.ended()
        assert self.process.returncode == 0, f"it failed: {said}"

    def failed(self) -> str:
        """Wait for its end; what it said. Raises AssertionError if it did not fail."""
        said = self.ended()
        assert self.process.returncode != 0, f"this was let pass: {said}"
        return said

    def kill(self, number: int = signal.SIGKILL, *, group: bool = False) -> str:
        """A signal to the command, or to its group as from a terminal; what it said until its end."""
        (os.killpg if group else os.kill)(self.process.pid, number)
        return self.ended()


@contextlib.contextmanager
def held(project: Project, *command: str, step: str = "score") -> Iterator[tuple[Running, int]]:
    """A command that runs up to the middle of a job of a step, and this job's process; it goes on after the block."""
    hold = project.folder / "hold"
    hold.write_text(step)
    try:
        running = Running(project, *command)
        yield running, waiting_job(project, running)
    finally:
        hold.unlink(missing_ok=True)


def waiting_job(project: Project, running: Running) -> int:
    """The process of the next job that waits."""
    path = project.folder / "held"

    def there() -> bool:
        if running.process.poll() is not None:
            raise AssertionError(f"it ended too soon:\n{running.output.read_text()}")
        return path.exists() and path.read_text().isdecimal()

    until(there, "a job that waits")
    process = int(path.read_text())
    path.unlink()
    return process


def until(true: Callable[[], bool], what: str):
    """Wait until something is true. Raises AssertionError where that takes too long."""
    end = time.monotonic() + _PATIENCE
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"waited {_PATIENCE} s in vain for {what}")
        time.sleep(0.02)


def processes(folder: Path, word: str = "") -> list[int]:
    """Those that run in a folder, with this word in their command."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            inside = Path(os.readlink(path / "cwd")).is_relative_to(folder.resolve())
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile, or is somebody else's
        if inside and command and word in command:
            found.append(int(path.name))
    return found


def end_all(folder: Path):
    """Kill what runs in a folder, which must be the drills' own."""
    for process in processes(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    until(lambda: not processes(folder), f"processes in {folder} to end")


# --- what must hold afterwards -------------------------------------------------------------------------------


def same(project: Project, undisturbed: Project, *targets: str) -> str:
    """The project has every number of the undisturbed one, nothing is left to do, and no file is left over.

    targets: of the run, where not all. Raises AssertionError saying what is not so.
    """
    found, expected = numbers(project), numbers(undisturbed)
    differing = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    assert not differing, f"not as in an undisturbed run: {differing[:3]}, {len(differing)} in all"
    altered = [name for made in project.folder.rglob("results/**/*.made.json") for name in _altered(project, made)]
    assert not altered, f"not what their made files say: {altered}"
    done = project.snakemake(*targets, "--dry-run", "--quiet", "host")
    assert "Nothing to be done" in done.stdout + done.stderr, f"something is left to do: {done.stdout}{done.stderr}"
    left = [str(path.relative_to(project.folder)) for path in project.folder.rglob("*.partial")]
    assert not left, f"left over: {left}"
    return SAME


def numbers(project: Project) -> dict[str, object]:
    """Every result file, without what tells time: file -> content that can be compared."""
    paths = [path for path in (project.folder / "results").rglob("*") if path.is_file()]
    return {str(path.relative_to(project.folder)): content(path) for path in paths}


def content(path: Path) -> object:
    """What a result holds besides seconds, memory and the sums of files that hold these."""
    if path.name.endswith(".made.json"):
        return load_json(path)["spec"]
    if path.suffix == ".json":
        return _timeless(load_json(path))
    if path.suffix == ".csv":
        table = pd.read_csv(path, dtype=str)
        return table[[name for name in table if not _TIME.search(name)]].to_csv()
    if path.suffix == ".npz":
        arrays = {name: np.asarray(array) for name, array in load_arrays(path).items() if not _TIME.search(name)}
        return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}
    return path.read_bytes()


def _timeless(held: object) -> object:
    if isinstance(held, dict):
        return {key: _timeless(value) for key, value in held.items() if not _TIME.search(key)}
    return [_timeless(value) for value in held] if isinstance(held, list) else held


def _altered(project: Project, made: Path) -> list[str]:
    """The outputs beside a made file whose sums it does not hold."""
    said = load_json(made)
    outputs = ((said["spec"]["outputs"][name], each["sha256"]) for name, each in said["outputs"].items())
    return [path for path, expected in outputs if provenance.sha256(project.folder / path) != expected]


def made(project: Project) -> dict[str, bytes]:
    """Every made file, which tells when and how a job ran: file -> content."""
    paths = (project.folder / "results").rglob("*.made.json")
    return {str(path.relative_to(project.folder)): path.read_bytes() for path in paths}


def kept(project: Project, before: dict[str, bytes]):
    """Raise AssertionError where a job that had finished before ran again."""
    now = made(project)
    again = [name for name, content in before.items() if now.get(name) != content]
    assert not again, f"made again though finished: {again}"


def failing(project: Project, *arguments: str, **environment: str) -> str:
    """What a run by snakemake says that must fail."""
    return refused(project.snakemake(*arguments, check=False, **environment))


def refused(done: subprocess.CompletedProcess) -> str:
    """What a command said that must have failed."""
    assert done.returncode != 0, f"this was let pass: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def line(said: str, *words: str) -> str:
    """The line of an output that has all these words. Raises AssertionError where none has."""
    for each in said.splitlines():
        if all(word in each for word in words):
            return each.strip()
    raise AssertionError(f"no line says {words}: ... {said[-2000:]}")


def locked(said: str) -> str:
    """What Snakemake says of a folder that is locked: the folder and the remedy."""
    found = re.search(r"Directory cannot be locked.*--unlock argument", said, re.DOTALL)
    assert found, f"the folder is not locked: ... {said[-2000:]}"
    return found[0]


def remove(project: Project, *patterns: str):
    """Take results away. Raises AssertionError where there are none."""
    for pattern in patterns:
        found = [path for path in project.folder.glob(pattern) if path.is_file()]
        assert found, f"nothing to remove: {pattern}"
        for path in found:
            path.unlink()


def flip(path: Path, after: bytes = b""):
    """One bit of a file: the lowest of the byte in its middle, or of the one that follows a text in it."""
    content = bytearray(path.read_bytes())
    assert after in content, f"{path} holds no {after}"
    place = content.index(after) + len(after) if after else len(content) // 2
    content[place] ^= 1
    path.chmod(0o644)  # DVC protects what it stores
    path.write_bytes(bytes(content))
