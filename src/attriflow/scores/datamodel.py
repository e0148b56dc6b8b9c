r"""Datamodels: a sparse linear regression from who was trained on to what came out.

Ilyas et al. 2022, arXiv:2202.00622. Members trained on random subsets of the training examples are the observations:
for each test example the coefficients w of
$$\min_{w, b} \frac{1}{2 e} \sum_j \big(-\ell_j - b - w \cdot 1_{S_j}\big)^2 + \lambda |w|_1$$
over members j with subsets S_j and test losses $\ell_j$ are the scores, so positive = helpful. Solved by scikit-learn's
coordinate descent along a path of penalties. Uses no gradients, and needs hundreds of members.
"""

import warnings
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import lasso_path

from attriflow.data import Split
from attriflow.device import inputs, labels
from attriflow.hyperparameters import Epoch, Fraction
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.outputs import loss
from attriflow.scores import Later

ACCESS = "training"  # it looks at more than the final model
CHANGES = False  # it tells models by the examples that they saw: members of one model saw the same

_PATH = 20  # penalties from the first that leaves a coefficient to the one asked for
# of the duality gap over the targets' squares, and the most passes to reach it: coefficients agree with those of a run
# to 1e-14 to 1e-6 of the largest (1000 examples, 500 members; 1e-4 would leave 3e-3 and take half of the time)
_TOLERANCE, _PASSES = 1e-8, 200_000


def prepare(member: Trained, split: Split, *, epoch: Epoch = "last") -> dict[str, np.ndarray]:
    """mask (n,) bool: what the member was trained on; losses (m,) of the test examples.

    Raises ValueError for a member that was trained on all examples: it says nothing about any of them.
    """
    n = len(split.train_y)
    mask = np.ones(n, bool) if member.run is None else member.run.mask(n, member.seed)
    if mask.all():
        raise ValueError(
            f"datamodel: member {member.name} was trained on all {n} examples; "
            f"use an ensemble with a `fraction`, whose members see random subsets"
        )
    model = member.model(epoch)
    with torch.no_grad():
        losses = loss(model(inputs(model, split.test_x)), labels(model, split.test_y))
    return {"mask": mask, "losses": losses.numpy(force=True)}


def memory(size: Size) -> int:
    """Bytes that `prepare` takes at work."""
    return 8 * (size.factors + size.activations) * size.m + size.n


def score(members: Iterable[dict[str, np.ndarray]], *, penalty: Fraction = 0.1) -> Iterator[Later]:
    r"""Coefficients (n, m) of the regression on the members so far; zeros for a single one.

    penalty: $\lambda$ as a share of the smallest that leaves no coefficient, for each test example its own.
    """
    # ASSUME: datamodels choose the penalty by held-out members; here it is a hyperparameter, on a scale without a unit.
    masks, losses = [], []
    for member in members:
        masks.append(np.asarray(member["mask"]))
        losses.append(np.asarray(member["losses"]))
        count = len(masks)
        yield Later(lambda count=count: _regress(np.stack(masks[:count]), np.stack(losses[:count]), penalty))


def _regress(masks: np.ndarray, losses: np.ndarray, penalty: float) -> np.ndarray:
    """(n, m) from masks (e, n) and losses (e, m)."""
    x = masks - masks.mean(0)
    y = losses.mean(0) - losses
    found = np.zeros((x.shape[1], y.shape[1]))
    if len(x) == 1:
        return found
    for test, target in enumerate(y.T):
        largest = np.abs(x.T @ target).max() / len(x)
        if largest > 0:
            penalties = largest * np.geomspace(1, penalty, _PATH)
            found[:, test] = _coefficients(x, target, penalties)
    return found


def _coefficients(x: np.ndarray, target: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """(n,) at the last of the penalties."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        scale = np.abs(target).max()  # tiny or huge losses have squares beyond the floats
        try:
            options = {"max_iter": _PASSES, "tol": _TOLERANCE}
            return scale * lasso_path(x, target / scale, alphas=penalties / scale, **options)[1][:, -1]
        except ConvergenceWarning as warning:
            share = penalties[-1] / penalties[0]
            raise ValueError(f"penalty {share:.2g}: the regression does not converge; use a larger one") from warning
