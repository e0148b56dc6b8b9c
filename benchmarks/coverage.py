"""How often 95 % intervals hold a known truth, and how far the noise ceiling is off: the table of docs/method.md.

    python benchmarks/coverage.py [experiments]     # 300 of each scenario unless said otherwise; a minute or two

All data are drawn here. Training examples have effects on a test example's output that are normal, and scores are these
with an error; outputs of a subset are the sum of its effects and noise, part of which may be common to all test
examples. The truth is what many subsets and test examples give.
"""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

import numpy as np
from scipy.stats import rankdata

from attriflow import gold, intervals, mislabel, paired
from attriflow.evaluation import lds, leave_one_out
from attriflow.evaluation._correlation import standard
from attriflow.intervals import Effects

CONFIDENCE = 0.95
_TRAINING = 40  # examples
_OPTIONS = {"seed": 0, "resamples": 300, "confidence": CONFIDENCE}


@dataclass(frozen=True)
class Result:
    """Of a scenario: the truth, the mean estimate, the share of intervals that hold the truth, and their mean width."""

    kind: str
    scenario: str
    truth: float
    estimate: float
    coverage: float
    width: float


@dataclass(frozen=True)
class Design:
    """s subsets (or left-out examples), r repeats, m test examples; noise and the error of scores in units of effects.

    common: the share of the noise's variance that all test examples have together; heavy: noise of Student's t with 3
    degrees of freedom; alike: the share of the effects' and errors' variance that all test examples have together.
    """

    s: int
    r: int
    m: int
    noise: float
    error: float
    common: float = 0.0
    heavy: bool = False
    alike: float = 0.0

    def draw(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Masks (s, n), two arrays of scores (n, m), the second with half of the error, and losses (s, r, m)."""
        fixed = np.random.default_rng(0).standard_normal((2, _TRAINING, 1))
        effects, error = np.sqrt(self.alike) * fixed + np.sqrt(1 - self.alike) * random.standard_normal(
            (2, _TRAINING, self.m)
        )
        masks = np.argsort(random.random((self.s, _TRAINING)), axis=1) < _TRAINING // 2
        shape = (self.s, self.r, self.m)
        own = random.standard_t(3, shape) / np.sqrt(3) if self.heavy else random.standard_normal(shape)
        noise = np.sqrt(1 - self.common) * own
        noise += np.sqrt(self.common) * random.standard_normal((self.s, self.r, 1))
        signal = (masks @ effects)[:, None]
        losses = -(signal + self.noise * np.sqrt(_TRAINING / 4) * noise)
        return masks, effects + self.error * error, effects + self.error / 2 * error, losses

    @property
    def words(self) -> str:
        changed = [f"alike={self.alike:g}"] * bool(self.alike) + ["heavy"] * self.heavy
        named = f"s={self.s} r={self.r} m={self.m} noise={self.noise:g} error={self.error:g} common={self.common:g}"
        return " ".join([named, *changed])


def _truths(design: Design, ranks: bool) -> tuple[float, float]:
    """The mean correlation of both arrays of scores with the outputs of many subsets and test examples."""
    found, random = [], np.random.default_rng(1)
    for _ in range(16):
        masks, first, second, losses = replace(design, s=1500, m=100).draw(random)
        outputs = -losses.mean(1)
        each = (standard(rankdata(masks @ array, axis=0) if ranks else masks @ array) for array in (first, second))
        measured = standard(rankdata(outputs, axis=0) if ranks else outputs)
        found.append([(array * measured).sum(0).mean() for array in each])
    return tuple(np.mean(found, axis=0))


def of_correlations(design: Design, count: int, *, left_out: bool = False) -> Iterator[Result]:
    """The interval of an LDS, or of a leave-one-out correlation, and that of the difference of two."""
    first, second = _truths(design, ranks=not left_out)
    rows, random = [], np.random.default_rng(2)
    for _ in range(count):
        masks, *scores, losses = design.draw(random)
        if left_out:  # rows are left-out examples: a score each, and the change of the loss
            truth = {"left_out": np.arange(design.s), "loss": -losses}
            scores, metric = [masks @ array for array in scores], leave_one_out
        else:
            truth, metric = {"masks": masks, "loss": losses}, lds
        one, other = metric.evaluate(zip("ab", scores, strict=True), truth, **_OPTIONS)
        lost = paired.lost(Effects.stacked([one["effects"], other["effects"]]), 0, 1, CONFIDENCE)
        rows.append([one["value"], one["low"], one["high"], other["value"] - one["value"], *lost])
    kind = "leave-one-out" if left_out else "LDS"
    yield _result(kind, design.words, first, np.array(rows)[:, :3])
    yield _result(f"difference of {kind}", design.words, second - first, np.array(rows)[:, 3:])


def of_areas(kind: str, shift: float, flipped: int, n: int, count: int) -> Result:
    """The interval of the AUC with which so many flipped labels are found."""
    draw: Callable = {
        "normal": lambda random, *shape: random.standard_normal(shape),
        "t, 3 degrees": lambda random, *shape: random.standard_t(3, shape),
        "rounded": lambda random, *shape: np.round(random.standard_normal(shape)),
    }[kind]
    random = np.random.default_rng([3, flipped, n, int(10 * shift)])
    truth = mislabel.placements(draw(random, 10**6) + shift, draw(random, 10**6)).mean()
    wrong, rows = np.arange(n) < flipped, []
    for _ in range(count):
        found = mislabel.detection(draw(random, n) + shift * wrong, wrong, CONFIDENCE)
        rows.append([found["auc"], found["low"], found["high"]])
    return _result("AUC", f"{kind}, shift {shift:g}, {flipped} of {n} flipped", float(truth), np.array(rows))


SAMPLES: dict[str, tuple[Callable, Callable, float]] = {
    "normal": (intervals.mean, lambda random, n: random.standard_normal(n), 0.0),
    "t, 3 degrees": (intervals.mean, lambda random, n: random.standard_t(3, n), 0.0),
    "exponential": (intervals.mean, lambda random, n: random.exponential(size=n), 1.0),
    "share .2": (intervals.share, lambda random, n: (random.random(n) < 0.2) * 1.0, 0.2),
    "share .5, halves": (intervals.share, lambda random, n: random.integers(0, 3, n) / 2, 0.5),
    "median": (intervals.median, lambda random, n: random.standard_t(1, n), 0.0),
}


def of_samples(name: str, n: int, count: int) -> Result:
    """The interval over n test examples, as the tables of removals, of the theory and of the mechanism have it."""
    interval, draw, truth = SAMPLES[name]
    random, rows = np.random.default_rng([4, n, list(SAMPLES).index(name)]), []
    for _ in range(count):
        values = draw(random, n)
        rows.append([np.median(values) if name == "median" else values.mean(), *interval(values, CONFIDENCE)])
    return _result("one sample", f"{name}, {n}", truth, np.array(rows))


def of_seeds(seeds: int, metric: str, noise: float, count: int) -> Result:
    """The interval over seeds of further training; the truth is the mean over experiments of as many seeds."""
    random, l, m = np.random.default_rng(5), 12, 8  # noqa: E741
    signal = random.standard_normal((l, 1, 1, m))
    predictions = signal[:, 0, 0] + random.standard_normal((l, m))
    common = {"left_out": np.arange(l), "amounts": np.ones(1), "steps": np.ones(1), "dropped": np.zeros(0)}
    common |= {"resolution": np.zeros((1, m)), "full": np.zeros((seeds, 1, m))}
    rows = []
    for experiment in range(10 * count):  # most for the truth alone
        arrays = common | {"loss": signal + noise * random.standard_normal((l, seeds, 1, m))}
        truths = gold.of_further_training(arrays)
        if experiment >= count:
            rows.append([gold.Comparison(truths["centred"], metric)(predictions).mean(), np.nan, np.nan])
            continue
        found = gold.measurements(truths, predictions, gold.compare(truths), CONFIDENCE)
        row = next(row for row in found if (row["adjustment"], row["metric"]) == ("centred", metric))
        rows.append([row["mean"], row["low"], row["high"]])
    truth = float(np.mean([value for value, *_ in rows]))
    return _result("further training", f"{metric}, {seeds} seeds, noise {noise:g}", truth, np.array(rows[:count]))


def _result(kind: str, scenario: str, truth: float, rows: np.ndarray) -> Result:
    """rows: value, low and high of every experiment, (experiments, 3)."""
    value, low, high = rows.T
    held = (low <= truth) & (truth <= high)
    return Result(kind, scenario, truth, float(value.mean()), float(held.mean()), float((high - low).mean()))


DESIGNS = (
    Design(50, 2, 20, 1.0, 1.0),
    Design(50, 2, 20, 1.0, 1.0, common=0.8),
    Design(20, 2, 10, 2.0, 2.0, common=0.5),
    Design(100, 5, 20, 3.0, 0.3, common=0.2),
    Design(50, 2, 20, 0.5, 0.2),
    Design(10, 2, 10, 1.0, 0.3, common=0.5),
    Design(50, 2, 20, 2.0, 0.5, common=0.5, heavy=True),
    Design(30, 1, 5, 1.0, 1.0, common=0.3),
    Design(50, 2, 20, 1.0, 1.0, common=0.5, alike=0.5),
    Design(50, 1, 100, 2.0, 1.0, common=0.2),
)
LEFT_OUT = (
    Design(20, 2, 10, 1.0, 0.5, common=0.3),
    Design(50, 1, 20, 1.0, 1.0, common=0.3, heavy=True),
    Design(100, 1, 5, 2.0, 0.5, common=0.9),
)
AREAS = tuple(
    (kind, shift, flipped, n)
    for kind, shift in (("normal", 0.5), ("normal", 1.5), ("t, 3 degrees", 1.5), ("rounded", 1.0))
    for flipped, n in ((5, 100), (10, 100), (20, 200), (50, 1000))
)


def results(count: int) -> Iterator[Result]:
    """Every scenario."""
    for design in DESIGNS:
        yield from of_correlations(design, count)
    for design in LEFT_OUT:
        yield from of_correlations(design, count, left_out=True)
    for area in AREAS:
        yield of_areas(*area, count)
    for name in SAMPLES:
        for n in (20, 100):
            yield of_samples(name, n, count)
    for metric in ("cosine", "pearson"):
        for seeds, noise in ((5, 1.0), (20, 2.0)):
            yield of_seeds(seeds, metric, noise, count)


# --- the noise ceiling ---------------------------------------------------------------------------------------


def ceilings(design: Design, count: int) -> Result:
    """The ceiling, whose truth is the correlation of the effects themselves with the outputs; it has no interval."""
    perfect = replace(design, error=0.0)
    truth, _ = _truths(perfect, ranks=True)
    random, rows = np.random.default_rng(6), []
    for _ in range(count):
        masks, scores, _, losses = perfect.draw(random)
        row = next(lds.evaluate([("a", scores)], {"masks": masks, "loss": losses}, **_OPTIONS))
        rows.append([row["ceiling"], np.nan, np.nan])
    return _result("noise ceiling", design.words, truth, np.array(rows))


CEILINGS = (
    Design(20, 2, 10, 2.0, 0.0, common=0.5),
    Design(20, 2, 20, 1.0, 0.0, common=0.5),
    Design(20, 3, 10, 2.0, 0.0, common=0.5),
    Design(50, 2, 20, 2.0, 0.0, common=0.5, heavy=True),
    Design(100, 5, 20, 3.0, 0.0, common=0.2),
    Design(10, 2, 10, 1.0, 0.0, common=0.5),
)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    print("| | scenario | truth | mean | coverage | width |\n|---|---|---|---|---|---|")
    held: dict[str, list[float]] = {}
    for found in results(count):
        held.setdefault(found.kind, []).append(found.coverage)
        numbers = f"{found.truth:.3f} | {found.estimate:.3f} | {found.coverage:.3f} | {found.width:.3f}"
        print(f"| {found.kind} | {found.scenario} | {numbers} |", flush=True)
    for design in CEILINGS:
        found = ceilings(design, count)
        print(f"| {found.kind} | {found.scenario} | {found.truth:.3f} | {found.estimate:.3f} | | |", flush=True)
    print("\n| | scenarios | least | mean | most |\n|---|---|---|---|---|")
    for kind, shares in held.items():
        print(f"| {kind} | {len(shares)} | {min(shares):.3f} | {np.mean(shares):.3f} | {max(shares):.3f} |")
