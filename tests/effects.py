"""Effects of measurements that are means over rows of known numbers."""

import numpy as np
import pandas as pd

from attriflow.intervals import Effects


def effects(table: pd.DataFrame, noise: np.ndarray) -> Effects:
    """Those of every value of a table, where rows (s) differ by noise (values, s) and test examples by nothing."""
    noise = noise - noise.mean(1, keepdims=True)
    each = [Effects.of(value, np.tile(value + own[:, None], 4)) for value, own in zip(table.value, noise, strict=True)]
    return Effects.stacked([one.projected(10**6, np.random.default_rng(0)) for one in each])
