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

CASES = {"attribution": attribution.run, "retraining": retraining.run, "damping_sweep": damping_sweep.run}
RESULTS = Path(__file__).parent / "results.csv"
COLUMNS = [
    "case", "against", "ours_seconds", "theirs_seconds", "ratio", "goal", "agreement", "ours_mib", "theirs_mib", "note",
]  # fmt: skip


def main(names: list[str]):
    unknown = sorted(set(names) - set(CASES))
    if unknown:
        sys.exit(f"unknown case {unknown}; known: {sorted(CASES)}")
    rows = []
    for name in names or CASES:
        for row in CASES[name]():
            rows.append(row)
            print(
                f"{row['case']}, against {row['against']}: {row['ours_seconds']:.1f} s, "
                f"theirs {row['theirs_seconds']:.1f} s, ratio {row['ratio']:.2f} (goal {row['goal']}). {row['note']}",
                flush=True,
            )
    with open(RESULTS, "w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
