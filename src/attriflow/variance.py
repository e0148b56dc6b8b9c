r"""How far the mean of an ensemble is from the mean of many models: predicted from pairs of members, and measured.

Deng, Li, Zhang and Ma, arXiv:2405.17293, in their version with theory; the equation is our derivation from notes on it.
Let e be the error of one member's scores. Of K models with D changes each, with $\sigma^2$ the mean square of e, $c_w$
the mean product of the errors of two changes of one model, and $c_b$ that of two models, the mean of all has the
squared error
$$\frac{1}{K} \Big[ \frac{\sigma^2}{D} + \Big( 1 - \frac{1}{D} \Big) c_w \Big] + \Big( 1 - \frac{1}{K} \Big) c_b.$$
On the members that the three numbers are taken from it holds on average whatever the errors are; so they are taken from
one half of the models, and the error is measured on the other. Products are not centred: what is wrong in the same way
in all members is in $c_b$, with the reference's own error.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from attriflow.intervals import mean
from attriflow.io import expect_finite, expect_shape

MOST_BYTES = 256 * 2**20  # of the errors of all members, float32


@dataclass(frozen=True)
class Moments:
    r"""$\sigma^2$, $c_w$ and $c_b$: numbers, or an array each; `within` is NaN where no model has two changes."""

    single: np.ndarray
    within: np.ndarray
    between: np.ndarray

    @classmethod
    def of(cls, products: np.ndarray) -> "Moments":
        """From mean products of errors (..., K, D, K, D). Raises ValueError for fewer than two models."""
        models, changes = products.shape[-4], products.shape[-3]
        if models < 2:
            raise ValueError(f"{models} model: errors of two models have no product; expected at least 2")
        of_models = np.einsum("...idje->...ij", products)  # sums over changes
        own = np.einsum("...ii->...", of_models)
        single = np.einsum("...idid->...", products)
        pairs = changes * (changes - 1) * models
        within = (own - single) / pairs if pairs else np.full(np.shape(single), np.nan)
        between = (of_models.sum((-2, -1)) - own) / (models * (models - 1) * changes**2)
        return cls(single / (models * changes), within, between)

    def predicted(self, models: int, changes: int) -> np.ndarray:
        """The squared error of the mean of so many models with so many changes each."""
        own = self.single if changes == 1 else self.single / changes + (1 - 1 / changes) * self.within
        return own / models + (1 - 1 / models) * self.between


def measured(products: np.ndarray, models: int, changes: int) -> np.ndarray:
    """The squared error of the mean of `models` neighbouring models with their first changes, (rotations, ...).

    products (..., K, D, K, D). Neighbours are taken in a circle, so that every model counts as often as any other; all
    of them make one rotation.
    """
    count = products.shape[-4]
    some = np.einsum("...idje->...ij", products[..., :changes, :, :changes]) / changes**2
    starts = range(count if models < count else 1)
    return np.stack([_mean_square(some, [(start + each) % count for each in range(models)]) for start in starts])


def _mean_square(products: np.ndarray, places: list[int]) -> np.ndarray:
    return products[..., places, :][..., places].mean((-2, -1))


def kept(n: int, m: int, members: int) -> np.ndarray:
    """The test examples that are looked at: all m, or as many as fit, evenly spaced."""
    most = max(1, MOST_BYTES // (4 * n * members))
    return np.arange(m) if m <= most else np.linspace(0, m - 1, most).astype(int)


def reference(scores: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The mean (n, m) of the scores of members, centred, and its own squared error (m,) as their spread says.

    In units of its variance over the training examples. Raises ValueError for fewer than two members, and for a test
    example whose mean scores are all the same.
    """
    total, squares, count = 0.0, 0.0, 0
    for array in scores:
        array = _centred(array)
        total, squares, count = total + array, squares + np.square(array).mean(0), count + 1
    if count < 2:
        raise ValueError(f"a reference of {count} members has no known error; expected at least 2")
    mean = total / count
    power = np.square(mean).mean(0)
    if (power == 0).any():
        raise ValueError(f"test example {int(np.argmax(power == 0))}: mean scores are the same for all examples")
    return mean, (squares / count - power) / (count - 1) / power


def products(scores: Iterable[np.ndarray], mean: np.ndarray, models: int, changes: int) -> np.ndarray:
    """Mean products over training examples of the errors of all members, (m, K, D, K, D), from scores (n, m) each.

    Members come model by model. Errors are those from `mean` (n, m) in units of its standard deviation over training
    examples, which are centred: subsets of one size cannot tell scores that differ by a constant. Raises ValueError for
    another number of members.
    """
    n, m = mean.shape
    errors = np.empty((models * changes, n, m), np.float32)
    deviation, count = np.sqrt(np.square(mean).mean(0)), 0
    for array in scores:
        if count == len(errors):
            raise ValueError(f"more members than {models} models with {changes} changes")
        expect_shape("scores", array, (n, m), "training examples, test examples")
        expect_finite("scores", array)
        errors[count] = (_centred(array) - mean) / deviation
        count += 1
    if count < len(errors):
        raise ValueError(f"{count} members, expected {models} models with {changes} changes")
    each = (errors[:, :, test] for test in range(m))
    return np.stack([(one @ one.T / n).reshape(models, changes, models, changes) for one in each]).astype(np.float64)


def _centred(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    return scores - scores.mean(0)


def table(products: np.ndarray, *, confidence: float) -> Iterator[dict]:
    r"""A row for each half of the models, number of them and of changes: what the other half predicts, and what is so.

    products (m, K, D, K, D), as above; models of even number are one half. half: the one that is measured. predicted,
    measured: means over test examples, with intervals over these; least, most: of the choices of models of
    which `measured` is the mean. single, within, between: $\sigma^2$, $c_w$, $c_b$ of the other half. gain: how much
    more changes of the same models help, $(1 - 1/D)(\sigma^2 - c_w) / K$; excess: by how much as many models would be
    better, $(D - 1)(c_w - c_b) / (KD)$. Raises ValueError for fewer than four models.
    """
    m, models, changes = products.shape[:3]
    if models < 4:
        raise ValueError(f"{models} models leave a half with one, which has no c_b; expected at least 4")
    halves = [products[:, half::2, :, half::2] for half in (0, 1)]
    for half in (0, 1):
        moments, here = Moments.of(halves[1 - half]), halves[half]  # of every test example
        for count in range(1, here.shape[1] + 1):
            for number in _numbers(changes):
                found = measured(here, count, number)  # (rotations, m)
                row = {"half": half, "models": count, "per_model": number}
                for name, values in (("predicted", moments.predicted(count, number)), ("measured", found.mean(0))):
                    ends = mean(values, confidence)
                    row |= {name: values.mean(), f"{name}_low": ends[0], f"{name}_high": ends[1]}
                row |= {"least": found.mean(1).min(), "most": found.mean(1).max()}
                single, within, between = (each.mean() for each in (moments.single, moments.within, moments.between))
                row |= {"single": single, "within": within, "between": between}
                row["gain"] = (1 - 1 / number) * (single - within) / count if number > 1 else 0.0
                row["excess"] = (number - 1) * (within - between) / (count * number) if number > 1 else 0.0
                yield row | {"test_examples": m, "confidence": confidence}


def _numbers(changes: int) -> list[int]:
    """Numbers of changes, a few a decade, up to all of them."""
    return sorted({each for each in (1, 2, 3, 5, 10, 15, 25, 50, 100) if each < changes} | {changes})
