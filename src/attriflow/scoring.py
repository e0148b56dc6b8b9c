"""An ensemble's scores or self-influence at one hyperparameter point, whose damping is a number or a rule's choice."""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from attriflow.hyperparameters import RULES, point_name

Members = Callable[[int], Iterator[dict[str, np.ndarray]]]
Score = Callable[..., Iterator[np.ndarray]]


def scored(
    score: Score, members: Members, point: dict, sizes: list[int], selection: dict
) -> Iterator[tuple[int, np.ndarray, float]]:
    """For each ensemble size the scores (n, m) and the damping that they were made with, NaN where there is none.

    score: a method's `score`, or its `self_influence`, which gives (n,). members: the first so many prepared members.
    selection: what `attriflow.selection` chose, a mapping of rules to dampings by the name of a point. A size for which
    a rule chose none has no scores: nothing stands in for it.
    """
    if point.get("damping") in RULES:
        for size in sizes:
            damping = chosen(selection, point, size)[point["damping"]]["damping"]
            if damping is not None:
                (found,) = islice(score(members(size), **point | {"damping": damping}), size - 1, size)
                yield size, found, damping
        return
    for size, found in enumerate(score(members(max(sizes)), **point), 1):
        if size in sizes:
            yield size, found, point.get("damping", np.nan)


def resolved(point: dict, damping: float) -> dict:
    """A point with the damping that was used, and the rule that chose it, '' where the point says it itself."""
    if point.get("damping") in RULES:
        return point | {"damping": damping, "damping_rule": point["damping"]}
    return point | {"damping_rule": ""}


def chosen(selection: dict, point: dict, size: int) -> dict[str, dict]:
    """What every rule chose at a point for an ensemble of this size, see `selection.by_every_rule`."""
    return selection["chosen"][point_name({"ensemble_size": size} | {key: point[key] for key in selection["takes"]})]
