r"""Gold scores of further training, and how well others agree with them.

Wei et al. 2025, arXiv:2412.03906. The gold score of example i for a test example is what leaving i out of further
training does to the test loss, $L(\theta_{-i}) - L(\theta)$ for one seed, then averaged over seeds; positive = helpful.
Two adjustments: `full_run` is this difference (eq. 17), `centred` subtracts from the losses the mean over left-out
examples instead (eq. 13), by which the full run cancels.

Shapes: l left-out examples, r seeds, a amounts of further training, m test examples.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from attriflow.intervals import NONE, of_statistic
from attriflow.io import expect_finite, expect_shape

ADJUSTMENTS = ("centred", "full_run")
METRICS = ("cosine", "pearson", "spearman")
BLOCKS = (1, 2, 5, 10, 20, 50, 100)  # seeds averaged at once; SOURCE: the authors' notebooks, figure of seeds

_NAMES = ["setting", "ensemble", "model_seed", "method"]
_CHOSEN = ["damping_rule"]
_MEASURED = [
    "truth", "estimator", "other", "other_estimator", "adjustment", "epochs", "steps", "rank", "seeds_averaged",
    "metric", "value", "mean", "sem", "low", "high", "tests", "constant", "unresolved", "below_resolution", "left_out",
    "seeds", "dropped_runs", "confidence",
]  # fmt: skip


def arranged(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of a table in their order: names, hyperparameters, measurements."""
    ordered = [name for name in _NAMES if name in table]
    ordered += hyperparameters(table)
    return table[ordered + [name for name in _CHOSEN + _MEASURED if name in table]]


def hyperparameters(table: pd.DataFrame) -> list[str]:
    """The columns that are hyperparameters of a method."""
    return [name for name in table.columns if name not in _NAMES + _CHOSEN + _MEASURED]


def named(hyperparameters: Mapping) -> dict:
    """Hyperparameters as columns: one that is called as a column of ours is of the method."""
    ours = {*_NAMES, *_CHOSEN[1:], *_MEASURED}
    return {f"{name}_of_method" if name in ours else name: value for name, value in hyperparameters.items()}


@dataclass(frozen=True)
class Gold:
    """Gold scores of one ground truth under one adjustment, (l, r, a, m), without what diverged.

    left_out (l,) indices; epochs, steps (a,): the amounts, NaN and 0 for training from scratch; resolution (a, m): what
    rounding makes of a score of one seed; dropped: runs that diverged.
    """

    scores: np.ndarray
    left_out: np.ndarray
    epochs: np.ndarray
    steps: np.ndarray
    resolution: np.ndarray
    dropped: int

    @property
    def seeds(self) -> int:
        """r"""
        return self.scores.shape[1]

    @cached_property
    def mean(self) -> np.ndarray:
        """Over seeds, (l, a, m)."""
        return self.scores.mean(1)

    @property
    def below(self) -> np.ndarray:
        """Which means are smaller than what rounding makes of them, (l, a, m)."""
        return np.abs(self.mean) < self.resolution / np.sqrt(self.seeds)

    @property
    def constant(self) -> np.ndarray:
        """Which test examples have the same score for all left-out examples, (a, m): they order nothing."""
        return np.ptp(self.mean, axis=0) == 0

    @property
    def unresolved(self) -> np.ndarray:
        """Which other test examples have no score above the resolution, (a, m)."""
        return self.below.all(0) & ~self.constant

    def among(self, others: np.ndarray, adjustment: str) -> "Gold":
        """The same, for these left-out examples alone, in their order; centred ones are centred anew."""
        places = np.array([np.flatnonzero(self.left_out == index)[0] for index in others])
        scores = self.scores[places]
        return replace(self, scores=_centred(scores) if adjustment == "centred" else scores, left_out=others)


