"""After a run: drop result files that no study makes any more, and let DVC version the rest.

Refuses, and changes nothing, while a workflow runs here or while results of the default study are not up to date.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, "src")

from attriflow import specs
from attriflow.plan import Plan
from attriflow.registry import ROOMS
from attriflow.study import names, plan_of

ROOT = Path()


def main():
    refuse_while_running()
    default = plan_of(ROOT)
    specs.write(default)
    refuse_stale(default)
    prune([default, *(plan_of(ROOT, study) for study in names(ROOT))])
    subprocess.run(["dvc", "commit", "--force", "--quiet"], check=True)
    print(f"recorded {len(default.jobs)} jobs; now: git add dvc.lock, git commit, make push")


def refuse_while_running():
    """Snakemake's lock says that somebody may be writing."""
    if any(Path(".snakemake/locks").glob("*")):
        sys.exit("a workflow runs in this folder, or was killed: wait for it, or `make unlock`; nothing was recorded")


def refuse_stale(plan: Plan):
    """Everything must be there, made from its spec, and unaltered."""
    stale = [job.stem for job in plan.jobs.values() if not specs.up_to_date(job)]
    if stale:
        sys.exit(
            f"{len(stale)} jobs are not up to date ({stale[0]}, ...): run `make` first, or `make repro` where results "
            "are gone that nothing needs any more; nothing was recorded"
        )
    try:
        for job in plan.jobs.values():
            specs.verify(job)
    except ValueError as error:
        sys.exit(f"{error}; nothing was recorded")


def prune(plans: list[Plan]):
    """Remove the files of the rooms that no plan makes, and folders that are empty then."""
    kept = set().union(*(plan.files() for plan in plans))
    for room in ROOMS:
        every = sorted(Path("results", room).rglob("*"), reverse=True)
        for path in every:
            if path.is_file() and str(path) not in kept:
                print(f"removed {path}: no study makes it")
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()


if __name__ == "__main__":
    main()
