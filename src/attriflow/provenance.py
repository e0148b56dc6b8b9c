"""What a result was made from: the `*.made.json` beside it.

It holds the spec, the sums of the outputs and of the inputs that they were made from, where that was, and its cost.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path

from attriflow.io import replacing

_END = "\n}\n"  # of a made file
_SUM = ',\n "sum": "'  # between what it says and the SHA-256 of that, so that reading it is to check it


def text(spec: dict) -> str:
    """A spec as its file holds it."""
    return json.dumps(spec, indent=1, sort_keys=True) + "\n"


def digest(spec: dict) -> str:
    """What identifies a spec."""
    return hashlib.sha256(text(spec).encode()).hexdigest()


def write(
    path: Path,
    spec: dict,
    outputs: dict[str, Path],
    cost: dict[str, float],
    *,
    inputs: dict[str, str] | None = None,
    machine: dict | None = None,
):
    """Say what the outputs were made from, where, their sums and sizes, and what it cost; and the sum of all that.

    inputs: file -> SHA-256; machine: what may change bytes and is no part of a spec.
    """
    described = {name: {"sha256": sha256(each), "bytes": each.stat().st_size} for name, each in outputs.items()}
    content = {"spec": spec, "outputs": described, "inputs": inputs or {}, "machine": machine or {}, "cost": cost}
    said = text(content).removesuffix(_END)
    with replacing(path) as partial:
        partial.write_text(f"{said}{_SUM}{_sum(said)}")


def withdraw(path: Path):
    """Take a record away, for good, before the first of the outputs that it describes is replaced."""
    if not path.exists():
        return
    path.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems do not know this of folders
            os.fsync(folder)
    finally:
        os.close(folder)


def read(path: Path) -> dict | None:
    """What a result says of itself, or None where it says nothing, or not what was written."""
    try:
        said, _, found = Path(path).read_text().rpartition(_SUM)
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return json.loads(said + _END) if found == _sum(said) else None


def _sum(said: str) -> str:
    return f'{hashlib.sha256(said.encode()).hexdigest()}"{_END}'


def of_jobs(entries: list[dict]) -> list[dict]:
    """What jobs say of themselves, from the entries of an input of a spec. The files that they made are not read.

    Raises ValueError for a job that was done from another spec.
    """
    found = [(entry, read(Path(entry["made"]))) for entry in entries]
    for entry, each in found:
        if each is None or digest(each["spec"]) != entry["spec"]:
            raise ValueError(
                f"{entry['made']} is missing, altered or of another spec than this job was planned with; run again"
            )
    return [each for _, each in found]


def recorded(entries: list[dict]) -> dict[str, str]:
    """File -> SHA-256 of inputs, from the entries of a spec, as their records say; without those that say nothing."""
    records = {made: read(Path(made)) for made in {entry["made"] for entry in entries}}
    return {
        entry["path"]: sum_of(record, entry["path"])
        for entry in entries
        if (record := records[entry["made"]]) is not None
    }


def sum_of(record: dict, path: str) -> str | None:
    """The SHA-256 that a record has of an output, None where it has none."""
    name = next((name for name, each in record["spec"]["outputs"].items() if each == path), None)
    return record["outputs"].get(name, {}).get("sha256")


def verify(path: Path, made_path: Path, expected: str) -> str:
    """The SHA-256 of a file, as its record has it.

    Raises ValueError unless it is the one that the expected spec (its digest) made, byte for byte.
    """
    made = read(made_path)
    remedy = f"delete {made_path} and run again"
    if made is None:
        raise ValueError(f"{path}: {made_path} is missing or altered, so nothing says what made it; {remedy}")
    if digest(made["spec"]) != expected:
        raise ValueError(f"{path} was made from another spec than this job was planned with; run again")
    written = sum_of(made, str(path))
    if written is None or not Path(path).exists():
        raise ValueError(f"{path} is missing; {remedy}")
    if sha256(path) != written:
        raise ValueError(f"{path} was altered after it was made (its SHA-256 is another); {remedy}")
    return written


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
