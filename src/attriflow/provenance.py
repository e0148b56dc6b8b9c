"""What a result was made from: the `*.made.json` beside it, with its spec, its outputs' sums and its cost."""

import hashlib
import json
from pathlib import Path

from attriflow.io import save_json


def text(spec: dict) -> str:
    """A spec as its file holds it."""
    return json.dumps(spec, indent=1, sort_keys=True) + "\n"


def digest(spec: dict) -> str:
    """What identifies a spec."""
    return hashlib.sha256(text(spec).encode()).hexdigest()


def write(path: Path, spec: dict, outputs: dict[str, Path], cost: dict[str, float]):
    """Say what the outputs were made from, their sums and sizes, and what making them cost."""
    described = {name: {"sha256": sha256(each), "bytes": each.stat().st_size} for name, each in outputs.items()}
    save_json(path, {"spec": spec, "outputs": described, "cost": cost})


def read(path: Path) -> dict | None:
    """What a result says of itself, or None where it says nothing that can be read."""
    try:
        made = json.loads(Path(path).read_text())
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return made if isinstance(made, dict) and made.keys() == {"spec", "outputs", "cost"} else None


def verify(path: Path, made_path: Path, expected: str):
    """Raise ValueError unless the file is the one that the expected spec (its digest) made, byte for byte."""
    made = read(made_path)
    remedy = f"delete {made_path} and run again"
    if made is None:
        raise ValueError(f"{path}: {made_path} is missing or unreadable, so nothing says what made it; {remedy}")
    if digest(made["spec"]) != expected:
        raise ValueError(f"{path} was made from another spec than this job was planned with; run again")
    name = next((name for name, each in made["spec"]["outputs"].items() if each == str(path)), None)
    if name is None or not Path(path).exists():
        raise ValueError(f"{path} is missing; {remedy}")
    if sha256(path) != made["outputs"][name]["sha256"]:
        raise ValueError(f"{path} was altered after it was made (its SHA-256 is another); {remedy}")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
