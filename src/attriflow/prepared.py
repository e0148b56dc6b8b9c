"""What `prepare` made of an ensemble, member by member."""

from collections.abc import Iterable, Iterator

import numpy as np


def members(blocks: Iterable[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of each member, in order, from blocks that hold them as `<place>/<name>`."""
    for block in blocks:
        for place in range(len(block["seconds"])):
            yield {key.split("/", 1)[1]: array for key, array in block.items() if key.startswith(f"{place}/")}
