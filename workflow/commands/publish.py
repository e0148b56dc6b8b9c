"""Copy a study's tables and figures to docs/results/<study>/, with what they were made by.

What a study says of further training is long: it goes to docs/results/final_model/<setting>.csv, the centred scores
alone, without the columns that a reader does not need. Profiles are left to their figure.
"""

import datetime
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, "src")

from planned import planned

from attriflow import specs
from attriflow.study import names

ROOT = Path()

# rule -> what a reader wants of its outputs
TABLES = {
    "summarise": ["summary"],
    "compare": ["selection"],
    "costs": ["costs"],
    "price": ["ensembles", "savings"],
    "sensitivity": ["sensitivity", "transfer", "interactions"],
    "removal": ["summary"],
}
LONG = ("further", "further.profile")
FINAL_MODEL = Path("docs/results/final_model")


def main(study: str):
    known = ["default", *names(ROOT)]
    if study not in known:
        sys.exit(f"unknown study '{study}'; known: {known}")
    plan = planned(study)
    stale = [job.stem for job in plan.jobs.values() if not specs.up_to_date(job)]
    if stale:
        sys.exit(f"{len(stale)} jobs are not up to date ({stale[0]}, ...): run `make study NAME={study}` first")
    try:
        for job in (*plan.room("evaluation"), *plan.room("figures")):
            specs.verify(job)
    except ValueError as error:
        sys.exit(f"{error}; nothing was published")
    target = Path("docs/results", study)
    if target == FINAL_MODEL:
        sys.exit(f"{FINAL_MODEL} holds tables of several studies; give this one another name than '{study}'")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for job in plan.room("evaluation"):
        if job.rule == "summarise" and (stem := Path(job.path("summary")).stem) in LONG:
            if stem == "further":
                final_models(Path(job.path("summary")))
            continue
        for name in TABLES.get(job.rule, ()):
            inside = Path(job.path(name)).relative_to("results/evaluation")
            shutil.copy(job.path(name), target / ".".join(part for part in inside.parts if part != study))
    for figure in plan.room("figures"):
        shutil.copy(figure.path("png"), target)
    (target / "made_by.txt").write_text(made_by(study, plan))
    print(f"published {sorted(path.name for path in target.iterdir())} in {target}")


def final_models(table: Path):
    """A table for each setting: method, its hyperparameters, ground truth, final model, amount, agreement."""
    import pandas as pd

    from attriflow.figures._further import pointed

    rows = pointed(pd.read_csv(table)).query("adjustment == 'centred'").rename(columns={"point": "hyperparameters"})
    columns = ["method", "hyperparameters", "truth", "model_seed", "epochs", "metric", "mean", "sem"]
    FINAL_MODEL.mkdir(parents=True, exist_ok=True)
    for setting, part in rows.groupby("setting", sort=True):
        part[columns].to_csv(FINAL_MODEL / f"{setting}.csv", index=False, float_format="%.4g")


def made_by(study: str, plan) -> str:
    """Command, hardware, date, commit and the cost of every job added up."""
    costs = [provenance_cost(job) for job in plan.jobs.values()]
    commit = git("rev-parse", "HEAD") or "unknown, as this folder is under no git"
    changed = git("status", "--porcelain", "--", "src", "workflow", "studies", "config.yaml")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"command: {'make' if study == 'default' else f'make study NAME={study}'}\n"
        f"commit: {commit}{' with uncommitted changes' if changed else ''}\n"
        f"date: {datetime.date.today().isoformat()}\n"
        f"hardware: {os.cpu_count()} cores {processor()}, {memory:.0f} GiB memory, Python {platform.python_version()}\n"
        f"jobs: {len(costs)}, together {sum(each['seconds'] for each in costs) / 60:.1f} minutes on one core each; "
        f"largest {max(each['peak_mib'] for each in costs):.0f} MiB\n"
    )


def git(*arguments: str) -> str:
    """What git answers; nothing where it has none."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def provenance_cost(job) -> dict:
    """What making a job's results cost."""
    from attriflow import provenance

    return provenance.read(Path(job.made))["cost"]


def processor() -> str:
    """The processor's name, where Linux tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main(sys.argv[1])
