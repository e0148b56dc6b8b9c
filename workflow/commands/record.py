"""After a run: drop result files that no study makes any more, and let DVC version the rest.

Refuses, and changes nothing, while a workflow runs here; while results of the default study are not all up to date, or
those of another study that lie here; and where any is not, byte for byte, what its record says.
"""

import sys
from pathlib import Path

sys.path.insert(0, "src")

import folders
import versioning

from attriflow import specs
from attriflow.config import ConfigError
from attriflow.plan import Plan
from attriflow.registry import ROOMS


def main():
    refuse(versioning.missing())
    try:
        folders.expect_folders()
        refuse_while_running()
        plans = versioning.plans()
        specs.write(plans["default"])
        refuse_unfinished(plans["default"])
        refuse_stale(plans)
        kept = set().union(*(plan.files() for plan in plans.values()))
        refuse_altered(kept)
        prune(kept)
    except ConfigError as error:
        refuse("; ".join(error.errors))
    except OSError as error:
        refuse(str(error) if error.filename else error.strerror or str(error))
    if versioning.dvc("commit", "--force", "--quiet"):
        refuse("DVC says above why it could not; mend that and record again")
    print(f"recorded {len(plans['default'].jobs)} jobs; now: git add dvc.lock, git commit, make push")


def refuse(reason: str | None):
    """End with one line, where there is a reason to."""
    if reason:
        sys.exit(f"record: {reason}; nothing was recorded")


def refuse_while_running():
    """Snakemake's lock says that somebody may be writing."""
    if any(Path(".snakemake/locks").glob("*")):
        refuse("a workflow runs in this folder, or was killed: wait for it, or `make unlock`")


def refuse_unfinished(default: Plan):
    """All of the default study must be there and made from its specs."""
    if stale := [job.stem for job in default.jobs.values() if not specs.up_to_date(job)]:
        refuse(
            f"{len(stale)} jobs are not up to date ({stale[0]}, ...): run `make` first, or `make repro` where results "
            "are gone that nothing needs any more"
        )


def refuse_stale(plans: dict[str, Plan]):
    """What lies here of other studies must be made from the specs of one of them; they need not be whole."""
    jobs = {study: [job for job in plan.jobs.values() if begun(job)] for study, plan in plans.items()}
    current = {job.stem for each in jobs.values() for job in each if specs.up_to_date(job)}
    for study, each in jobs.items():
        if stale := [job.stem for job in each if job.stem not in current]:
            refuse(
                f"{len(stale)} results of study '{study}' are not up to date ({stale[0]}, ...): run "
                f"`make study NAME={study}` first (if that makes those of another study stale, they need other names), "
                f"or remove studies/{study}.yaml, which drops its results"
            )


def begun(job) -> bool:
    """Whether any file of a job is there."""
    return any(Path(path).exists() for path in (job.made, *map(job.path, job.outputs)))


def refuse_altered(kept: set[str]):
    """What is recorded must be what was made."""
    for record in versioning.records():
        if str(record) in kept:
            refuse(next(versioning.wrong_results(record), None))


def prune(kept: set[str]):
    """Remove the files of the rooms that no study makes, and folders that are empty then."""
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
