"""Run the fault drills and write docs/results/drills.csv: drill, outcome, seconds, message.

`make drill`, or `python drills/run.py [NAME]` for those whose name contains NAME; the table is then left as it is.
Exit status 1 where one fails. A drill that this machine does not allow is skipped, and the table says so.
"""

import importlib
import re
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "src"))
sys.path.insert(0, str(ROOT / "tests"))

from attriflow.io import save_table  # noqa: E402
from drills.harness import DRILLS, Drill, Place, SkippedError  # noqa: E402

RESULTS = ROOT / "docs/results/drills.csv"
HELPERS = ("__init__", "harness", "run", "server")


def main(name: str = "") -> int:
    """Run every drill whose name contains `name`; the exit status."""
    chosen = [each for each in load().values() if name in each.name]
    if not chosen:
        print(f"no drill's name contains '{name}'; known: {sorted(DRILLS)}")
        return 2
    rows = []
    with tempfile.TemporaryDirectory(prefix="attriflow-drills-") as folder:
        place = Place(Path(folder))
        for each in chosen:
            rows.append(attempt(each, place))
            print("{outcome:8}{seconds:6.1f} s  {drill}: {message}".format(**rows[-1]), flush=True)
    outcomes = [row["outcome"] for row in rows]
    print(", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in ("pass", "skipped", "fail")))
    if not name:
        save_table(RESULTS, pd.DataFrame(rows))
    return int("fail" in outcomes)


def load() -> dict[str, Drill]:
    """Every drill of the folder: first that of nothing going wrong."""
    topics = (path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in HELPERS)
    for topic in sorted(topics, key=lambda name: (name != "undisturbed", name)):
        importlib.import_module(f"drills.{topic}")
    return DRILLS


def attempt(drill: Drill, place: Place) -> dict:
    """A row of the table: what came of a drill."""
    started = time.monotonic()
    try:
        outcome, message = "pass", drill.function(place)
    except SkippedError as reason:
        outcome, message = "skipped", str(reason)
    except Exception as error:
        outcome, message = "fail", f"{type(error).__name__}: {error}"
    finally:
        place.clear()
    seconds = round(time.monotonic() - started, 1)
    return {"drill": drill.name, "outcome": outcome, "seconds": seconds, "message": told(message, place.folder)}


def told(message: str, folder: Path) -> str:
    """In one line, without folders, ports and addresses that are others each time; of a long one the end."""
    here = re.sub(rf"{re.escape(str(folder))}/copy-\d+(/?)", lambda found: "" if found[1] else ".", message)
    here = re.sub(r"(127\.0\.0\.1)(?::|', port=)\d+", r"\1", here)  # another port each time
    return " ".join(re.sub(r"\b0x[0-9a-f]+", "...", here).split())[-1500:]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
