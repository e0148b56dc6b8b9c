"""What `prepare` made, member by member, from the blocks of an ensemble."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from attriflow.io import load_arrays


def members(blocks: list[Path], count: int) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of the first `count` members, one member after the other, mapped from their files."""

    def every():
        for path in blocks:
            block = load_arrays(path)
            for place in range(len(block["seconds"])):
                yield {key.split("/", 1)[1]: array for key, array in block.items() if key.startswith(f"{place}/")}

    return islice(every(), count)


def seconds(blocks: list[Path]) -> np.ndarray:
    """What preparing the first 1, 2, ... members took."""
    return np.cumsum(np.concatenate([load_arrays(path)["seconds"] for path in blocks]))
