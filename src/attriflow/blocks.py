"""Blocks of a ground truth: what many jobs measured, put together."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attriflow.io import load_arrays


def joined(repeats: Sequence[int], paths: Sequence[Path]) -> dict[int, dict[str, np.ndarray]]:
    """Outputs of all runs of each repeat, {repeat: {name: (runs, ...)}}, from the blocks in which they were made."""
    blocks: dict[int, list] = {}
    for repeat, path in zip(repeats, paths, strict=True):
        blocks.setdefault(repeat, []).append(load_arrays(path))
    return {
        repeat: {name: np.concatenate([block[name] for block in found]) for name in found[0]}
        for repeat, found in blocks.items()
    }
