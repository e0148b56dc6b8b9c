r"""KNN-Shapley: the exact Shapley values of training examples for K nearest neighbours.

Jia et al. 2019, arXiv:1908.08619, theorem 1. With the training examples ordered by their distance to a test example,
nearest first, and matches $c_i = [y_i = y_{test}]$,
$$s_n = c_n / n, \quad s_i = s_{i+1} + \frac{c_i - c_{i+1}}{K} \frac{\min(K, i)}{i}.$$
A regression (their section 4) predicts $\frac1K \sum y$ over the nearest, 0 from nobody: the mean of standardised
targets. The values share the fall of the squared error of that. With $M_i = \min(K, i)$ and
$d_l = M_{l-1} (M_{l-1} - 1) / (2 (l-1)(l-2))$,
$$s_i = s_{i+1} + \frac{y_{i+1} - y_i}{K} \Big[ \frac{M_i}{i} \Big( \frac{y_i + y_{i+1}}{K} - 2 y_{test} \Big)
+ \frac2K \Big( d_{i+1} \sum_{l < i} y_l + \sum_{l > i+1} d_l y_l \Big) \Big],$$
$$s_n = -\frac{y_n}{K} \Big[ \frac{M_n}{n} \Big( \frac{y_n}{K} - 2 y_{test} \Big)
+ \frac2K \frac{M_n (M_n - 1)}{2 n (n-1)} \sum_{l < n} y_l \Big].$$
Uses no gradients: what a model has to do with it is the space in which distances are taken. Memory: 5 n m bytes a
member.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import torch

from attriflow.data import Split
from attriflow.device import inputs, labels
from attriflow.features import penultimate
from attriflow.hyperparameters import Epoch, PositiveInt
from attriflow.io import expect_finite
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.precision import unit
from attriflow.scores import running_mean

_TESTS = 256  # test examples whose distances to all training examples are held at once


def prepare(
    member: Trained, split: Split, *, features: Literal["penultimate", "input"] = "penultimate", epoch: Epoch = "last"
) -> dict[str, np.ndarray]:
    """For each test example the training examples by Euclidean distance, nearest first, and whether labels match.

    order (m, n) int32, matches (m, n) bool in that order; equal distances keep the order of the training examples. Of a
    regression in place of matches targets (m, n) in that order, and wanted (m,), those of the test examples.
    """
    if split.train_y.ndim != 1:
        raise ValueError("knn_shapley: every position of a sequence has a label; the method votes for one an example")
    model = member.model(epoch)
    if features == "penultimate":
        train, test = penultimate(model, split.train_x), penultimate(model, split.test_x)
    else:
        train, test = (inputs(model, x).flatten(1) for x in (split.train_x, split.test_x))
        for side, x in (("training", train), ("test", test)):
            expect_finite(f"knn_shapley: {side} inputs (example, entry)", x.numpy(force=True))
    train_y, test_y = labels(model, split.train_y), labels(model, split.test_y)
    order = torch.cat([_nearest(test[start : start + _TESTS], train) for start in range(0, len(test), _TESTS)])
    found = (
        {"targets": train_y[order], "wanted": test_y}
        if split.regression
        else {"matches": train_y[order] == test_y[:, None]}
    )
    return {"order": order.to(torch.int32).numpy(force=True)} | {
        name: array.numpy(force=True) for name, array in found.items()
    }


def _nearest(test: torch.Tensor, train: torch.Tensor) -> torch.Tensor:
    scale = max(unit(train), unit(test))  # squares of tiny or huge features would leave the floats
    test, train = test / scale, train / scale
    # not by |a|² - 2ab + |b|²: it loses the order of examples that are nearly equally far
    distances = torch.cdist(test, train, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.argsort(distances, dim=1, stable=True)


def memory(size: Size) -> int:
    """Bytes that `prepare` takes at work."""
    return size.gradients + 24 * size.n * size.m + 24 * _TESTS * size.n


def score(members: Iterable[dict[str, np.ndarray]], *, neighbours: PositiveInt = 5) -> Iterator[np.ndarray]:
    """Shapley values (n, m) of the K = `neighbours` nearest neighbours' vote, or mean; the mean over members.

    A test example's values add up to the vote that the classifier gives its right label, or to what the nearest
    neighbours' mean takes from the squared error of predicting 0.
    Raises ValueError for more neighbours than training examples.
    """
    return running_mean(_shapley(member, neighbours) for member in members)


def _shapley(member: dict[str, np.ndarray], neighbours: int) -> np.ndarray:
    order = np.asarray(member["order"])
    n = order.shape[1]
    if neighbours > n:
        raise ValueError(f"neighbours: {neighbours} is more than the {n} training examples; use at most {n}")
    if "matches" in member:
        values = _vote_steps(np.asarray(member["matches"], np.float64), neighbours)
    else:
        values = _error_steps(np.asarray(member["targets"], np.float64), np.asarray(member["wanted"]), neighbours)
    values = np.cumsum(values[:, ::-1], 1)[:, ::-1]  # from the farthest to the nearest
    found = np.empty_like(values)
    np.put_along_axis(found, order.astype(np.int64), values, axis=1)
    return found.T


def _vote_steps(matches: np.ndarray, neighbours: int) -> np.ndarray:
    """What each neighbour is worth more than the next one (m, n), nearest first; the last is its own value."""
    n = matches.shape[1]
    ranks = np.arange(1, n)
    steps = (matches[:, :-1] - matches[:, 1:]) / neighbours * np.minimum(neighbours, ranks) / ranks
    return np.concatenate([steps, matches[:, -1:] / n], 1)


def _error_steps(y: np.ndarray, wanted: np.ndarray, neighbours: int) -> np.ndarray:
    """The same of the squared error, from targets (m, n) in order and those of the test examples (m,)."""
    n, k, wanted = y.shape[1], neighbours, wanted[:, None]
    ranks = np.arange(1, n + 1)
    most = np.minimum(k, ranks)  # M_1 ... M_n
    # of two others, the chance that both are among the K nearest of a random part, over 2: pairs[j] is d_{j+2}
    pairs = most * (most - 1) / np.maximum(2 * ranks * (ranks - 1), 1)
    before = np.cumsum(y, 1) - y  # of all that are nearer
    d = np.concatenate([[0.0], pairs[:-1]])  # d_1 ... d_n
    after = np.cumsum((y * d)[:, ::-1], 1)[:, ::-1]  # sum of d_l y_l over l >= i
    beyond = np.pad(after[:, 2:], ((0, 0), (0, 1)))  # over l > i + 1, for i = 1 ... n - 1
    here, following = y[:, :-1], y[:, 1:]
    error = most[:-1] / ranks[:-1] * ((here + following) / k - 2 * wanted)
    steps = (following - here) / k * (error + 2 / k * (d[1:] * before[:, :-1] + beyond))
    last, others = y[:, -1:], before[:, -1:]
    own = -last / k * (most[-1] / n * (last / k - 2 * wanted) + 2 / k * pairs[-1] * others)
    return np.concatenate([steps, own], 1)
