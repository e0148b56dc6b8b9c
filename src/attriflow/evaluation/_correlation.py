"""Correlations per test example with bootstrap intervals, over rows (subsets, left-out examples) and test examples."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from attriflow.io import expect_finite
from attriflow.streams import stream

# what training on a helpful example does to each output
HELPS = {"loss": -1, "margin": 1, "last_token_loss": -1}

_CHUNK = 32  # test examples whose resampled ranks are held at once


@dataclass(frozen=True)
class Resamples:
    """How often each row (resamples, rows) and test example (resamples, m) is drawn in each resample."""

    rows: np.ndarray
    tests: np.ndarray

    @classmethod
    def draw(cls, seed: int, count: int, rows: int, m: int) -> "Resamples":
        """Bootstrap resamples, the same for every score that is compared on the same truth."""
        random = stream(seed, "evaluation", "bootstrap", rows, m)
        return cls(
            random.multinomial(rows, np.full(rows, 1 / rows), count).astype(np.float32),
            random.multinomial(m, np.full(m, 1 / m), count).astype(np.float32),
        )


def correlate(
    scores: Iterable[tuple[str, np.ndarray]],
    truth: dict[str, np.ndarray],
    predict: Callable[[str, np.ndarray], np.ndarray],
    *,
    sign: int,
    ranks: bool,
    seed: int,
    resamples: int,
    confidence: float,
) -> Iterator[dict]:
    """Rows (see `attriflow.evaluation`) for every named scores array (n, m), and every output that the truth holds.

    truth: outputs (rows, r, m), averaged over repeats; where they rise for what scores call helpful, `sign` is 1 for
    outputs of HELPS that rise. predict: name and scores to predictions (rows, m).
    """
    outputs = {output: sign * helps * np.asarray(truth[output]) for output, helps in HELPS.items() if output in truth}
    for output, values in outputs.items():
        expect_finite(f"{output} of the ground truth", values)
    rows, _, m = outputs["loss"].shape
    drawn = Resamples.draw(seed, resamples, rows, m)
    measure = Correlations({output: values.mean(1) for output, values in outputs.items()}, drawn, ranks=ranks)
    ceilings = {output: ceiling(values, ranks=ranks) for output, values in outputs.items()}
    for point, array in scores:
        expect_finite(f"scores {point}", array)
        for output, found in measure(predict(point, np.asarray(array)), confidence).items():
            yield {
                "point": point,
                "output": output,
                "ceiling": ceilings[output],
                "rows": rows,
                "test_examples": m,
            } | found


class Correlations:
    """Means over test examples of the correlations, over rows, of predictions with measured truths (rows, m).

    ranks: Spearman (ties get mean ranks) instead of Pearson. A prediction that is constant over the rows orders
    nothing and counts as correlation 0; a truth that is constant is refused with its name and test example.
    """

    def __init__(self, truths: dict[str, np.ndarray], resamples: Resamples, *, ranks: bool):
        for name, truth in truths.items():
            constant = np.flatnonzero(np.ptp(truth, axis=0) == 0)
            if len(constant):
                raise ValueError(
                    f"{name} of test example {constant[0]} is the same in all {len(truth)} rows; "
                    f"it can be correlated with nothing"
                )
        self._resamples, self._ranks = resamples, ranks
        rows = np.arange(len(resamples.rows[0]))
        self._parts = np.stack([rows >= 0, rows % 2 == 0, rows % 2 == 1]).astype(np.float32)  # all, and two halves
        self._whole = {name: self._standard(truth, self._parts) for name, truth in truths.items()}
        self._resampled = {
            name: [self._standard(chunk, resamples.rows) for chunk in _chunks(truth)] for name, truth in truths.items()
        }

    def each(self, predictions: np.ndarray) -> dict[str, np.ndarray]:
        """The correlation of every test example with each truth (3, m): on all rows, the even ones, the odd ones."""
        predicted = self._standard(predictions, self._parts)
        return {name: np.einsum("mbs,mbs->bm", predicted, truth) for name, truth in self._whole.items()}

    def __call__(self, predictions: np.ndarray, confidence: float) -> dict[str, dict[str, float | np.ndarray]]:
        """For each truth the value, those of both halves, low and high, the ends of its bootstrap interval, and the
        resampled values that it is made of.
        """
        per_test: dict[str, list[np.ndarray]] = {name: [] for name in self._resampled}
        for place, chunk in enumerate(_chunks(predictions)):
            predicted = self._standard(chunk, self._resamples.rows)
            for name, found in per_test.items():
                found.append(np.einsum("mbs,mbs->bm", predicted, self._resampled[name][place]))
        tests, ends = self._resamples.tests, [(1 - confidence) / 2, (1 + confidence) / 2]
        described = {}
        for name, values in self.each(predictions).items():
            value, first, second = values.mean(1).tolist()
            means = (np.concatenate(per_test[name], axis=1) * tests).sum(1) / tests.sum(1)  # (resamples,)
            # resampled rank correlations are smaller on average, by about 3 (rho - tau) / (rows + 1): centre them
            # ASSUME: papers that give intervals resample one thing; both rows and test examples are resampled here.
            resampled = (means + value - means.mean()).astype(np.float32)
            low, high = np.quantile(resampled, ends).tolist()
            described[name] = {"value": value, "low": low, "high": high, "first_half": first, "second_half": second}
            described[name]["resampled"] = resampled
        return described

    def _standard(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Values (rows, m) as weighted vectors of length 1 whose inner products are correlations, (m, resamples, rows).

        The mean rank of row j among rows drawn w_k times is sum_k w_k ([v_k < v_j] + [v_k = v_j] / 2) + 1/2: one
        matrix product ranks every resample, ties included.
        """
        columns = np.asarray(values, np.float64).T  # (m, rows)
        if self._ranks:
            row, column = columns[:, :, None], columns[:, None, :]
            below = (row < column) + 0.5 * (row == column)  # (m, k, j)
            spread = weights @ below.astype(np.float32)  # (m, resamples, rows)
        else:
            centred = columns - columns.mean(1, keepdims=True)  # in float64: these may be small changes of large losses
            scale = np.abs(centred).max(1, keepdims=True)
            unit = np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 0).astype(np.float32)
            spread = np.broadcast_to(unit[:, None, :], (len(unit), *weights.shape))
        total = weights.sum(1, keepdims=True)
        centred = (spread - (spread * weights).sum(-1, keepdims=True) / total) * np.sqrt(weights)
        length = np.sqrt(np.square(centred).sum(-1, keepdims=True))
        # ASSUME: a score that is constant over the subsets orders nothing and counts as correlation 0.
        return np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-5)


def ceiling(outputs: np.ndarray, *, ranks: bool) -> float:
    """The most that a noiseless prediction could reach against the mean of r repeats, outputs (rows, r, m).

    The reliability of one repeat is the mean correlation between two; Spearman-Brown gives that of the mean of r,
    and its square root bounds the correlation of the truth itself with the measurement. NaN for a single repeat.
    """
    r = outputs.shape[1]
    if r == 1:
        return float("nan")
    once = Resamples(np.ones((1, len(outputs)), np.float32), np.ones((1, outputs.shape[2]), np.float32))
    repeats = Correlations({f"repeat {repeat}": outputs[:, repeat] for repeat in range(r)}, once, ranks=ranks)
    found = [repeats.each(outputs[:, repeat]) for repeat in range(r)]
    single = np.mean([found[first][f"repeat {second}"][0].mean() for first in range(r) for second in range(first)])
    return float(np.sqrt(max(0.0, r * single / (1 + (r - 1) * single))))


def _chunks(values: np.ndarray) -> list[np.ndarray]:
    return [values[:, start : start + _CHUNK] for start in range(0, values.shape[1], _CHUNK)]
