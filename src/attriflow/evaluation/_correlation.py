"""Correlations per test example, their means, and what rows (subsets, left-out examples) and test examples do to these.

Ranks are those of the codes of `ordered`: values that rounding alone tells apart are ties.
"""

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from scipy.stats import rankdata

from attriflow.intervals import LEAST_ROWS, LEAST_TESTS, Effects, unbent
from attriflow.io import expect_finite, expect_shape
from attriflow.streams import stream

# what training on a helpful example does to each output
HELPS = {"loss": -1, "margin": 1, "last_token_loss": -1}

_HELD = 2**22  # comparisons of two rows, of several test examples, that are held at once

EXACT = np.zeros(1)  # nothing that rounding made: a truth is as it was measured
Predictions = tuple[np.ndarray, np.ndarray]  # (rows, m), and what rounding may have made of them (m,)


def correlate(
    scores: Iterable[tuple[str, np.ndarray]],
    truth: dict[str, np.ndarray],
    predict: Callable[[str, np.ndarray], Predictions],
    *,
    sign: int,
    ranks: bool,
    seed: int,
    resamples: int,
    confidence: float,
) -> Iterator[dict]:
    """Rows (see `attriflow.evaluation`) for every named scores array (n, m), and every output that the truth holds.

    truth: outputs (rows, r, m), averaged over repeats; where they rise for what scores call helpful, `sign` is 1 for
    outputs of HELPS that rise. predict: name and scores to predictions. Test examples whose output is the same in all
    rows order nothing: they are left out and counted. Raises ValueError where none is left, and for what is not finite.
    """
    outputs = {output: sign * helps * np.asarray(truth[output]) for output, helps in HELPS.items() if output in truth}
    for output, values in outputs.items():
        expect_shape(f"{output} of the ground truth", values, outputs["loss"].shape, "rows, repeats, test examples")
        expect_finite(f"{output} of the ground truth", values)
    truths = {output: Truth(output, values, ranks=ranks) for output, values in outputs.items()}
    for point, array in scores:
        expect_finite(f"scores {point}", array)
        predictions = settled(*predict(point, np.asarray(array)), ranks=ranks)
        for output, each in truths.items():
            value, first, second = each.values(predictions[:, each.kept]).mean(1).tolist()
            pseudovalues = each.pseudovalues(predictions[:, each.kept])
            random = stream(seed, "evaluation", "projection", *pseudovalues.shape)
            effects = Effects.of(value, pseudovalues)
            low, high = effects.of_correlation(confidence)
            yield {
                "point": point,
                "output": output,
                "value": value,
                "low": low,
                "high": high,
                "first_half": first,
                "second_half": second,
                "ceiling": each.ceiling,
                "rows": len(pseudovalues),
                "test_examples": pseudovalues.shape[1],
                "constant": np.count_nonzero(~each.kept),
                "effects": effects.projected(resamples, random),
            }


# --- ties, and what is constant ------------------------------------------------------------------------------


def ordered(values: np.ndarray, rounding: np.ndarray) -> np.ndarray:
    """Values (rows, m) as the numbers 0, 1, ... of their order; neighbours no further apart than `rounding` (m,) share.

    >>> ordered(np.array([[0.3], [0.1 + 0.2], [0.2]]), np.array([1e-15])).T
    array([[1., 1., 0.]])
    """
    order = np.argsort(values, axis=0, kind="stable")
    steps = np.diff(np.take_along_axis(values, order, 0), axis=0, prepend=values.min(0, keepdims=True)) > rounding
    codes = np.empty(values.shape)
    np.put_along_axis(codes, order, np.cumsum(steps, axis=0, dtype=np.float64), 0)
    return codes


def settled(values: np.ndarray, rounding: np.ndarray, *, ranks: bool) -> np.ndarray:
    """Values (rows, m) without what rounding made: for ranks their order; else 0 where they are the same in all rows.

    Others are centred and divided by the largest, which changes no correlation: they may be 1e-300 or 1e300.
    """
    values = np.asarray(values, np.float64)
    if ranks:
        return ordered(values, rounding)
    middle = values - values.mean(0)
    largest = np.abs(middle).max(0)
    return np.divide(middle, largest, out=np.zeros_like(middle), where=np.ptp(values, axis=0) > rounding)


