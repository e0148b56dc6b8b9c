"""Tables of numbers in spreadsheets: columns of features, and one that is the target of a regression."""

from pathlib import Path

import numpy as np
import pandas as pd

from attriflow.data import Raw


def regression(path: Path, *, names: tuple[str, ...], target: int, examples: int) -> Raw:
    """The first columns of a sheet as features (N, d) under our `names`, and column `target` as labels (N,).

    Raises ValueError naming the file if it does not hold so many rows of numbers.
    """
    table = pd.read_excel(path, engine="calamine")  # .xls and .xlsx
    numbers = table.iloc[:, [*range(len(names)), target]].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    gaps = int(np.isnan(numbers).any(1).sum())
    if len(numbers) != examples or gaps:
        raise ValueError(
            f"{path}: {len(numbers)} rows, {gaps} of them without a number; expected {examples} of numbers"
        )
    return Raw(numbers[:, :-1].astype(np.float32), numbers[:, -1].astype(np.float32), features=True, names=names)
