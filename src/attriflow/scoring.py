"""An ensemble's scores or self-influence at one hyperparameter point, whose damping is a number or a rule's choice."""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from attriflow.hyperparameters import RULES, point_name
from attriflow.precision import written
from attriflow.sizes import EnsembleSize

Members = Callable[[EnsembleSize], Iterator[dict[str, np.ndarray]]]
Score = Callable[..., Iterator[np.ndarray]]


def scored(
    score: Score, members: Members, point: dict, sizes: list[EnsembleSize], selection: dict, method: str = "scores"
) -> Iterator[tuple[EnsembleSize, np.ndarray, float]]:
    """For each ensemble size the scores (n, m) and the damping that they were made with, NaN where there is none.

    score: a method's `score`, or its `self_influence`, which gives (n,). members: the prepared members of a size.
    selection: what `attriflow.selection` chose, a mapping of rules to dampings by the name of a point. A size for which
    a rule chose none has no scores: nothing stands in for it. Sizes with as many members of each model come from one
    pass over the largest of them. Every method's scores leave through here: in float32, where its range holds them,
    and finite, or ValueError naming the method, the point and the examples.
    """
    for size, found, damping in _scored(score, members, point, sizes, selection):
        yield size, expect_numbers(np.asarray(found), f"{method} at {described(point, size, damping)}"), damping


def described(point: dict, size: EnsembleSize, damping: float) -> str:
    """A point as one reads it, with the damping that a rule chose."""
    used = point | {"damping": damping} if "damping" in point else point
    return ", ".join([*(f"{key} {value}" for key, value in used.items()), f"ensemble of {size.written}"])


def expect_numbers(scores: np.ndarray, what: str) -> np.ndarray:
    """Scores (n, m), or self-influence (n,), as they are saved. Raises ValueError where one is no number."""
    bad = np.argwhere(~np.isfinite(scores))
    if len(bad):
        training, *test = bad[0].tolist()
        where = f"training example {training}" + (f" and test example {test[0]}" if test else "")
        raise ValueError(
            f"{what}: {len(bad)} of {scores.size} scores are not finite, the first of {where} "
            f"({scores[tuple(bad[0])]}); look at what the model gives at these examples (a loss or gradient that is "
            f"infinite, or too large to square), use a larger damping, or `dtype: float64`"
        )
    return written(scores)


def _scored(
    score: Score, members: Members, point: dict, sizes: list[EnsembleSize], selection: dict
) -> Iterator[tuple[EnsembleSize, np.ndarray, float]]:
    if point.get("damping") in RULES:
        for size in sizes:
            damping = chosen(selection, point, size)[point["damping"]]["damping"]
            if damping is not None:
                every = score(members(size), **point | {"damping": damping})
                (found,) = islice(every, size.members - 1, size.members)
                yield size, found, damping
        return
    for per_model in dict.fromkeys(size.per_model for size in sizes):
        wanted = {size.members: size for size in sizes if size.per_model == per_model}
        for count, found in enumerate(score(members(max(wanted.values())), **point), 1):
            if count in wanted:
                yield wanted[count], found, point.get("damping", np.nan)


def resolved(point: dict, damping: float) -> dict:
    """A point with the damping that was used, and the rule that chose it, '' where the point says it itself."""
    if point.get("damping") in RULES:
        return point | {"damping": damping, "damping_rule": point["damping"]}
    return point | {"damping_rule": ""}


def chosen(selection: dict, point: dict, size: EnsembleSize) -> dict[str, dict]:
    """What every rule chose at a point for an ensemble of this size, see `selection.by_every_rule`."""
    named = {"ensemble_size": size.written} | {key: point[key] for key in selection["takes"]}
    return selection["chosen"][point_name(named)]
