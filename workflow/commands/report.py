"""Print the best point of every method of a summary, if the study retrains, and where its files are."""

import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, "src")

from attriflow import summary

SHOWN = ["setting", "method", "ensemble_size", "LDS", "interval", "ceiling", "at", "seconds", "peak_mib"]


def main(path: Path):
    if not path.exists():
        print("nothing was trained from scratch to measure against; scores and chosen dampings: results/scores/")
        return
    table = summary.lds_of_loss(pd.read_csv(path, dtype_backend="numpy_nullable"))  # 512 stays 512 beside a gap
    best = summary.best(table, ["setting", "method", "ensemble", "ensemble_size"])
    hyperparameters = summary.hyperparameters(table)
    best = best.assign(
        LDS=best.value.map("{:.3f}".format),
        interval=[f"{low:.3f} .. {high:.3f}" for low, high in zip(best.low, best.high, strict=True)],
        at=[
            ", ".join(f"{name} {row[name]}" for name in hyperparameters if pd.notna(row[name]))
            for _, row in best.iterrows()
        ],
    ).sort_values(["setting", "value"], ascending=[True, False])
    print(best[SHOWN].to_string(index=False))
    figures = Path(str(path.parent).replace("evaluation", "figures", 1))
    print(f"\nevery measurement: {path}\nfigures: {figures}/*.png, *.pdf")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