# --- correlations --------------------------------------------------------------------------------------------


class Truth:
    """One output of a ground truth (rows, r, m), to correlate predictions with over the rows.

    ranks: Spearman (ties get mean ranks) instead of Pearson. kept (m,): which test examples do not have the same in all
    rows; ceiling: see `ceiling`. Predictions (rows, kept) are as `settled` leaves them. One that is constant over the
    rows orders nothing and counts as correlation 0.
    """

    def __init__(self, name: str, outputs: np.ndarray, *, ranks: bool):
        means = settled(outputs.mean(1, dtype=np.float64), EXACT, ranks=ranks)
        self.kept = np.ptp(means, axis=0) > 0
        if not self.kept.any():
            raise ValueError(
                f"{name} is the same in all {len(means)} rows for each of {len(self.kept)} test examples; it can be "
                f"correlated with nothing: train for more epochs, on smaller subsets, or take another output"
            )
        if not self.kept.all():
            left = np.flatnonzero(~self.kept)
            print(f"{name} of {len(left)} of {len(self.kept)} test examples, the first being {left[0]}, is the same in "
                  f"all {len(means)} rows: they order nothing and are left out", file=sys.stderr)  # fmt: skip
        if len(means) < LEAST_ROWS or self.kept.sum() < LEAST_TESTS:
            few = f"{len(means)} rows and {self.kept.sum()} test examples"
            print(f"{name}: no interval of {few}; it takes {LEAST_ROWS} and {LEAST_TESTS}", file=sys.stderr)
        self._ranks, self._means = ranks, means[:, self.kept]
        self._parts = [slice(None), slice(0, None, 2), slice(1, None, 2)]  # all rows, and two halves
        self._whole = [self._standard(part) for part in self._of_parts(self._means)]
        self.ceiling = ceiling(outputs[:, :, self.kept], ranks=ranks)

    def values(self, predictions: np.ndarray) -> np.ndarray:
        """The correlation of every test example (3, kept): on all rows, the even ones, the odd ones."""
        pairs = zip(self._of_parts(predictions), self._whole, strict=True)
        return np.stack([np.einsum("sm,sm->m", self._standard(part), truth) for part, truth in pairs])

    def pseudovalues(self, predictions: np.ndarray) -> np.ndarray:
        """The jackknife's, (rows, kept): s times the correlation less s - 1 times that without the row."""
        rows = len(predictions)
        without = without_each_rank if self._ranks else without_each
        every = np.einsum("sm,sm->m", self._standard(predictions), self._whole[0])
        return rows * every - (rows - 1) * without(predictions, self._means)

    def _of_parts(self, values: np.ndarray) -> list[np.ndarray]:
        return [values[part] for part in self._parts]

    def _standard(self, values: np.ndarray) -> np.ndarray:
        return standard(rankdata(values, axis=0) if self._ranks and len(values) else values)


def standard(values: np.ndarray) -> np.ndarray:
    """Values (rows, m) as vectors of length 1 whose inner products are correlations; 0 where they are constant."""
    centred = values - values.mean(0) if len(values) else values
    length = np.sqrt(np.square(centred).sum(0))
    # ASSUME: a score that is constant over the subsets orders nothing and counts as correlation 0.
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-12)


