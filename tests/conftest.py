"""What the tests share: a small problem, and a small project folder that ran once."""

import importlib.util
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import simulated_device  # noqa: F401 (must be there before the first derivative is taken)
import slurm_here
import torch

from attriflow import engine
from attriflow.data import Split
from attriflow.models import Trained, mlp
from attriflow.runs import Run

ROOT = Path(__file__).parent.parent

RECIPE = {
    "optimiser": "sgd",
    "learning_rate": 0.05,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "schedule": "constant",
    "batch_size": 16,
    "epochs": 3,
}


def pytest_collection_modifyitems(items):
    """Tests that need what this machine lacks do not run; their mark says what that is."""
    there = {
        "mirror": bool(os.environ.get("ATTRIFLOW_DATA_MIRROR")),
        "gpu": torch.cuda.is_available(),
        "slurm": not slurm_here.missing(),
        "text": importlib.util.find_spec("transformers") is not None,
    }
    for item in items:
        for mark, available in there.items():
            if item.get_closest_marker(mark) and not available:
                item.add_marker(pytest.mark.skip(reason=f"no {mark} here"))


def toy_split(n: int = 40, m: int = 7, shape: tuple[int, ...] = (1, 4, 4), classes: int = 3) -> Split:
    """Random inputs with a signal, (n, *shape) and (m, *shape)."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((classes, *shape))
    y = np.concatenate([np.arange(classes), random.integers(0, classes, n + m - classes)])
    x = (centres[y] + random.standard_normal((n + m, *shape))).astype(np.float32)
    return Split(x[:n], y[:n], x[n:], y[n:], y[:n], np.arange(n), np.arange(m), np.float64(0), np.float64(1))


def toy_regression(n: int = 40, m: int = 7, features: int = 6) -> Split:
    """Random features (n, d) and (m, d) and a target with noise that is not linear in them, standardised."""
    random = np.random.default_rng(0)
    x = random.standard_normal((n + m, features)).astype(np.float32)
    y = x @ random.standard_normal(features) + np.sin(3 * x[:, 0]) + random.standard_normal(n + m) / 2
    y = ((y - y[:n].mean()) / y[:n].std()).astype(np.float32)
    options = {"target_mean": 3.0, "target_std": 2.0, "features": True}
    places = (np.arange(n), np.arange(m))
    return Split(x[:n], y[:n], x[n:], y[n:], y[:n], *places, np.zeros(features), np.ones(features), **options)


def itself(split: Split) -> Split:
    """The same training examples, which are the test examples, too."""
    return Split(**{**vars(split), "test_x": split.train_x, "test_y": split.train_y, "test_index": split.train_index})


@pytest.fixture(scope="session")
def split() -> Split:
    """n = 40, m = 7, 16 inputs, 3 classes."""
    return toy_split()


@pytest.fixture(scope="session")
def build():
    """A perceptron 16-5-3 without dropout: 103 parameters."""
    return partial(mlp.build, (1, 4, 4), 3, hidden=[5], dropout=0.0)


@pytest.fixture(scope="session")
def members(split, build) -> list[Trained]:
    """Two trained members with checkpoints at epochs 1 and 3."""
    return trained_members(split, build, 2)


def trained_members(split: Split, build, count: int) -> list[Trained]:
    """Members of an independent ensemble, each trained on its own random nine tenths of a split."""
    streams = [f"models/full-{place}" for place in range(count)]
    runs = [Run(stream, subset=f"{stream}/subset", fraction=0.9) for stream in streams]
    stacks = list(engine.train(build, split.train_x, split.train_y, runs, RECIPE, 0, checkpoints=(1,), stack=1))
    states = [
        {epoch: stack.state(place, epoch) for epoch in (1, 3)} for stack in stacks for place in range(len(stack.runs))
    ]
    return [
        Trained(f"full-{place}", 0, build, state, {1: 0.05, 3: 0.05}, runs[place], RECIPE)
        for place, state in enumerate(states)
    ]


TINY = """
seed: 0
datasets:
  digits: {train: 60, test: 12}
settings:
  digits_mlp:
    dataset: digits
    model: {kind: mlp, hidden: [8], dropout: 0.1}
    recipe: {learning_rate: 0.05, momentum: 0.9, batch_size: 16, epochs: 4}
    checkpoints: [2]
ground_truth:
  subsets: {count: 6, repeats: 2, fraction: 0.5, block: 3}
  leave_one_out: {examples: 4, repeats: 1, block: 5}
ensembles:
  independent: {count: 2, sizes: [1, 2], block: 1}
methods:
  grad_dot:
  influence: {damping: [0.01, 0.1]}
  trak: {proj_dim: [4, 8], damping: [0.1, 1.0]}
evaluation: {resamples: 100}
"""


class Project:
    """A copy of this project in a folder of its own, with a tiny config, driven as a user would."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def create(cls, folder: Path) -> "Project":
        """The project's own files (not its results), with the tiny config."""
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout.splitlines()  # fmt: skip
        for name in listed:
            if (ROOT / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        shutil.rmtree(folder / "studies", ignore_errors=True)
        (folder / "config.yaml").write_text(TINY)
        return cls(folder)

    def copy(self, folder: Path) -> "Project":
        """The same folder, results and all, elsewhere."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def environment(self) -> dict[str, str]:
        """Ours, with the Python that runs the tests first."""
        return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
        """A command in the folder, with the Python that runs the tests."""
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, env=self.environment() | environment, timeout=600
        )
        if check and done.returncode:
            raise AssertionError(f"{command} failed:\n{done.stdout}\n{done.stderr}")
        return done

    def snakemake(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        """`snakemake ...` on two cores."""
        return self.run("snakemake", "--cores", "2", *arguments, **options)

    def planned(self, *arguments: str) -> set[str]:
        """The stems of the jobs that a run would do."""
        text = self.snakemake(*arguments, "--dry-run", "--quiet", "host")
        outputs = [line for line in (text.stdout + text.stderr).splitlines() if line.startswith("    output: ")]
        made = [name for line in outputs for name in line.split(": ", 1)[1].split(", ") if name.endswith(".made.json")]
        return {name.removeprefix("results/").removesuffix(".made.json") for name in made}

    def edit(self, name: str, old: str, new: str):
        """Replace text that must be there in a file."""
        path = self.folder / name
        content = path.read_text()
        assert old in content, f"{old!r} is not in {name}"
        path.write_text(content.replace(old, new))

    def results(self) -> dict[str, bytes]:
        """Every result file but what tells time: file -> content."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted((self.folder / "results").rglob("*"))
            if path.is_file() and not timed(path)
        }


def timed(path: Path) -> bool:
    """Whether a result holds seconds or sums of what holds seconds."""
    return path.name.endswith(".made.json") or path.suffix in (".csv", ".pdf", ".png") or _has_seconds(path)


def _has_seconds(path: Path) -> bool:
    return any(room in path.parts for room in ("ensembles", "scores", "evaluation"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A tiny project after its first run. Copy it before changing anything."""
    project = Project.create(tmp_path_factory.mktemp("finished") / "project")
    project.snakemake()
    return project


@pytest.fixture
def project(finished, tmp_path) -> Project:
    """A copy of the finished tiny project, to change at will."""
    return finished.copy(tmp_path / "project")