def of_further_training(truth: Mapping[str, np.ndarray]) -> dict[str, Gold]:
    """Gold scores by adjustment, of the arrays that the ground_truth room keeps.

    Runs that diverged are left out so that every mean over left-out examples is over the same ones for all seeds: an
    example that diverges for more than half of the seeds goes, and then every seed for which anything else diverges.
    Raises ValueError where this leaves fewer than two examples or no seed.
    """
    loss, full = np.asarray(truth["loss"]), np.asarray(truth["full"])  # (l, r, a, m), (r, a, m)
    examples, seeds = kept(np.isnan(loss).any((2, 3)), np.isnan(full).any((1, 2)))
    common = {
        "left_out": np.asarray(truth["left_out"])[examples],
        "epochs": np.asarray(truth["amounts"]),
        "steps": np.asarray(truth["steps"]),
        "resolution": np.asarray(truth["resolution"]),
        "dropped": len(truth["dropped"]),
    }
    loss, full = loss[examples][:, seeds], full[seeds]
    expect_finite("losses of further training", loss)
    return {"centred": Gold(_centred(loss), **common), "full_run": Gold(loss - full, **common)}


def of_retraining(truth: Mapping[str, np.ndarray], left_out: np.ndarray) -> dict[str, Gold]:
    """The same of leave-one-out retraining from scratch, for these examples: one amount, which is no number of epochs.

    What rounding does to it is not known; its resolution is 0.
    """
    changes = np.asarray(truth["loss"])[:, :, None]  # (l, r, 1, m)
    expect_finite("changes of the loss by retraining", changes)
    common = {"epochs": np.array([np.nan]), "steps": np.array([0]), "dropped": 0}
    resolution = np.zeros((1, changes.shape[3]))
    found = Gold(changes, left_out=np.asarray(truth["left_out"]), resolution=resolution, **common)
    return {adjustment: found.among(left_out, adjustment) for adjustment in ADJUSTMENTS}


