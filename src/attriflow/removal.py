"""The removal check: take out the training examples that scores name most helpful, retrain, and see what that changes.

Unlike a correlation over subsets this asks what a user of attribution acts on: the top of the ranking. Every removal is
compared with the training on all examples that shares its random stream, and with random removals of as many examples.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from attriflow import engine
from attriflow.data import Split
from attriflow.device import CPU, inputs, labels
from attriflow.intervals import mean, share
from attriflow.io import expect_finite
from attriflow.models import built
from attriflow.runs import Run
from attriflow.streams import stream
from attriflow.summary import best, gridded, lds_of_loss

BEST = "best"  # in place of a damping: that of the grid with the highest LDS
MEASURES = ("loss_change", "margin_change", "flipped")


@dataclass(frozen=True)
class Removal:
    """What is removed at once, and the test examples that this is about.

    described: columns of its rows. sets: indices of training examples, ascending; where there are several, each is
    removed by itself, and what they change is averaged. tests: places among the test examples.
    """

    described: dict
    sets: tuple[tuple[int, ...], ...]
    tests: tuple[int, ...]


# --- what to remove ------------------------------------------------------------------------------------------


def chosen(table: pd.DataFrame, dampings: list[tuple[str, float | str]]) -> pd.DataFrame:
    """For every choice of a damping and every method the row of its point with the highest LDS of the test loss.

    table: evaluation tables, with a column `asked`: the damping as the config has it. dampings: the name of a choice,
    and a damping as the config has it or BEST. Adds the column `choice`; method by method.
    Raises ValueError naming the methods that were not measured at a damping.
    """
    table = lds_of_loss(table)
    methods, found = list(table.method.unique()), []
    for choice, damping in dampings:
        rows = gridded(table) if damping == BEST else table[[asked == damping for asked in table.asked]]
        if missing := sorted(set(methods) - set(rows.method)):
            raise ValueError(f"removal: {missing} have no LDS at damping {damping}, which '{choice}' asks for")
        # ASSUME: the choices differ in their damping alone as far as they can: every other hyperparameter is the best
        # one at that damping, by the LDS on the subsets of the run.
        found.append(best(rows, ["method"]).assign(choice=choice))
    return pd.concat(found).sort_values("method", kind="stable", ignore_index=True)


def named(scores: np.ndarray, counts: list[int], described: dict) -> Iterator[Removal]:
    """The examples that scores (n, m) name most helpful: for each test example, and one set for all of them.

    Of equal scores the first examples. Raises ValueError for scores that are not finite.
    """
    # ASSUME: the paper's removal protocol is not known to us; we remove the examples of highest score, for each test
    # example by its own scores and once for all of them by their mean.
    scores = np.asarray(scores, np.float64)
    expect_finite(f"scores of {described.get('method', 'a method')}", scores)
    every = tuple(range(scores.shape[1]))
    for count in counts:
        for test in every:
            yield Removal(described | {"count": count, "scope": "test"}, (_top(scores[:, test], count),), (test,))
        yield Removal(described | {"count": count, "scope": "union"}, (_top(scores.mean(1), count),), every)


def drawn(n: int, tests: int, counts: list[int], seed: int, described: dict) -> Iterator[Removal]:
    """As many random sets of n examples as there are test examples; a larger count removes some more.

    They know of no test example, so both scopes compare with the same mean over all of them.
    """
    orders = [stream(seed, "removal", "random", draw).permutation(n) for draw in range(tests)]
    described = described | {"method": "random", "choice": "random"}
    for count in counts:
        sets = tuple(_sorted(order[:count]) for order in orders)
        for scope in ("test", "union"):
            yield Removal(described | {"count": count, "scope": scope}, sets, tuple(range(tests)))


def _top(scores: np.ndarray, count: int) -> tuple[int, ...]:
    return _sorted(np.argsort(-scores, kind="stable")[:count])


def _sorted(indices: np.ndarray) -> tuple[int, ...]:
    return tuple(sorted(indices.tolist()))


# --- what it changes -----------------------------------------------------------------------------------------


def distinct(removals: list[Removal]) -> list[tuple[int, ...]]:
    """Every set once, the empty one of the full model first: choices that name the same examples share a training."""
    return list(dict.fromkeys([(), *(each for removal in removals for each in removal.sets)]))


def runs(sets: list[tuple[int, ...]], repeats: int) -> list[Run]:
    """A training without each set, repeat after repeat; those of a repeat share their random stream."""
    # ASSUME: removed examples carry weight 0 in their batches, as those left out one by one; nothing is trained with
    # other batches or fewer steps than the full model.
    return [Run(f"removal/{repeat}", left_out=each) for repeat in range(repeats) for each in sets]


def outputs(
    build: Callable[[], nn.Module],
    split: Split,
    runs: list[Run],
    recipe: dict,
    seed: int,
    *,
    tests: int,
    device: torch.device = CPU,
    **options,
) -> dict[str, np.ndarray]:
    """What trained runs say of the first `tests` test examples: loss, margin (runs, tests), right (runs, tests, ...).

    `right` is whether the predicted class is the true one, at every position of a sequence. A regression has the loss
    alone. options: those of `engine.train`.
    """
    x, y, epochs, found = split.test_x[:tests], split.test_y[:tests], recipe["epochs"], []
    for trained in engine.train(build, split.train_x, split.train_y, runs, recipe, seed, device=device, **options):
        right = {} if split.regression else {"right": _right(build, trained, epochs, x, y, device)}
        found.append(engine.measure(build, trained.weights[epochs], x, y, device) | right)
    return {name: np.concatenate([each[name] for each in found]) for name in found[0]}


def _right(build, trained: engine.Trainings, epoch: int, x: np.ndarray, y: np.ndarray, device) -> np.ndarray:
    module = built(build).to(device).double().eval()
    x, y, found = inputs(module, x), labels(module, y), []
    with torch.no_grad():
        for index in range(len(trained.runs)):
            module.load_state_dict(trained.state(index, epoch))
            found.append((module(x).argmax(-1) == y).numpy(force=True))
    return np.stack(found)


def changes(outputs: dict[str, np.ndarray], repeats: int) -> dict[str, np.ndarray]:
    """Those of MEASURES (sets, tests) whose outputs, with rows `runs`, are there: against the full model of the same
    repeat.

    loss_change, margin_change: means over repeats. flipped: the share of right predictions of the full models that are
    wrong without the set, over repeats and positions; NaN where the full models are never right.
    """
    by_repeat = {name: values.reshape(repeats, -1, *values.shape[1:]) for name, values in outputs.items()}
    found = {
        f"{name}_change": (by_repeat[name] - by_repeat[name][:, :1]).mean(0)
        for name in ("loss", "margin")
        if name in by_repeat
    }  # (sets, tests)
    if "right" not in by_repeat:
        return found
    right = by_repeat["right"]
    full, axes = right[:, :1], (0, *range(3, right.ndim))  # repeats, and positions where there are any
    lost, there = (full & ~right).sum(axes), full.sum(axes)  # (sets, tests), (1, tests)
    found["flipped"] = np.divide(lost, there, out=np.full(lost.shape, np.nan), where=there > 0)
    return found


# --- tables --------------------------------------------------------------------------------------------------


def table(removals: list[Removal], changed: dict[str, np.ndarray]) -> pd.DataFrame:
    """A row a removal and test example, with what `changes` found."""
    places = {each: place for place, each in enumerate(distinct(removals))}
    rows = []
    for removal in removals:
        own = [places[each] for each in removal.sets]
        means = {name: values[own].mean(0) for name, values in changed.items()}  # (tests,)
        for test in removal.tests:
            rows.append(removal.described | {"test_index": test} | {name: means[name][test] for name in means})
    return pd.DataFrame(rows)


def summary(rows: pd.DataFrame, *, confidence: float) -> pd.DataFrame:
    """Means over test examples of those MEASURES that are there, between the ends of intervals over them."""
    by = [name for name in rows.columns if name not in ("test_index", *MEASURES)]
    found = []
    for place, group in rows.groupby(by, sort=False, dropna=False):
        for measure in rows.columns.intersection(MEASURES, sort=False):
            values = group[measure].dropna().to_numpy()
            described = dict(zip(by, place, strict=True)) | {"measure": measure}
            low, high = (share if measure == "flipped" else mean)(values, confidence)
            described |= {"value": values.mean() if len(values) else np.nan, "low": low, "high": high}
            found.append(described | {"test_examples": len(values), "confidence": confidence})
    return pd.DataFrame(found)
