"""How iterative solvers approach exact influence: docs/results/convergence/ (a table and a figure).

`make convergence`. The digits MLP of the default study (2410 parameters), its generalised Gauss-Newton matrix, which is
positive semi-definite, so that every solver has the same limit. Agreement is the mean over test examples of the
Spearman correlation with `influence`, an exact inverse, at the same damping.
"""

import datetime
import os
import platform
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "workflow/commands")]

import matplotlib  # noqa: E402
from matplotlib import pyplot as plt  # noqa: E402
from publish import processor  # noqa: E402

from attriflow import engine  # noqa: E402
from attriflow.data import digits, split  # noqa: E402
from attriflow.figures import save  # noqa: E402
from attriflow.models import Trained, mlp  # noqa: E402
from attriflow.runs import Run  # noqa: E402
from attriflow.scores import influence, influence_arnoldi, influence_cg, influence_lissa  # noqa: E402

TARGET = ROOT / "docs/results/convergence"
RECIPE = {
    "optimiser": "sgd", "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.0, "schedule": "constant",
    "batch_size": 32, "epochs": 50,
}  # fmt: skip
DAMPINGS = (0.001, 0.01, 0.1)
STEPS = (1, 2, 5, 10, 20, 50)
SPACE = (10, 20, 50, 100, 200, 500)
DEPTHS = (10, 30, 100, 300, 1000)
SCALE, BATCH = 20.0, 100
LOOK = {
    "figure.constrained_layout.use": True, "savefig.dpi": 200, "font.size": 8, "axes.titlesize": 9,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25, "grid.linewidth": 0.5,
    "legend.frameon": False,
}  # fmt: skip


def main():
    matplotlib.use("Agg")
    plt.rcParams.update(LOOK)
    data = split(digits.load(None), "digits", 0, train=1000, test=50, standardise=True, label_noise=None)
    build = partial(mlp.build, data.shape, data.classes, hidden=[32], dropout=0.1)
    (stack,) = engine.train(build, data.train_x, data.train_y, [Run("models/full-0")], RECIPE, 0)
    member = Trained("full-0", 0, build, {50: stack.state(0, 50)}, {50: 0.01})
    exact = influence.prepare(member, data, curvature="ggn")
    truth = {damping: next(influence.score([exact], damping=damping)) for damping in DAMPINGS}
    table = pd.DataFrame(
        {"solver": solver, "iterations": steps, "damping": damping, "agreement": agreement(scores, truth[damping])}
        for solver, steps, damping, scores in solved(member, data)
    )
    TARGET.mkdir(parents=True, exist_ok=True)
    table.to_csv(TARGET / "convergence.csv", index=False, float_format="%.5f")
    save(draw(table), TARGET / "convergence.png")
    (TARGET / "made_by.txt").write_text(made_by("make convergence"))
    print(table.pivot_table(index=["solver", "iterations"], columns="damping", values="agreement").to_string())


def solved(member: Trained, data):
    """Solver, iterations, damping and scores (n, m) of every point."""
    prepared = influence_cg.prepare(member, data, iterations=max(STEPS), curvature="ggn")
    for damping in DAMPINGS:
        for steps in STEPS:
            yield "CG", steps, damping, next(influence_cg.score([prepared], damping=damping, iterations=steps))
    prepared = influence_arnoldi.prepare(member, data, iterations=max(SPACE), curvature="ggn")
    for damping in DAMPINGS:
        for steps in SPACE:
            scores = next(influence_arnoldi.score([prepared], damping=damping, iterations=steps))
            yield "Arnoldi", steps, damping, scores
    for damping in DAMPINGS:
        for depth in DEPTHS:
            options = {"damping": damping, "scale": SCALE, "depth": depth, "batch": BATCH, "curvature": "ggn"}
            yield "LiSSA", depth, damping, influence_lissa.prepare(member, data, **options)["scores"]


def made_by(command: str) -> str:
    """Command, commit, date and hardware, as `publish.py` writes them for a study."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()

    changed = git("status", "--porcelain", "--", "src", "benchmarks")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"command: {command}\n"
        f"commit: {git('rev-parse', 'HEAD')}{' with uncommitted changes' if changed else ''}\n"
        f"date: {datetime.date.today().isoformat()}\n"
        f"hardware: {os.cpu_count()} cores {processor()}, {memory:.0f} GiB memory, Python {platform.python_version()}\n"
    )


def agreement(scores: np.ndarray, exact: np.ndarray) -> float:
    """Mean Spearman correlation over test examples, (n, m) each."""
    return float(np.mean([stats.spearmanr(a, b).statistic for a, b in zip(scores.T, exact.T, strict=True)]))


def draw(table: pd.DataFrame) -> plt.Figure:
    """Agreement against iterations, a panel a solver, a line a damping."""
    figure, panels = plt.subplots(1, 3, figsize=(9, 3), sharey=True)
    for axes, (solver, part) in zip(panels, table.groupby("solver", sort=False), strict=True):
        for place, (damping, line) in enumerate(part.groupby("damping")):
            axes.plot(
                line.iterations, line.agreement, "o-", markersize=3, linewidth=1, color="#0072B2",
                alpha=0.45 + 0.55 * place / (len(DAMPINGS) - 1), label=f"damping {damping:g}",
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_title(solver)
        axes.set_xlabel("iterations")
    panels[0].set_ylabel("Spearman with exact influence")
    panels[0].legend()
    caption = (
        f"Digits MLP, generalised Gauss-Newton matrix, 1000 training and 50 test examples, one model. LiSSA: scale "
        f"{SCALE:g}, minibatches of {BATCH}. Arnoldi keeps all Ritz pairs of one space; CG has a space for each test "
        f"example."
    )
    figure.supxlabel("\n".join(textwrap.wrap(caption, 170)), fontsize=7, x=0.01, ha="left", color="0.3")
    return figure


if __name__ == "__main__":
    main()