def kept(diverged: np.ndarray, full: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which examples (l,) and seeds (r,) remain, of runs (l, r) and full runs (r,) of which some diverged.

    >>> kept(np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]], bool), np.array([0, 0, 0], bool))
    (array([False,  True,  True,  True]), array([ True,  True, False]))
    """
    examples = diverged[:, ~full].mean(1) <= 0.5 if not full.all() else np.zeros(len(diverged), bool)
    seeds = ~full & ~diverged[examples].any(0)
    if examples.sum() < 2 or not seeds.any():
        raise ValueError(
            f"{diverged.sum()} of {diverged.size} runs without an example and {full.sum()} of {full.size} full runs of "
            f"further training diverged; too few are left to compare: lower its learning rate"
        )
    return examples, seeds


class Comparison:
    """How predictions (l, m) agree with gold scores, for each amount and test example, by one metric.

    Cosine, or Pearson's or Spearman's correlation, over left-out examples. Constant vectors, and gold scores that are
    nothing but rounding, agree with nothing: NaN.
    """

    def __init__(self, gold: Gold, metric: str):
        self.gold, self.metric = gold, metric
        self._undefined = gold.constant | gold.unresolved  # (a, m)
        self._every = np.full((1, gold.seeds), 1 / gold.seeds)
        self._lengths: dict[bytes, np.ndarray] = {}
        if metric == "spearman":
            self._target = _centred(rankdata(gold.mean, axis=0))
        else:
            self._each = gold.scores if metric == "cosine" else _centred(gold.scores)

    def __call__(self, predictions: np.ndarray) -> np.ndarray:
        """(a, m)"""
        if self.metric != "spearman":
            return self.of_seeds(predictions, self._every)[0]
        ranks = _centred(rankdata(predictions, axis=0))
        products = np.einsum("lam,lm->am", self._target, ranks)
        lengths = np.linalg.norm(self._target, axis=0) * np.linalg.norm(ranks, axis=0)
        return self._defined(products, lengths, predictions)

    def of_seeds(self, predictions: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The same for weighted means over seeds, weights (w, r): (w, a, m). Not for ranks."""
        predicted = predictions if self.metric == "cosine" else _centred(predictions)
        products = np.einsum("lram,lm->ram", self._each, predicted)
        products = np.tensordot(weights, products, 1)  # (w, a, m)
        lengths = self._lengths_of(weights) * np.linalg.norm(predicted, axis=0)
        return self._defined(products, lengths, predictions)

    @cached_property
    def _gram(self) -> np.ndarray:
        """Inner products of the gold scores of every two seeds, (a, r, r, m)."""
        return np.einsum("lram,lqam->arqm", self._each, self._each, optimize=True)

    def _lengths_of(self, weights: np.ndarray) -> np.ndarray:
        """Lengths of weighted means over seeds, (w, a, m)."""
        key = weights.tobytes()
        if key not in self._lengths:
            squares = [np.einsum("wr,rqm,wq->wm", weights, each, weights, optimize=True) for each in self._gram]
            self._lengths[key] = np.sqrt(np.stack(squares, 1).clip(min=0))
        return self._lengths[key]

    def _defined(self, products: np.ndarray, lengths: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        bad = self._undefined | (np.ptp(predictions, axis=0) == 0)
        return np.divide(products, lengths, out=np.full(products.shape, np.nan), where=~bad & (lengths > 0))


def measurements(
    gold: Mapping[str, Gold], predictions: np.ndarray, comparisons: Mapping, confidence: float
) -> Iterator[dict]:
    """Rows of predictions (l, m): the mean over test examples of every metric, for every adjustment and amount.

    comparisons: of `compare`. sem: standard error of the mean over test
    examples; low, high: ends of the interval of that mean over seeds, of metrics without ranks and several seeds.
    tests: how many it is a mean over; constant, unresolved: how many are left out, see `Gold`.
    """
    for (adjustment, metric), comparison in comparisons.items():
        each, of = comparison(predictions), gold[adjustment]
        intervals = _intervals(comparison, predictions, each, confidence)
        flat = np.ptp(predictions, axis=0) == 0
        for place, (epochs, steps) in enumerate(zip(of.epochs, of.steps, strict=True)):
            yield {
                "adjustment": adjustment,
                "epochs": epochs,
                "steps": int(steps),
                "metric": metric,
                **_mean(each[place]),
                "low": intervals[0][place],
                "high": intervals[1][place],
                "constant": int((of.constant[place] | flat).sum()),
                "unresolved": int((of.unresolved[place] & ~flat).sum()),
                "below_resolution": of.below[:, place].mean(),
                "left_out": len(of.left_out),
                "seeds": of.seeds,
                "dropped_runs": of.dropped,
                "confidence": confidence,
            }


def compare(gold: Mapping[str, Gold]) -> dict[tuple[str, str], Comparison]:
    """A comparison for every adjustment and metric."""
    return {
        (adjustment, metric): Comparison(gold[adjustment], metric) for adjustment in ADJUSTMENTS for metric in METRICS
    }


def _intervals(comparison: Comparison, predictions: np.ndarray, each: np.ndarray, confidence: float) -> np.ndarray:
    """low and high (2, a) of means over test examples, by the values without each of the seeds."""
    seeds = comparison.gold.seeds
    if comparison.metric == "spearman" or seeds == 1:
        return np.transpose([NONE] * len(each))
    without = (1 - np.eye(seeds)) / (seeds - 1)
    means = _over_tests(comparison.of_seeds(predictions, without)).T  # (a, r)
    pairs = zip(_over_tests(each), means, strict=True)
    return np.transpose([of_statistic(float(value), some, confidence) for value, some in pairs])


def _mean(values: np.ndarray) -> dict[str, float | int]:
    """Mean and standard error of what is defined, of values (m,)."""
    there = values[~np.isnan(values)]
    if not len(there):
        return {"mean": np.nan, "sem": np.nan, "tests": 0}
    sem = there.std(ddof=1) / np.sqrt(len(there)) if len(there) > 1 else np.nan
    return {"mean": there.mean(), "sem": sem, "tests": len(there)}


def _over_tests(values: np.ndarray) -> np.ndarray:
    """Mean over the test examples that are defined, (..., m) to (...); NaN where none is."""
    there = ~np.isnan(values)
    counts = there.sum(-1)
    sums = np.where(there, values, 0).sum(-1)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(0)


def by_seeds(gold: Mapping[str, Gold], predictions: np.ndarray, comparisons: Mapping) -> Iterator[dict]:
    """Rows of the peak of the cosine over amounts, against how many seeds the gold scores are averaged over.

    Means over blocks of so many seeds that do not overlap, and over test examples, then the highest of all amounts.
    """
    for adjustment in ADJUSTMENTS:
        of, comparison = gold[adjustment], comparisons[adjustment, "cosine"]
        for size in sorted({*(size for size in BLOCKS if size <= of.seeds), of.seeds}):
            weights = np.kron(np.eye(of.seeds // size, of.seeds // size), np.full((1, size), 1 / size))
            weights = np.pad(weights, ((0, 0), (0, of.seeds - weights.shape[1])))  # (blocks, r)
            means = _over_tests(comparison.of_seeds(predictions, weights)).mean(0)  # (a,)
            best = int(np.argmax(np.nan_to_num(means, nan=-np.inf)))
            described = {"adjustment": adjustment, "seeds_averaged": size, "metric": "cosine", "value": means[best]}
            yield described | {"epochs": of.epochs[best], "steps": int(of.steps[best]), "seeds": of.seeds}


def profile(values: np.ndarray) -> Iterator[dict]:
    """Rows of the sorted scores of values (l, m), divided by the largest absolute one: means over test examples."""
    largest = np.abs(values).max(0)
    ordered = -np.sort(-values[:, largest > 0], axis=0) / largest[largest > 0]
    for rank, row in enumerate(ordered, 1):
        yield {"rank": rank, **_mean(row)}


def agreement(first: Mapping[str, Gold], second: Mapping[str, Gold]) -> Iterator[dict]:
    """Rows of how two ground truths agree on the examples that both leave out, by every adjustment and metric.

    At the amounts that both have; with retraining from scratch, which has none, at every one.
    """
    common = np.intersect1d(first["centred"].left_out, second["centred"].left_out)
    if len(common) < 2:
        return
    for adjustment, metric in itertools.product(ADJUSTMENTS, METRICS):
        one, other = (truths[adjustment].among(common, adjustment) for truths in (first, second))
        comparison = Comparison(one, metric)
        for place, epochs in enumerate(other.epochs):
            each = comparison(other.mean[:, place])  # (a, m)
            each[:, (other.constant | other.unresolved)[place]] = np.nan
            for here in np.flatnonzero(np.isnan(epochs) | (one.epochs == epochs)):
                described = {"adjustment": adjustment, "epochs": one.epochs[here], "metric": metric}
                yield described | _mean(each[here]) | {"left_out": len(common), "seeds": one.seeds}


def noise(gold: Gold, adjustment: str) -> Iterator[dict]:
    """Rows of the variance over seeds of a score of one seed, over the mean square of the scores of all seeds.

    Means over left-out examples, then over test examples. NaN for a single seed.
    """
    size = np.square(gold.mean).mean(0)  # (a, m)
    variance = gold.scores.var(1, ddof=1).mean(0) if gold.seeds > 1 else np.full(size.shape, np.nan)
    bad = gold.constant | gold.unresolved
    ratio = np.divide(variance, size, out=np.full(size.shape, np.nan), where=~bad & (size > 0))
    for place, epochs in enumerate(gold.epochs):
        described = {"adjustment": adjustment, "epochs": epochs, "metric": "variance_of_a_seed"}
        yield described | _mean(ratio[place]) | {"left_out": len(gold.left_out), "seeds": gold.seeds}


def points(scores: Iterable[tuple[str, np.ndarray]], gold: Gold) -> Iterator[tuple[str, np.ndarray]]:
    """Name and predictions (l, m) of every array of scores (n, m)."""
    m = gold.scores.shape[3]
    for name, array in scores:
        expect_shape(f"scores {name}", array, (len(array), m), "training examples, test examples")
        if gold.left_out.max() >= len(array):
            raise ValueError(f"scores {name} are of {len(array)} examples; {gold.left_out.max()} was left out")
        predicted = np.asarray(array[gold.left_out], np.float64)
        expect_finite(f"scores {name}", predicted)
        yield name, predicted
