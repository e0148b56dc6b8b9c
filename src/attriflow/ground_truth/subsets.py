"""Retraining on random subsets: the ground truth of the linear datamodelling score.

Park et al. 2023, arXiv:2303.14186, definition of the LDS: s subsets of a fixed size, drawn uniformly.
"""

import numpy as np

from attriflow.hyperparameters import Fraction, PositiveInt
from attriflow.runs import Run


def runs(
    n: int, name: str, seed: int, *, count: PositiveInt, repeats: PositiveInt = 1, fraction: Fraction = 0.5
) -> dict[int, list[Run]]:
    """s = `count` subsets of `fraction` of the n training examples, each trained `repeats` times.

    A subset's examples depend on its number alone, so more subsets or repeats leave the others as they were.
    """
    if count < 2:
        raise ValueError(f"count: {count} subset; correlations over subsets need at least 2")
    # ASSUME: repeats of a subset differ in initial weights, order of examples and dropout masks, all of them.
    return {
        repeat: [
            Run(f"{name}/{subset}/{repeat}", subset=f"{name}/subset/{subset}", fraction=fraction)
            for subset in range(count)
        ]
        for repeat in range(repeats)
    }


def collect(runs: dict[int, list[Run]], outputs: dict[int, dict[str, np.ndarray]], n: int, seed: int) -> dict:
    """masks (s, n) bool; loss and margin (s, r, m) of the test examples."""
    arrays = {"masks": np.stack([run.mask(n, seed) for run in runs[0]])}
    for output in outputs[0]:
        arrays[output] = np.stack([outputs[repeat][output] for repeat in sorted(outputs)], axis=1)  # (s, r, m)
    return arrays
