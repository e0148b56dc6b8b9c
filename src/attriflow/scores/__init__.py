"""Attribution methods.

A kind is a file with two functions:
    prepare(member, split, *, costly hyperparameters) -> arrays       what takes minutes, once per member
    score(members, *, cheap hyperparameters) -> iterator of (n, m)    one hyperparameter point in a moment
and, so that what cannot fit is refused before it begins,
    memory(size, *, hyperparameters of prepare) -> bytes              see attriflow.memory
and, where the method allows it, of the cheap hyperparameters that matter for it,
    spectrum(member, *, ...) -> Spectrum                              of one member: dampings without retraining,
                                                                      see attriflow.selection
    self_influence(members, *, ...) -> iterator of (n,)               what score gives a training example on itself:
                                                                      mislabelled ones stand out
    residuals(member, split, *, ...) -> arrays                        those of `prepare` that have no gradients in them:
                                                                      members that change them alone share the others
and, where it looks at more than the final model (checkpoints, recipe, subset), the line
    ACCESS = "training"                                               settings of access: final_model refuse it
and, where it cannot follow a member of an ensemble that changes its model, the line
    CHANGES = False
`member` is a models.Trained, `split` a data.Split; `members` yields what prepare made, one member after the other, and
`score` yields the scores of the ensemble so far after each: every ensemble size comes from one pass. A hyperparameter
that both functions take is prepared at its largest value and scored at each (a prefix).

Everywhere, positive = helpful: training on the example lowers the loss of the test example.

A method that needs classes says CLASSES_ONLY = True, so that the config is checked early, and calls `expect_classes`.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from attriflow.data import Split
from attriflow.io import expect_finite


class Later:
    """An array that is made when somebody asks: for a `score` that should not score every ensemble so far."""

    def __init__(self, make: Callable[[], np.ndarray]):
        self._make = make

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self._make(), dtype)


def expect_classes(method: str, split: Split):
    """Raise ValueError where labels are numbers."""
    if split.regression:
        raise ValueError(
            f"{method}: labels are numbers, and the method is for classes; `skip` the setting in its entry"
        )


def of_gradients(
    make: Callable[[dict[str, np.ndarray]], np.ndarray], members: Iterable[dict[str, np.ndarray]]
) -> Iterator[np.ndarray]:
    """What `make` makes of the gradients of each member: once for neighbours that share them, the very array `train`.

    `make` must not look at residuals.
    """
    last, made = None, None
    for member in members:
        gradients = member.get("train")
        if gradients is None or gradients is not last:
            last, made = gradients, make(member)
        yield made


def running_mean(arrays: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The mean of the first, the first two, ... arrays.

    >>> [float(mean[0]) for mean in running_mean([np.array([1.0]), np.array([3.0])])]
    [1.0, 2.0]
    """
    total = None
    for count, array in enumerate(arrays, 1):
        total = np.array(array, np.float64) if total is None else total + array
        expect_finite("scores (training example, test example)", total)
        yield total / count
