"""How long Snakemake takes to plan many jobs: docs/results/scale/scheduling.csv.

`make scheduling`. Dry runs of sweeps over a method of which every point is a job to prepare, to score and to evaluate,
in a folder of their own: the first writes all specs, the second finds them. `cluster_jobs`: submissions with the groups
of profiles/slurm, and with groups of 100.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import yaml

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

from convergence import made_by  # noqa: E402

from attriflow.io import save_table  # noqa: E402
from attriflow.study import plan_of  # noqa: E402

TARGET = ROOT / "docs/results/scale"
POINTS = (300, 3300, 33300)  # three jobs each
GROUPS = (20, 100)


def main():
    rows = []
    for points in POINTS:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(timed(Path(folder), points))
            print(rows[-1], file=sys.stderr)
    TARGET.mkdir(parents=True, exist_ok=True)
    save_table(TARGET / "scheduling.csv", pd.DataFrame(rows))
    (TARGET / "scheduling.made_by.txt").write_text(made_by("make scheduling"))


def timed(folder: Path, points: int) -> dict:
    """Jobs of a sweep, and processor seconds and MiB of planning them."""
    for name in ("Snakefile", "workflow", "src", "profiles", "envs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "config.yaml").write_text(yaml.safe_dump(sweep(points)))
    started = time.process_time()
    plan = plan_of(folder)
    planned = time.process_time() - started
    rules = pd.Series([job.rule for job in plan.jobs.values()])
    first, again = (dry_run(folder) for _ in range(2))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # the largest so far: sizes ascend
    grouped = rules.isin(["prepare", "score", "evaluate"])
    submitted = {
        f"cluster_jobs_{size}": int((-(-rules[grouped].value_counts() // size)).sum() + (~grouped).sum())
        for size in GROUPS
    }
    return {
        "jobs": len(plan.jobs), "plan_seconds": planned, "dry_run_seconds": first, "again_seconds": again,
        "peak_mib": peak, **submitted,
    }  # fmt: skip


def dry_run(folder: Path) -> float:
    """Processor seconds of `snakemake --dry-run`, which has one thread."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["snakemake", "--dry-run", "--quiet", "all"], cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def sweep(points: int) -> dict:
    """A config with so many costly points of LiSSA, a multiple of 100, on tiny digits."""
    many = points // 100
    return {
        "datasets": {"digits": {"train": 60, "test": 12}},
        "settings": {
            "digits_mlp": {
                "dataset": "digits",
                "model": {"kind": "mlp", "hidden": [8]},
                "recipe": {"learning_rate": 0.05, "batch_size": 16, "epochs": 2},
            }
        },
        "ground_truth": {"subsets": {"count": 6, "repeats": 2, "fraction": 0.5, "block": 3}},
        "ensembles": {"independent": {"count": 1, "sizes": [1], "block": 1}},
        "methods": {
            "influence_lissa": {
                "batch": 16,
                "damping": [1e-4 * 1.01**place for place in range(many)],
                "scale": [10.0 * (1 + place) for place in range(10)],
                "depth": [10 * (1 + place) for place in range(10)],
            }
        },
        "run": {"figures": ["lds_by_method"]},
    }


if __name__ == "__main__":
    main()
