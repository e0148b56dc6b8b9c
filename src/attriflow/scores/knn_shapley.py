r"""KNN-Shapley: the exact Shapley values of training examples for a K-nearest-neighbour classifier.

Jia et al. 2019, arXiv:1908.08619, theorem 1. With the training examples ordered by their distance to a test example,
nearest first, and matches $c_i = [y_i = y_{test}]$,
$$s_n = c_n / n, \quad s_i = s_{i+1} + \frac{c_i - c_{i+1}}{K} \frac{\min(K, i)}{i}.$$
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
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.scores import running_mean

_TESTS = 256  # test examples whose distances to all training examples are held at once


def prepare(
    member: Trained, split: Split, *, features: Literal["penultimate", "input"] = "penultimate", epoch: Epoch = "last"
) -> dict[str, np.ndarray]:
    """For each test example the training examples by Euclidean distance, nearest first, and whether labels match.

    order (m, n) int32, matches (m, n) bool in that order; equal distances keep the order of the training examples.
    """
    if split.train_y.ndim != 1:
        raise ValueError("knn_shapley: every position of a sequence has a label; the method votes for one an example")
    model = member.model(epoch)
    if features == "penultimate":
        train, test = penultimate(model, split.train_x), penultimate(model, split.test_x)
    else:
        train, test = (inputs(model, x).flatten(1) for x in (split.train_x, split.test_x))
    train_y, test_y = labels(model, split.train_y), labels(model, split.test_y)
    order = torch.cat([_nearest(test[start : start + _TESTS], train) for start in range(0, len(test), _TESTS)])
    return {
        "order": order.to(torch.int32).numpy(force=True),
        "matches": (train_y[order] == test_y[:, None]).numpy(force=True),
    }


def _nearest(test: torch.Tensor, train: torch.Tensor) -> torch.Tensor:
    # not by |a|² - 2ab + |b|²: it loses the order of examples that are nearly equally far
    distances = torch.cdist(test, train, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.argsort(distances, dim=1, stable=True)


def memory(size: Size) -> int:
    """Bytes that `prepare` takes at work."""
    return size.gradients + 24 * size.n * size.m + 24 * _TESTS * size.n


def score(members: Iterable[dict[str, np.ndarray]], *, neighbours: PositiveInt = 5) -> Iterator[np.ndarray]:
    """Shapley values (n, m) of the K = `neighbours` nearest neighbours' vote, mean over members.

    A test example's values add up to the vote that the classifier gives its right label.
    Raises ValueError for more neighbours than training examples.
    """
    return running_mean(_shapley(member, neighbours) for member in members)


def _shapley(member: dict[str, np.ndarray], neighbours: int) -> np.ndarray:
    order, matches = np.asarray(member["order"]), np.asarray(member["matches"], np.float64)
    n = order.shape[1]
    if neighbours > n:
        raise ValueError(f"neighbours: {neighbours} is more than the {n} training examples")
    ranks = np.arange(1, n)
    steps = (matches[:, :-1] - matches[:, 1:]) / neighbours * np.minimum(neighbours, ranks) / ranks
    values = np.concatenate([steps, matches[:, -1:] / n], 1)
    values = np.cumsum(values[:, ::-1], 1)[:, ::-1]  # from the farthest to the nearest
    found = np.empty_like(values)
    np.put_along_axis(found, order.astype(np.int64), values, axis=1)
    return found.T
