"""Speed against the naive way and other libraries, as ratios of runs side by side: benchmarks/results.csv.

`make bench`, or `python benchmarks/run.py [BENCHMARK ...]`; of the benchmark `attribution` also some problems or
methods alone: `python benchmarks/run.py attribution digits_mlp grad_dot`. Rows that are measured anew replace their
earlier ones. Uses MNIST from ATTRIFLOW_DATA_MIRROR where that is set, and generated data of the same shape otherwise:
no case depends on what the pixels show.
"""

import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

import attribution
import damping_sweep
import further_training
import retraining
import scale

CASES = {
    "attribution": attribution.run,
    "retraining": retraining.run,
    "further_training": further_training.run,
    "damping_sweep": damping_sweep.run,
    "scale": scale.run,
}
RESULTS = Path(__file__).parent / "results.csv"
KEY = ["benchmark", "case", "method", "peer"]
COLUMNS = [
    *KEY, "ours_seconds", "peer_seconds", "ratio", "goal", "spearman", "spearman_goal", "ours_mib", "peer_mib",
    "rounds", "note",
]  # fmt: skip


def main(words: list[str]):
    known = CASES.keys() | attribution.WORDS
    unknown = sorted(set(words) - known)
    if unknown:
        sys.exit(f"unknown {unknown}; known: {sorted(CASES)}, and of attribution {sorted(attribution.WORDS)}")
    some = [word for word in words if word in attribution.WORDS]
    names = [name for name in CASES if name in words]
    if some and names != ["attribution"]:
        sys.exit(f"{some} belong to attribution: run.py attribution {' '.join(some)}")
    for name in names or CASES:
        rows = CASES[name](some) if name == "attribution" else CASES[name]()
        if not some:
            write([row for row in earlier() if row["benchmark"] != name])
        for row in rows:
            print(", ".join(f"{key} {value}" for key, value in row.items() if value != ""), flush=True)
            write(replaced(earlier(), {"benchmark": name} | row))


def earlier() -> list[dict]:
    """The rows of the table as it is."""
    if not RESULTS.exists():
        return []
    with open(RESULTS, newline="") as file:
        return list(csv.DictReader(file))


def replaced(rows: list[dict], new: dict) -> list[dict]:
    """The rows with a new one in the place of its earlier self, or last."""
    places = [place for place, row in enumerate(rows) if all(row[key] == new.get(key, "") for key in KEY)]
    return [*rows[: places[0]], new, *rows[places[0] + 1 :]] if places else [*rows, new]


def write(rows: list[dict]):
    """The table, sorted by benchmark."""
    with open(RESULTS, "w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(sorted(rows, key=lambda row: list(CASES).index(row["benchmark"])))


if __name__ == "__main__":
    main(sys.argv[1:])
