"""Random scores: what a method must beat."""

from collections.abc import Iterable, Iterator

import numpy as np

from attriflow.data import Split
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.scores import running_mean


def prepare(member: Trained, split: Split) -> dict[str, np.ndarray]:
    """Standard normal numbers (n, m)."""
    shape = (len(split.train_y), len(split.test_y))
    return {"scores": member.stream("random").standard_normal(shape, np.float32)}


def memory(size: Size) -> int:
    """Bytes that `prepare` takes at work."""
    return 4 * size.n * size.m


def score(members: Iterable[dict[str, np.ndarray]]) -> Iterator[np.ndarray]:
    """Their mean over members, (n, m)."""
    return running_mean(member["scores"] for member in members)
