"""Named random streams: every random number comes from the root seed and the name of the work it serves.

The order of jobs, their number, the size of a block or a new method therefore never change another's numbers.
"""

import hashlib
import json

import numpy as np


def digest(seed: int, *names: str | int | float) -> int:
    """A 256-bit number that belongs to this seed and name alone."""
    text = json.dumps([seed, *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")


def stream(seed: int, *names: str | int | float) -> np.random.Generator:
    """The random numbers of one piece of work, `stream(0, "ground_truth", "subsets", 3)`.

    >>> bool((stream(0, "a").random(3) == stream(0, "a").random(3)).all())
    True
    >>> bool((stream(0, "a").random(3) == stream(0, "b").random(3)).any())
    False
    """
    # SFC64 passes the PractRand battery and is numpy's fastest generator: dropout draws billions.
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(digest(seed, *names))))


def torch_seed(seed: int, *names: str | int | float) -> int:
    """The same idea for torch, whose generators take 64 bits."""
    return digest(seed, *names) % 2**63
