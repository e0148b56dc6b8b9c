"""What the tests share: a small problem, and a small project folder that ran once."""

import importlib.util
import os
from functools import partial

import numpy as np
import pytest
import simulated_device  # noqa: F401 (must be there before the first derivative is taken)
import slurm_here
import torch
from project import ROOT, TINY, Project  # noqa: F401 (tests take these from here)

from attriflow import engine
from attriflow.data import Split
from attriflow.models import Trained, mlp
from attriflow.runs import Run

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
