"""Speed against the naive way, as ratios of runs side by side on this machine: benchmarks/results.csv.

`make bench`, or `python benchmarks/run.py [case ...]`. Uses MNIST from ATTRIFLOW_DATA_MIRROR where that is set, and
generated data of the same shape otherwise: no case depends on what the pixels show.
"""

import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

import attribution
import damping_sweep
import retraining
import scale

CASES = {
    "attribution": attribution.run,
    "retraining": retraining.run,
    "damping_sweep": damping_sweep.run,
    "scale": scale.run,
}
RESULTS = Path(__file__).parent / "results.csv"
COLUMNS = [
    "benchmark", "case", "against", "ours_seconds", "theirs_seconds", "ratio", "goal", "agreement", "ours_mib",
    "theirs_mib", "note",
]  # fmt: skip


def main(names: list[str]):
    unknown = sorted(set(names) - set(CASES))
    if unknown:
        sys.exit(f"unknown benchmark {unknown}; known: {sorted(CASES)}")
    for name in names or CASES:
        rows = []
        for row in CASES[name]():
            rows.append({"benchmark": name} | row)
            print(", ".join(f"{key} {value}" for key, value in row.items() if value != ""), flush=True)
        write(rows)


def write(rows: list[dict]):
    """The table, in which these rows replace the earlier ones of their benchmarks."""
    ran = {row["benchmark"] for row in rows}
    if RESULTS.exists():
        with open(RESULTS, newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["benchmark"] not in ran] + rows
    with open(RESULTS, "w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(sorted(rows, key=lambda row: list(CASES).index(row["benchmark"])))


if __name__ == "__main__":
    main(sys.argv[1:])
