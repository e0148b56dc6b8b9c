"""Tables and arrays of two runs, compared but for what tells time."""

from pathlib import Path

import numpy as np
import pandas as pd

# columns and arrays that hold seconds, memory, or what follows from them
_TIMED = ("seconds", "cpu_seconds", "peak_mib", "costs", "serving")


def same_tables(one: Path, other: Path):
    """Assert that two project folders hold the same scores and measurements."""
    folders = [folder / "results" for folder in (one, other)]
    names = [sorted(str(path.relative_to(folder)) for path in _compared(folder)) for folder in folders]
    assert names[0] == names[1] != []
    for name in names[0]:
        if name.endswith(".csv"):
            left, right = (_untimed(pd.read_csv(folder / name)) for folder in folders)
            pd.testing.assert_frame_equal(left, right)
        else:
            with np.load(folders[0] / name) as left, np.load(folders[1] / name) as right:
                assert set(left.files) == set(right.files)
                for array in set(left.files) - set(_TIMED):
                    np.testing.assert_array_equal(left[array], right[array], err_msg=f"{name}: {array}")


def _compared(folder: Path) -> list[Path]:
    return [path for room in ("scores", "evaluation") for path in (folder / room).rglob("*.*") if _compares(path)]


def _compares(path: Path) -> bool:
    return path.suffix in (".csv", ".npz") and "costs" not in path.name


def _untimed(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=[name for name in table if "seconds" in name or "mib" in name])
