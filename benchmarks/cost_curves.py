"""How the cost of every room grows with n, m, p, k, s and e: docs/results/scale/ (tables and a figure).

`make curves`. Perceptrons of random pixels: what is in them does not change what they cost. Each curve moves one size
and leaves the others where they are in BASE; its exponent is the slope of a straight line through the logarithms, of
processor seconds and of operations counted by torch (`attriflow.flops`). One thread.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

import matplotlib  # noqa: E402
import torch  # noqa: E402
from convergence import LOOK, made_by  # noqa: E402
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.ticker import NullFormatter  # noqa: E402

from attriflow import engine, flops  # noqa: E402
from attriflow.data import Split  # noqa: E402
from attriflow.evaluation import lds  # noqa: E402
from attriflow.figures import save  # noqa: E402
from attriflow.io import save_table  # noqa: E402
from attriflow.models import Trained, mlp  # noqa: E402
from attriflow.runs import Run  # noqa: E402
from attriflow.scores import grad_dot, trak  # noqa: E402

TARGET = ROOT / "docs/results/scale"
INPUTS, CLASSES, REPEATS = 784, 10, 3
RECIPE = {
    "optimiser": "sgd", "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.0, "schedule": "constant",
    "batch_size": 64, "epochs": 2,
}  # fmt: skip
# n training and m test examples, width of the hidden layer (p = 795 width + 10), k dimensions, s subsets, e members
BASE = {"n": 4000, "m": 400, "width": 128, "k": 512, "s": 50, "e": 4}
SIZES = {
    "n": (1000, 2000, 4000, 8000, 16000),
    "m": (100, 200, 400, 800, 1600),
    "width": (32, 64, 128, 256, 512),
    "k": (128, 256, 512, 1024, 2048),
    "s": (25, 50, 100, 200),
    "e": (1, 2, 4, 8, 16),
}


def main():
    matplotlib.use("Agg")
    plt.rcParams.update(LOOK)
    torch.set_num_threads(1)
    table = pd.DataFrame(measured())
    TARGET.mkdir(parents=True, exist_ok=True)
    save_table(TARGET / "curves.csv", table)
    slopes = exponents(table)
    save_table(TARGET / "exponents.csv", slopes)
    save(draw(table, slopes), TARGET / "curves.png")
    (TARGET / "made_by.txt").write_text(made_by("make curves"))
    print(slopes.to_string(index=False))


def measured() -> Iterator[dict]:
    """Room, the size that moves, its value, and the median processor seconds and the operations of a few rounds."""
    for room, (work, moves) in ROOMS.items():
        for size in moves:
            for value in SIZES[size]:
                run = work(**BASE | {size: value})
                rounds = [spent(run) for _ in range(REPEATS)]
                seconds = float(np.median([each.cpu_seconds for each in rounds]))
                at = 795 * value + 10 if size == "width" else value
                yield {
                    "room": room, "size": "p" if size == "width" else size, "value": at, "seconds": seconds,
                    "flops": rounds[0].flops,
                }  # fmt: skip
                print(f"{room}: {size} = {value}: {seconds:.3f} s", file=sys.stderr)


def spent(run: Callable[[], object]) -> flops.Spent:
    """What one call takes."""
    with flops.spending() as took:
        run()
    return took


def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """The slope of log seconds, and of log operations, against the log of each size; the last step's, too."""
    rows = []
    for (room, size), part in table.groupby(["room", "size"], sort=False):
        logs = np.log(part[["value", "seconds", "flops"]].clip(lower=1e-12).to_numpy(float))
        slope = np.polyfit(logs[:, 0], logs[:, 1:], 1)[0]
        last = (logs[-1, 1] - logs[-2, 1]) / (logs[-1, 0] - logs[-2, 0])
        rows.append({"room": room, "size": size, "seconds": slope[0], "seconds_last_doubling": last, "flops": slope[1]})
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, slopes: pd.DataFrame) -> plt.Figure:
    """Seconds against each size, a panel a size, a line a room with its exponent."""
    names = list(dict.fromkeys(table["size"]))
    figure, panels = plt.subplots(2, -(-len(names) // 2), figsize=(9, 5.5))
    rooms = list(dict.fromkeys(table.room))
    for axes, name in zip(panels.flat, names, strict=True):
        for room, line in table[table["size"] == name].groupby("room", sort=False):
            slope = slopes[(slopes.room == room) & (slopes["size"] == name)].seconds.item()
            colour = plt.cm.viridis(rooms.index(room) / len(rooms))
            axes.loglog(
                line.value, line.seconds, "o-", markersize=3, linewidth=1, color=colour, label=f"{room}, {slope:.2f}"
            )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(name)
        axes.legend(fontsize=6)
    for axes in panels[:, 0]:
        axes.set_ylabel("processor seconds, one thread")
    caption = ", ".join(f"{name} = {value}" for name, value in BASE.items())
    figure.supxlabel(f"Others at {caption} (p = 795 width + 10). Numbers: exponents.", fontsize=7, x=0.01, ha="left")
    return figure


# --- the rooms: what a job of each does at these sizes, made ready but for the work ------------------------------


def problem(n: int, m: int, width: int) -> tuple[Callable, Split, Callable[[int], Trained]]:
    random = np.random.default_rng(0)
    x = random.standard_normal((n + m, INPUTS), np.float32)
    y = random.integers(0, CLASSES, n + m)
    split = Split(x[:n], y[:n], x[n:], y[n:], y[:n], np.arange(n), np.arange(m), np.float64(0), np.float64(1))
    build = partial(mlp.build, (INPUTS,), CLASSES, hidden=[width], dropout=0.0)
    weights = build().state_dict()
    return build, split, lambda number: Trained(f"full-{number}", 0, build, {1: weights}, {1: 1.0})


def retraining(*, n: int, m: int, width: int, s: int, **_) -> Callable[[], object]:
    """s subsets of half of the data, two epochs; the engine trains some side by side."""
    build, split, _member = problem(n, m, width)
    runs = [Run(f"run-{number}", subset=f"subset-{number}", fraction=0.5) for number in range(s)]
    return lambda: list(engine.train(build, split.train_x, split.train_y, runs, RECIPE, 0))


def gradients(*, n: int, m: int, width: int, **_) -> Callable[[], object]:
    """Grad-Dot of one member."""
    _build, split, member = problem(n, m, width)
    return lambda: next(grad_dot.score([grad_dot.prepare(member(0), split)]))


def preparing(*, n: int, m: int, width: int, k: int, **_) -> Callable[[], object]:
    """TRAK of one member: gradients, sparse projections, the kernel."""
    _build, split, member = problem(n, m, width)
    return lambda: trak.prepare(member(0), split, proj_dim=k, projection="sjlt")


def scoring(*, n: int, m: int, k: int, e: int, **_) -> Callable[[], object]:
    """TRAK of e members at one damping, all sizes up to e."""
    _build, split, member = problem(n, m, width=8)
    prepared = trak.prepare(member(0), split, proj_dim=k, projection="sjlt")
    members = [{name: array.copy() for name, array in prepared.items()} for _ in range(e)]  # none share gradients
    return lambda: list(trak.score(members, damping=0.1, proj_dim=k))


def evaluating(*, n: int, m: int, s: int, **_) -> Callable[[], object]:
    """The LDS of one array of scores, with 200 resamples."""
    random = np.random.default_rng(0)
    masks = np.zeros((s, n), bool)
    for row in masks:
        row[random.permutation(n)[: n // 2]] = True
    truth = {"masks": masks, "loss": random.standard_normal((s, 2, m))}
    scores = random.standard_normal((n, m), np.float32)
    return lambda: list(lds.evaluate([("scores", scores)], truth, seed=0, resamples=200, confidence=0.95))


# what each does, and the sizes it moves with
ROOMS = {
    "retraining": (retraining, ("n", "width", "s")),
    "Grad-Dot": (gradients, ("n", "m", "width")),
    "TRAK, prepare": (preparing, ("n", "m", "width", "k")),
    "TRAK, score": (scoring, ("n", "m", "k", "e")),
    "LDS": (evaluating, ("n", "m", "s")),
}

if __name__ == "__main__":
    main()
