r"""Representer points: a model's prediction as a sum over the training examples.

Yeh et al. 2018, arXiv:1811.09720, theorem 3.1. The last layer is fitted again with an l2 penalty,
$\min_W \frac1n \sum_i \ell(W f_i) + \lambda |W|^2$ on its inputs $f_i$ (a last 1 for the bias); at the minimum
$W = \sum_i \alpha_i f_i^\top$ with $\alpha_i = -\frac{1}{2 \lambda n} \ell'(W f_i)$, so $\alpha_{ic} \, f_i \cdot f$ is
what example i adds to the logit of class c.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from attriflow.data import Split
from attriflow.device import inputs, labels
from attriflow.features import last_layer, penultimate
from attriflow.hyperparameters import Epoch, Positive
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.outputs import check_labels
from attriflow.precision import stored, unit
from attriflow.scores import expect_classes, running_mean

# what an example adds to the logit of the right class helps; what it adds to a number may help or harm
CLASSES_ONLY = True

_STEPS, _GRADIENT = 2000, 1e-7  # of the minimisation: at most so many, and until no derivative is larger
_SHARE = 0.01  # of the penalty's derivative, of which alpha is made, that the fit may be away from its minimum


def prepare(
    member: Trained,
    split: Split,
    *,
    l2: Positive = 3e-3,
    targets: Literal["model", "labels"] = "model",
    epoch: Epoch = "last",
) -> dict[str, np.ndarray]:
    r"""values (n, m): $\alpha_{i, y_{test}} \, f_i \cdot f_{test}$, what i adds to the logit of the test label; own
    (n,): $\alpha_{i, y_i} |f_i|^2$, what it adds to its own.

    l2: $\lambda$. targets: fitted to the model's own probabilities, as the paper does, or to the labels.
    Raises ValueError for a regression, and where the fit does not converge.
    """
    expect_classes("rps", split)
    model = member.model(epoch)
    ones = last_layer(model, split.train_x).bias is not None
    train, test = (_features(model, x, ones) for x in (split.train_x, split.test_x))
    train_y, test_y = labels(model, split.train_y), labels(model, split.test_y)
    with torch.no_grad():
        logits = model(inputs(model, split.train_x))
    for y in (train_y, test_y):
        check_labels(logits[:1].expand(len(y), -1), y)
    wanted = torch.softmax(logits.double(), -1)
    if targets == "labels":
        wanted = torch.nn.functional.one_hot(train_y, logits.shape[1]).to(train.dtype)
    # features f / s, weights W s and the penalty λ / s² make the same problem, and α f · f the same values
    scale = unit(train)
    train, test, l2 = train / scale, test / scale, l2 / scale**2
    weights = _fit(train, wanted, l2, scale)
    alpha = (wanted - torch.softmax(train @ weights.T, -1)) / (2 * l2 * len(train))  # (n, c)
    arrays = {
        "values": stored(alpha[:, test_y] * (train @ test.T)),
        "own": alpha.gather(1, train_y[:, None]).squeeze(1) * train.square().sum(1),
    }
    return {name: array.numpy(force=True) for name, array in arrays.items()}


def _features(model: torch.nn.Module, x: np.ndarray, ones: bool) -> Tensor:
    found = penultimate(model, x).double()  # a float32 fit stops short of its minimum
    return torch.cat([found, found.new_ones(len(found), 1)], 1) if ones else found


def _fit(features: Tensor, wanted: Tensor, l2: float, scale: float) -> Tensor:
    """The minimum (c, width) of the mean cross-entropy to the wanted probabilities plus the penalty.

    scale: what features were divided by. Raises ValueError where there is no minimum: alpha is the derivative of the
    penalty, so the fit's own derivative has to be far below that.
    """
    shape = (wanted.shape[1], features.shape[1])

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = torch.from_numpy(flat).to(features.device).view(shape)
        logits = features @ weights.T
        value = -(wanted * torch.log_softmax(logits, -1)).sum(-1).mean() + l2 * weights.square().sum()
        slope = (torch.softmax(logits, -1) - wanted).T @ features / len(features) + 2 * l2 * weights
        return float(value), slope.flatten().numpy(force=True)

    tolerance = _GRADIENT / min(max(scale, 1.0), 100.0)  # that of the weights of features as they were
    options = {"maxiter": _STEPS, "maxfun": 2 * _STEPS, "gtol": tolerance, "ftol": 0.0}
    found = scipy.optimize.minimize(
        objective, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B", options=options
    )
    steepest, pull = np.abs(found.jac).max(), 2 * l2 * np.abs(found.x).max()
    if not (steepest <= 100 * _GRADIENT and steepest <= max(_SHARE * pull, np.finfo(float).tiny)):
        raise ValueError(
            f"l2 {l2 * scale**2:.3g}: the last layer's fit has a derivative of {steepest:.1e} after {found.nit} steps, "
            f"where that of the penalty is {pull:.1e}; use a larger l2 (the layer's inputs reach {scale:.0e})"
        )
    return torch.from_numpy(found.x).to(features.device).view(shape)


def memory(size: Size) -> int:
    """Bytes that `prepare` takes at work."""
    return size.gradients + 24 * size.n * size.m + 8 * size.activations * size.n  # the last: logits of all examples


def score(members: Iterable[dict[str, np.ndarray]]) -> Iterator[np.ndarray]:
    """Their mean over members, (n, m)."""
    return running_mean(member["values"] for member in members)


def self_influence(members: Iterable[dict[str, np.ndarray]]) -> Iterator[np.ndarray]:
    r"""$\alpha_{i, y_i} |f_i|^2$ (n,), mean over members."""
    return running_mean(member["own"] for member in members)