def without_each(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's correlations of two arrays (rows, m) without each of the rows, (rows, m)."""
    one, other = standard(one), standard(other)
    factor = len(one) / (len(one) - 1)  # what is left of a sum of squares about the mean of the others
    lengths = (1 - factor * np.square(one)) * (1 - factor * np.square(other))
    products = np.einsum("sm,sm->m", one, other) - factor * one * other
    return _ratios(products, lengths, lengths > 1e-12)


def without_each_rank(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    r"""Spearman's correlations of two arrays (rows, m) without each of the rows, (rows, m).

    With the signs $g_{ij}$ of $v_j - v_i$ the centred rank of j is $a_j = \frac{1}{2} \sum_i g_{ij}$, and without i it
    is $a_j - g_{ij} / 2$: the product of ranks without a row is a sum of four, ties included.
    """
    rows, m = one.shape
    number = np.float32 if rows < 4000 else np.float64  # sums reach rows^2 and have to be exact
    step, products = max(1, _HELD // rows**2), np.empty((rows, m))
    for start in range(0, m, step):
        chunk = slice(start, start + step)
        products[:, chunk] = _products(*(_signs(each[:, chunk].T.astype(number)) for each in (one, other))).T
    squares = _squares_without(one) * _squares_without(other)
    return _ratios(products, squares, squares > 0)


def _signs(values: np.ndarray) -> np.ndarray:
    """[i, j]: the sign of value j less value i, (m, rows, rows)."""
    return np.sign(values[:, None, :] - values[:, :, None])


def _products(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Four times the inner products of centred ranks without each row, (m, rows), from signs."""
    a, b = first.sum(1), second.sum(1)  # twice the centred ranks, (m, rows)
    across = np.matmul(second, a[:, :, None])[:, :, 0] + np.matmul(first, b[:, :, None])[:, :, 0]
    both = np.einsum("mij,mij->mi", first, second)
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1, keepdims=True) - a * b - across + both


def _squares_without(values: np.ndarray) -> np.ndarray:
    """Four times the squared lengths of centred ranks without each row, (rows, m), from the sizes of groups of ties.

    Kendall 1948, Rank Correlation Methods, section 3.8: n numbers have (n^3 - n - sum of t^3 - t over groups) / 3.
    """
    ties = rankdata(values, "max", axis=0) - rankdata(values, "min", axis=0) + 1  # of the group of each row
    others, cubes = len(values) - 1, np.square(ties) - 1  # summed over rows: t^3 - t over groups
    own = ties**3 - ties - (ties - 1) ** 3 + ties - 1  # what the group loses with the row
    return (others**3 - others - cubes.sum(0) + own) / 3


def _ratios(products: np.ndarray, squares: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Products over the root of squares; 0 elsewhere."""
    roots = np.sqrt(squares, where=where, out=np.ones_like(squares))
    return np.divide(products, roots, out=np.zeros_like(products), where=where)


# --- what repeats allow --------------------------------------------------------------------------------------


def ceiling(outputs: np.ndarray, *, ranks: bool) -> float:
    r"""The most that a noiseless prediction could reach against the mean of r repeats, outputs (rows, r, m).

    The reliability $\rho$ of one repeat is the mean correlation between two; Spearman and Brown (1910) give that of the
    mean of r, $r \rho / (1 + (r - 1) \rho)$, whose root bounds the correlation of the truth itself with the
    measurement. Few rows make $\rho$ too small, and its error makes the root too small: the jackknife takes off the
    one, `intervals.unbent` the other. Spearman and Brown is of Pearson's correlations: ranks are translated there and
    back as for normal outputs, $2 \sin(\pi \rho / 6)$ (Pearson 1907). NaN for a single repeat or fewer than 5 rows.
    """
    rows, r, _ = outputs.shape
    if r == 1 or rows < LEAST_ROWS:
        return float("nan")
    repeats = [settled(outputs[:, repeat], EXACT, ranks=ranks) for repeat in range(r)]
    pairs = [_pair(*pair, ranks=ranks) for pair in itertools.combinations(repeats, 2)]
    pseudovalues = np.mean(pairs, axis=0)  # (rows, m)
    if pseudovalues.shape[1] == 1:
        variance = float(pseudovalues.var(ddof=1)) / rows
    else:
        variance, _ = Effects.of(0.0, pseudovalues).variance()
    return float(np.clip(unbent(lambda each: _most(each, r, ranks), float(pseudovalues.mean()), variance), 0, 1))


def _pair(one: np.ndarray, other: np.ndarray, *, ranks: bool) -> np.ndarray:
    """Pseudo-values of the correlation of two repeats, (rows, m); one that is constant agrees with nothing."""
    rows = len(one)
    without = without_each_rank if ranks else without_each
    each = (standard(rankdata(values, axis=0) if ranks else values) for values in (one, other))
    return rows * np.einsum("sm,sm->m", *each) - (rows - 1) * without(one, other)


def _most(single: np.ndarray, r: int, ranks: bool) -> np.ndarray:
    """The ceiling for reliabilities of one repeat."""
    single = np.clip(single, 0, 1)
    linear = 2 * np.sin(np.pi * single / 6) if ranks else single
    found = np.sqrt(r * linear / (1 + (r - 1) * linear))
    return 6 / np.pi * np.arcsin(found / 2) if ranks else found
