"""Print the best point of every method of a study, against retraining and against further training, and its files."""

import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, "src")

from planned import planned

from attriflow import gold, specs, summary
from attriflow.io import load_json
from attriflow.plan import Plan

SHOWN = ["setting", "method", "ensemble_size", "LDS", "interval", "ceiling", "at", "seconds", "peak_mib"]
NULLABLE = {"dtype_backend": "numpy_nullable"}  # 512 stays 512 beside a gap


def main(study: str):
    plan = planned(study)
    folder = "" if study == "default" else f"{study}/"
    tables = {name: plan.jobs.get(f"evaluation/{folder}{name}") for name in ("summary", "further")}
    said = {"summary": retraining, "further": further_training}
    for name, job in tables.items():
        if job:
            try:
                specs.verify(job)
            except ValueError as error:
                sys.exit(str(error))
            path = job.path("summary")
            print(said[name](pd.read_csv(path, **NULLABLE)))
            print(f"\nevery measurement: {path}\n")
    for line in of_models(plan):
        print(line)
    if not any(tables.values()):
        print("nothing was trained from scratch to measure against; scores and chosen dampings: results/scores/")
        return
    print(f"figures: results/figures/{folder}*.png, *.pdf")


def of_models(plan: Plan) -> list[str]:
    """How good the user's own models are on these data, and what is odd about any model, each once."""
    found: dict[str, None] = {}
    for job in plan.jobs.values():
        path = Path(job.path("metrics")) if job.rule in ("adopt", "train") else None
        if path and path.exists() and specs.up_to_date(job):
            metrics, setting = load_json(path), job.stem.split("/")[1]
            own = [metrics["said"]] if "said" in metrics else []
            found |= dict.fromkeys(f"settings.{setting}: {each}" for each in own)
            found |= dict.fromkeys(f"WARNING: settings.{setting}: {each}" for each in metrics.get("remarks", []))
    return list(found)


def retraining(table: pd.DataFrame) -> str:
    """The best LDS of every method and ensemble size."""
    table = summary.lds_of_loss(table)
    if table.empty:
        return "no ground truth of subsets, so no linear datamodelling scores"
    best = summary.best(table, ["setting", "method", *summary.OF_SIZE])
    best = best.assign(
        LDS=best.value.map("{:.3f}".format),
        interval=[f"{low:.3f} .. {high:.3f}" for low, high in zip(best.low, best.high, strict=True)],
        at=points(best, summary.hyperparameters(table)),
    ).sort_values(["setting", "value"], ascending=[True, False])
    return best[SHOWN].to_string(index=False)


def further_training(table: pd.DataFrame) -> str:
    """The highest cosine of every method to centred gold scores, over its points and the amounts of further training.

    Mean over final models, and the range of these.
    """
    names = gold.hyperparameters(table)
    table = table[(table.metric == "cosine") & (table.adjustment == "centred") & table.epochs.notna()]
    table = summary.gridded(table).assign(at=lambda rows: points(rows, names))
    by = ["setting", "truth", "method", "at", "epochs"]
    models = table.dropna(subset="mean").groupby(by, sort=False)["mean"].agg(["mean", "min", "max", "size"])
    if models.empty:
        return "no gold score of further training lies above the resolution of its floats"
    models = models.reset_index()
    best = models.loc[models.groupby(by[:3], sort=False)["mean"].idxmax()]
    best = best.assign(
        cosine=best["mean"].map("{:.3f}".format),
        models=[f"{low:.3f} .. {high:.3f}" for low, high in zip(best["min"], best["max"], strict=True)],
    ).sort_values(["setting", "truth", "mean"], ascending=[True, True, False])
    return best[["setting", "truth", "method", "cosine", "models", "size", "epochs", "at"]].to_string(index=False)


def points(table: pd.DataFrame, names: list[str]) -> list[str]:
    """Hyperparameters in words."""
    return [
        ", ".join(f"{name} {row[name]}" for name in names if pd.notna(row[name])) for _, row in table[names].iterrows()
    ]


if __name__ == "__main__":
    main(sys.argv[1])
