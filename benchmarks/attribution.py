"""Attribution against other libraries: same model, same data, same damping, each run in a process of its own.

Every round runs ours and theirs in turn; ratios are medians over rounds. Agreement is the mean over test examples of
the Spearman correlation of the two libraries' scores over training examples; random projections differ, so TRAK's says
little.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from attriflow import engine
from attriflow.models import mlp
from attriflow.runs import Run

HERE = Path(__file__).parent
ROUNDS, LONG = 3, 60  # seconds of a round from which it is the only one
MEMBERS = 10
RECIPE = {
    "optimiser": "sgd", "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.0, "schedule": "constant",
    "batch_size": 64, "epochs": 10,
}  # fmt: skip

# our methods, the method of the peers that they are held against, these peers, and for each of ours the least ratio to
# reach on MNIST's perceptron
CASES = [
    (["grad_dot"], "grad_dot", ["dattri"], [200]),
    (["grad_cos"], "grad_cos", ["dattri"], [None]),
    (["sweep"], "sweep", ["dattri"], [300]),
    (["datainf"], "datainf", ["dattri"], [1000]),
    (["ekfac"], "ekfac", ["kronfluence"], [10]),
    (["trak_1_gaussian", "trak_1_sjlt"], "trak_1_gaussian", ["dattri", "traker"], [None, None]),
    (["trak_10_gaussian", "trak_10_sjlt"], "trak_10_gaussian", ["dattri", "traker"], [5, 15]),
]
LABELS = {"sweep": "Fisher influence, 10 dampings (dattri: CG, 10 steps)"}


def digits() -> tuple[np.ndarray, ...]:
    """1000 and 200 images of 64 pixels."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[:1200]
    x = (x[order] / 16).astype(np.float32)
    return x[:1000], y[order][:1000], x[1000:], y[order][1000:]


def mnist() -> tuple[np.ndarray, ...]:
    """5000 and 500 images of 784 pixels."""
    from retraining import data

    pixels, labels = data(5500)
    x = (pixels.reshape(len(pixels), -1) / 255).astype(np.float32)
    return x[:5000], labels[:5000], x[5000:], labels[5000:]


PROBLEMS = {
    "digits MLP 64-32-10, 1000 x 200": (digits, [32]),
    "MNIST MLP 784-128-64-10, 5000 x 500": (mnist, [128, 64]),
}


def run():
    """Rows of the results table."""
    for problem, (data, hidden) in PROBLEMS.items():
        with tempfile.TemporaryDirectory() as folder:
            save_problem(Path(folder), data(), hidden)
            for methods, theirs, peers, goals in CASES:
                goals = goals if data is mnist else [None] * len(goals)
                yield from compare(problem, Path(folder), methods, theirs, peers, goals)


def save_problem(folder: Path, arrays: tuple[np.ndarray, ...], hidden: list[int]):
    """Train the members and save what every library starts from."""
    train_x, train_y, test_x, test_y = arrays
    width = train_x.shape[1]
    build = partial(mlp.build, (width,), 10, hidden=hidden, dropout=0.0)
    runs = [Run(f"models/full-{member}") for member in range(MEMBERS)]
    states = []
    for stack in engine.train(build, train_x, train_y, runs, RECIPE, 0):
        for place in range(len(stack.runs)):
            state = stack.state(place, RECIPE["epochs"])
            # without the layer that flattens
            states.append({f"{int(key.split('.')[0]) - 1}.{key.split('.')[1]}": value for key, value in state.items()})
    torch.save(states, folder / "weights.pt")
    np.savez(folder / "data.npz", train_x=train_x, train_y=train_y.astype(np.int64), test_x=test_x,
             test_y=test_y.astype(np.int64), widths=[width, *hidden, 10])  # fmt: skip


def compare(problem: str, folder: Path, methods: list[str], theirs: str, peers: list[str], goals: list[float | None]):
    """Rows of one comparison: ours and the peers' in turn, in rounds; a single round where one takes minutes."""
    rounds = []
    while len(rounds) < ROUNDS and (not rounds or sum(each["took"] for each in rounds[0].values()) < LONG):
        found = {method: one("attriflow", method, folder) for method in methods}
        rounds.append(found | {peer: one(peer, theirs, folder) for peer in peers})
    for method, goal in zip(methods, goals, strict=True):
        for peer in peers:
            pairs = [(each[method], each[peer]) for each in rounds]
            mine, other = pairs[0]
            yield {
                "case": f"{LABELS.get(method, method)}, {problem}",
                "against": peer,
                "ours_seconds": round(statistics.median(a["seconds"] for a, _ in pairs), 3),
                "theirs_seconds": round(statistics.median(b["seconds"] for _, b in pairs), 2),
                "ratio": round(statistics.median(b["seconds"] / a["seconds"] for a, b in pairs), 1),
                "goal": goal if goal is not None else "",
                "agreement": round(agreement(mine["scores"], other["scores"]), 5),
                "ours_mib": round(max(a["peak_mib"] for a, _ in pairs)),
                "theirs_mib": round(max(b["peak_mib"] for _, b in pairs)),
                "note": f"{len(rounds)} rounds"
                + (f", theirs scaled {other['scaled']:.0f} times" if other["scaled"] > 1 else ""),
            }


def one(library: str, method: str, folder: Path) -> dict:
    """One run of one library; its figures and scores."""
    scores, started = folder / "scores.npy", time.perf_counter()
    done = subprocess.run(
        [sys.executable, HERE / "one_run.py", library, method, folder, scores], capture_output=True, text=True,
        env=os.environ | {"ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{library}, {method}:\n{done.stderr}")
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    return figures | {"scores": np.load(scores), "took": time.perf_counter() - started}


def agreement(mine: np.ndarray, theirs: np.ndarray) -> float:
    """Mean Spearman correlation over the test examples that both have."""
    tests = min(mine.shape[1], theirs.shape[1])
    return float(np.mean([stats.spearmanr(mine[:, t], theirs[:, t]).statistic for t in range(tests)]))
