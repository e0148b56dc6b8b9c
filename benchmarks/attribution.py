"""Attribution against other libraries: same model, same data, same damping, each run in a process of its own.

Every round runs ours and theirs in turn; ratios are medians over rounds. Agreement is the mean over test examples of
the Spearman correlation of the two libraries' scores over training examples; random projections differ, so that of TRAK
with one says little.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import trained
from scipy import stats

HERE = Path(__file__).parent
PYDVL = HERE.parent / ".venv-bench-pydvl/bin/python"  # an environment of its own
ROUNDS, LONG = 3, 60  # seconds of a round from which it is the only one
EXACT = 0.9999  # the Spearman correlation of libraries that compute the same
DIGITS, MNIST = "digits_mlp", "mnist_mlp"


@dataclass(frozen=True)
class Case:
    """A method of some peers, and ours that are held against it.

    ours: by default the method of the same name. goals: (ours, peer) -> the least ratio on MNIST; 1, not slower, for
    all others. spearman: the least agreement, where both compute the same.
    """

    method: str
    peers: list[str]
    problems: list[str]
    ours: list[str] = field(default_factory=list)
    goals: dict[tuple[str, str], float] = field(default_factory=dict)
    spearman: float | None = None


CASES = [
    Case(
        "grad_dot", ["dattri", "captum"], [DIGITS, MNIST], ours=["grad_dot", "grad_dot_float32"], spearman=EXACT,
        goals={("grad_dot", "dattri"): 200, ("grad_dot_float32", "dattri"): 200},
    ),
    Case("grad_dot_last", ["captum"], [DIGITS, MNIST], spearman=EXACT),
    Case("grad_cos", ["dattri"], [DIGITS, MNIST], spearman=EXACT),
    Case("influence", ["dattri", "captum", "pydvl"], ["digits_logistic"], spearman=EXACT),
    Case("influence_cg", ["dattri", "pydvl"], ["digits_logistic"], spearman=EXACT),
    Case("influence_arnoldi", ["dattri", "captum", "pydvl"], ["digits_logistic"], spearman=EXACT),
    Case("sweep", ["dattri"], ["digits_logistic"], spearman=EXACT),
    Case("sweep", ["dattri"], [MNIST], goals={("sweep", "dattri"): 300}),
    Case("datainf", ["dattri", "pydvl"], [DIGITS], spearman=EXACT),
    Case("datainf", ["dattri"], [MNIST], goals={("datainf", "dattri"): 1000}, spearman=EXACT),
    Case("ekfac", ["kronfluence"], [DIGITS, MNIST], goals={("ekfac", "kronfluence"): 10}, spearman=EXACT),
    Case("ekfac_true", ["pydvl"], [DIGITS]),
    Case("trak_unprojected", ["dattri", "traker"], [DIGITS], spearman=EXACT),
    Case("trak_1_gaussian", ["dattri", "traker"], [DIGITS, MNIST], ours=["trak_1_gaussian", "trak_1_sjlt"]),
    Case(
        "trak_10_gaussian", ["dattri", "traker"], [DIGITS, MNIST], ours=["trak_10_gaussian", "trak_10_sjlt"],
        goals={
            (f"trak_10_{kind}", peer): goal
            for kind, goal in (("gaussian", 5), ("sjlt", 15))
            for peer in ("dattri", "traker")
        },
    ),
]  # fmt: skip
LABELS = {
    "digits_logistic": {"sweep": "influence by the Hessian, 10 dampings (dattri: CG, 10 steps)"},
    "mnist_mlp": {"sweep": "influence by the Fisher matrix, 10 dampings (dattri: CG of the Hessian, 10 steps)"},
}
WORDS = {*trained.SETTINGS, *(case.method for case in CASES)}


def run(words: list[str]) -> Iterator[dict]:
    """Rows of the results table; of some problems or methods where words name them."""
    problems = [name for name in trained.SETTINGS if name in words] or list(trained.SETTINGS)
    methods = {case.method for case in CASES if case.method in words} or {case.method for case in CASES}
    for problem in problems:
        cases = [case for case in CASES if problem in case.problems and case.method in methods]
        if cases:
            with tempfile.TemporaryDirectory() as folder:
                trained.save(trained.SETTINGS[problem], Path(folder))
                for case in cases:
                    yield from compare(case, problem, Path(folder))


def compare(case: Case, problem: str, folder: Path) -> Iterator[dict]:
    """Rows of one comparison: ours and the peers' in turn, in rounds; a single round where one takes minutes."""
    ours, rounds = case.ours or [case.method], []
    while len(rounds) < ROUNDS and (not rounds or sum(each["took"] for each in rounds[0].values()) < LONG):
        found = {method: one("attriflow", method, folder) for method in ours}
        rounds.append(found | {peer: one(peer, case.method, folder) for peer in case.peers})
    for method in ours:
        for peer in case.peers:
            goal = case.goals.get((method, peer), 1) if problem == MNIST else 1
            pairs = [(each[method], each[peer]) for each in rounds]
            row = {
                "case": trained.SETTINGS[problem].title,
                "method": LABELS.get(problem, {}).get(method, method),
                "peer": peer,
            }
            yield row | measured(pairs) | {"goal": goal, "spearman_goal": case.spearman or ""}


def measured(pairs: list[tuple[dict, dict]]) -> dict:
    """The figures of our runs and a peer's, a pair a round."""
    mine, other = pairs[0]
    return {
        "ours_seconds": round(statistics.median(a["seconds"] for a, _ in pairs), 3),
        "peer_seconds": round(statistics.median(b["seconds"] for _, b in pairs), 3),
        "ratio": round(statistics.median(b["seconds"] / a["seconds"] for a, b in pairs), 1),
        "spearman": round(agreement(mine["scores"], other["scores"]), 6),
        "ours_mib": round(max(a["peak_mib"] for a, _ in pairs)),
        "peer_mib": round(max(b["peak_mib"] for _, b in pairs)),
        "rounds": len(pairs),
        "note": f"theirs scaled {other['scaled']:.0f} times" if other["scaled"] > 1 else "",
    }


def one(library: str, method: str, folder: Path) -> dict:
    """One run of one library; its figures and scores."""
    scores, started = folder / "scores.npy", time.perf_counter()
    done = subprocess.run(
        [PYDVL if library == "pydvl" else sys.executable, HERE / "one_run.py", library, method, folder, scores],
        capture_output=True, text=True, env=os.environ | {"ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{library}, {method}:\n{done.stderr}")
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    return figures | {"scores": np.load(scores, allow_pickle=False), "took": time.perf_counter() - started}


def agreement(mine: np.ndarray, theirs: np.ndarray) -> float:
    """Mean Spearman correlation over the test examples that both have."""
    tests = min(mine.shape[1], theirs.shape[1])
    return float(np.mean([stats.spearmanr(mine[:, t], theirs[:, t]).statistic for t in range(tests)]))
