"""Send recorded results to the DVC remote, or fetch those of this commit: `make push`, `make pull`.

Further arguments go to DVC, such as the rooms to fetch.
"""

import shutil
import subprocess
import sys
from pathlib import Path


def main(verb: str, *arguments: str):
    if problem := missing(arguments):
        sys.exit(f"{verb}: {problem}")
    sent = subprocess.run(["dvc", verb, *arguments]).returncode
    if sent == 0 and verb == "pull":
        sys.exit(subprocess.run(["snakemake", "--dry-run"]).returncode)
    sys.exit(sent)


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


if __name__ == "__main__":
    main(*sys.argv[1:])
