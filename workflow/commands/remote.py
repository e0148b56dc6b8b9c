"""Send recorded results to the DVC remote, or fetch those of this commit: `make push`, `make pull`.

Further arguments go to DVC, such as the rooms to fetch. What was fetched is checked by the sums that it was made with,
into which DVC does not look; what the remote lacks is named, and the rest is kept.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, "src")

from attriflow import specs
from attriflow.registry import ROOMS
from attriflow.study import plan_of


def main(verb: str, *arguments: str):
    if problem := missing(arguments):
        sys.exit(f"{verb}: {problem}")
    failed = subprocess.run(["dvc", verb, *arguments]).returncode
    if verb == "push":
        sys.exit(failed)
    if failed:
        subprocess.run(["dvc", "checkout", "--allow-missing", "--quiet"])  # what came before it failed
    if wrong := list(wrong_results(every_room=not arguments)):
        sys.exit("\n".join(wrong))
    sys.exit(failed or subprocess.run(["snakemake", "--dry-run"]).returncode)


def missing(arguments: tuple[str, ...]) -> str | None:
    """What there must be and is not, with what to do; None where all is there."""
    if shutil.which("dvc") is None:
        return "DVC is not installed; everything can be made without it (`make`), to move results: pip install dvc"
    if subprocess.run(["git", "rev-parse", "--git-dir"], capture_output=True).returncode:
        return "this folder is no git repository, by whose commits results are versioned; clone one, or `git init`"
    if not Path("dvc.lock").exists():
        return "dvc.lock is missing, so this commit has recorded no results; `make`, then `make record` and commit it"
    named = subprocess.run(["dvc", "config", "core.remote"], capture_output=True, text=True).stdout.strip()
    if not named and not {"-r", "--remote"}.intersection(arguments):
        return "no remote is named; once: dvc remote add --default --local store <folder, s3://... or ssh://...>"
    return None


def wrong_results(*, every_room: bool) -> Iterator[str]:
    """What is wrong with results, and the remedy, a line each; whether every room must be there."""
    plan = plan_of(Path())
    for job in plan.jobs.values():
        if specs.up_to_date(job):
            try:
                specs.verify(job)
            except ValueError as error:
                yield str(error)
    absent = [f"results/{room}" for room in ROOMS if plan.room(room) and not Path("results", room).exists()]
    if every_room and absent:
        yield (
            f"{', '.join(absent)}: not fetched, DVC says why above. Once the remote is there and whole, `make pull` "
            "again; or `make repro`, which makes what is missing anew"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
