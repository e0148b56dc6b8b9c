"""Memory: what a method says it takes is what it takes, and what cannot fit is refused."""

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import RECIPE, ROOT, toy_split
from test_scores import METHODS, REGISTRY, options

from attriflow import engine, memory
from attriflow.data import Split
from attriflow.memory import Size, needed, refuse_what_cannot_fit
from attriflow.models import Trained, mlp
from attriflow.runs import Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def problem():
    """n = 1500, m = 200, p = 6586: large enough that arrays outweigh everything else."""
    member, split = trained(1500, 200)
    return member, split, Size.of(member, split, "all")


def trained(n: int, m: int, classes: int = 10) -> tuple[Trained, Split]:
    """A member after an epoch on half of the training examples, and its split."""
    split = toy_split(n, m, (1, 20, 20), classes)
    build = partial(mlp.build, split.shape, classes, hidden=[16], dropout=0.0)
    run, recipe = Run("a", "a", 0.5), RECIPE | {"epochs": 1, "learning_rate": 1e-3}
    (stack,) = engine.train(build, split.train_x, split.train_y, [run], recipe, 0)
    return Trained("full-0", 0, build, {1: stack.state(0, 1)}, {1: 1e-3}, run, recipe), split


def resident(word: str) -> int:
    """Bytes of this process now (VmRSS) or at most since the last reset (VmHWM)."""
    return int(re.search(rf"{word}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def growth(work) -> int:
    """How much more memory this process held at its peak during the work than before it."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def test_the_size_is_that_of_the_problem(problem):
    size = problem[2]
    assert (size.n, size.m, size.p, size.t, size.layers) == (1500, 200, 6586, 1, 2)
    assert size.factors == 401 + 16 + 17 + 10


# whose other curvatures take minutes here
BY_FISHER = [method for method in METHODS if method.startswith("influence") or method == "unrolled"]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_takes_no_more_than_it_says(problem, method):
    member, split, size = problem
    given = options(method, "prepare", **({"curvature": "fisher"} if method in BY_FISHER else {}))
    given |= {name: value for name, value in {"iterations": 5, "scale": 100.0}.items() if name in given}
    said = needed(REGISTRY, method, size, given)
    module = REGISTRY.load("scores", method)
    module.prepare(*trained(60, 5), **given)  # imports and caches
    taken = growth(lambda: module.prepare(member, split, **given))
    assert taken <= said + 32 * 2**20, f"took {taken / 2**20:.0f} MiB, said {said / 2**20:.0f}"


@pytest.mark.parametrize("classes", [2, 3])
def test_the_rows_of_a_gauss_newton_matrix_take_no_more_than_is_said(classes):
    member, split = trained(1000, 200, classes)
    size = Size.of(member, split, "all")
    assert size.columns == classes - 1 and size.n * size.columns < size.p
    module = REGISTRY.load("scores", "influence")
    module.prepare(*trained(60, 5, classes), curvature="ggn")  # imports and caches
    said = needed(REGISTRY, "influence", size, {"curvature": "ggn"})
    taken = growth(lambda: module.prepare(member, split, curvature="ggn"))
    assert taken <= said + 32 * 2**20, f"took {taken / 2**20:.0f} MiB, said {said / 2**20:.0f}"


def test_what_cannot_fit_is_refused_with_the_numbers_and_what_would(problem, monkeypatch):
    size = Size(n=50_000, m=500, p=1_000_000, t=1, layers=3, factors=3000, activations=2000, columns=9)
    monkeypatch.setattr(memory, "available", lambda: 6 * 2**30)
    with pytest.raises(MemoryError) as caught:
        refuse_what_cannot_fit(REGISTRY, "influence", size, {"curvature": "fisher"})
    words = str(caught.value)
    assert "influence needs about 115.7 GiB for n = 50000, m = 500, p = 1000000" in words
    assert "6.0 GiB are free" in words
    assert "'grad_dot'" in words
    assert "'datainf'" not in words
    refuse_what_cannot_fit(REGISTRY, "grad_dot", size, {})


def test_a_plugin_that_says_nothing_is_not_refused(problem, monkeypatch, tmp_path):
    from attriflow.registry import Registry

    (tmp_path / "scores").mkdir()
    (tmp_path / "scores/silent.py").write_text("def prepare(member, split):\n    return {}\n")
    monkeypatch.setattr(memory, "available", lambda: 0)
    refuse_what_cannot_fit(Registry(tmp_path), "silent", problem[2], {})


def test_the_peak_of_a_job_is_its_own_and_not_that_of_the_process_that_started_it():
    held = np.ones(2**26)  # 512 MiB
    code = "import time; from attriflow.running import cost; print(cost(time.monotonic())['peak_mib'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT / "src")}
    )
    assert float(done.stdout) < held.nbytes / 2**20


def test_the_limit_of_the_process_counts(monkeypatch):
    import resource

    free = memory.available()
    used = resident("VmSize")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (used + 2**20, -1))
    assert memory.available() <= 2**20 + 2**24 < free
    assert np.isfinite(free)
