"""Send recorded results to the DVC remote, or fetch those of this commit: `make push`, `make pull`.

Further arguments go to DVC, such as the rooms to fetch. What was fetched is checked by the sums that it was made with,
into which DVC does not look; what the remote lacks is named, and the rest is kept.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, "src")

import folders
import versioning
from planned import planned

from attriflow.registry import ROOMS


def main(verb: str, *arguments: str):
    if problem := versioning.missing() or unnamed(arguments):
        sys.exit(f"{verb}: {problem}")
    failed = versioning.dvc(verb, *arguments)
    if verb == "push":
        sys.exit(failed)
    if failed:
        versioning.dvc("checkout", "--allow-missing", "--quiet")  # what came before it failed
    wrong = [line for record in versioning.records() for line in versioning.wrong_results(record)]
    wrong += [] if arguments else absent_rooms()
    if wrong:
        sys.exit("\n".join(wrong))
    looked = subprocess.run(["snakemake", "--dry-run"], env=os.environ | folders.usable_caches())
    sys.exit(failed or looked.returncode)


def unnamed(arguments: tuple[str, ...]) -> str | None:
    """What there must be to move results, and is not, with what to do; None where all is there."""
    if not Path("dvc.lock").exists():
        return "dvc.lock is missing, so this commit has recorded no results; `make`, then `make record` and commit it"
    named = subprocess.run(["dvc", "config", "core.remote"], capture_output=True, text=True).stdout.strip()
    if not named and not {"-r", "--remote"}.intersection(arguments):
        return "no remote is named; once: dvc remote add --default --local store <folder, s3://... or ssh://...>"
    return None


def absent_rooms() -> Iterator[str]:
    """A line with the remedy where rooms of the default study did not come."""
    plan = planned()
    if absent := [f"results/{room}" for room in ROOMS if plan.room(room) and not Path("results", room).exists()]:
        yield (
            f"{', '.join(absent)}: not fetched, DVC says why above. Once the remote is there and whole, `make pull` "
            "again; or `make repro`, which makes what is missing anew"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
