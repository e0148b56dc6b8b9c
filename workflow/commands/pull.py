"""Fetch the results of this commit from the DVC remote, and check each by the sum that it was made with.

What the remote lacks is named; the rest is kept. DVC does not look into what it fetches.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, "src")

from attriflow import specs
from attriflow.registry import ROOMS
from attriflow.study import plan_of


def main():
    if subprocess.run(["dvc", "pull"]).returncode:
        subprocess.run(["dvc", "checkout", "--allow-missing", "--quiet"])  # what came before it failed
    plan = plan_of(Path())
    missing = [f"results/{room}" for room in ROOMS if plan.room(room) and not Path("results", room).exists()]
    wrong = list(altered(job for job in plan.jobs.values() if specs.up_to_date(job)))
    if missing:
        wrong.append(
            f"{', '.join(missing)}: not fetched, DVC says why above. Once the remote is named, there and whole, "
            "`make pull` again; or `make repro`, which makes what is missing anew"
        )
    if wrong:
        sys.exit("\n".join(wrong))


def altered(jobs):
    """What is wrong with results, and the remedy, a line each."""
    for job in jobs:
        try:
            specs.verify(job)
        except ValueError as error:
            yield str(error)


if __name__ == "__main__":
    main()
