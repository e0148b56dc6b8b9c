r"""Further training of the final model by gradient descent, unrolled in the modes of the curvature.

K steps of gradient descent at rate $\eta$ on the mean training loss R, started at the final model, with the gradient
linearised there, $\nabla R(\theta + \Delta) \approx \nabla R + C \Delta$. With a weight $\epsilon$ more on example i,
$$\Delta_{k+1} = \Delta_k - \eta (\nabla R + \epsilon g_i + C \Delta_k), \quad
  -\frac{d \Delta_K}{d \epsilon} = \eta \sum_{j < K} (I - \eta C)^j g_i = f(C) g_i, \quad
  f(\sigma) = \frac{1 - (1 - \eta \sigma)^K}{\sigma},$$
$f(0) = K \eta$, and the score is $g_{test}^\top f(C) g_i$, positive = helpful. One step is Grad-Dot times $\eta$; as
K grows it becomes influence without damping; in between $K \eta$ does what 1 / damping does. The derivation is ours;
the change of C by the example is left out, as by influence functions. Bae et al. 2024, arXiv:2405.12186 (SOURCE),
average over segments of the training that made the model and filter by its steps and rate; here it is the training that
would follow, of which one knows both. An epoch of minibatch SGD is ceil(n / batch) steps.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np

from attriflow.data import Split
from attriflow.gradients import of_split
from attriflow.hyperparameters import Epoch, Parameters, Positive, PositiveInt, Target
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.modes import arrays, bytes_at_work, filtered, filtered_squares, modes
from attriflow.precision import widened
from attriflow.scores import running_mean

_MOST_GROWTH = 60.0  # of the logarithm of a mode: e^60 times a gradient still fits into float32


def prepare(
    member: Trained,
    split: Split,
    *,
    curvature: Literal["fisher", "ggn", "hessian"] = "ggn",
    epoch: Epoch = "last",
    parameters: Parameters = "all",
    target: Target = "loss",
) -> dict[str, np.ndarray]:
    """The spectrum of C and both gradients in its modes, and outside of them, as `influence` prepares them.

    Of the same sizes, with the same errors.
    """
    model = member.model(epoch, parameters)
    train, test = widened(*of_split(model, split, target))
    return arrays(modes(curvature, model, split.train_x, split.train_y, train), train, test)


def memory(size: Size, *, curvature: str = "ggn") -> int:
    """Bytes that `prepare` takes at work."""
    return size.gradients + bytes_at_work(size, curvature)


def score(
    members: Iterable[dict[str, np.ndarray]], *, steps: PositiveInt, learning_rate: Positive
) -> Iterator[np.ndarray]:
    r"""$g_{test}^\top f(C) g_i$ (n, m) after K `steps` at rate $\eta$ `learning_rate`, mean over members.

    Negative eigenvalues of a Hessian keep their sign: such modes grow. Raises ValueError for a rate with which the
    largest eigenvalue would diverge, $\eta \sigma > 2$, and for so many steps that a negative one leaves float32; both
    name the most that would do.
    """
    return running_mean(filtered(member, *_filter(member, steps, learning_rate)) for member in members)


def self_influence(
    members: Iterable[dict[str, np.ndarray]], *, steps: PositiveInt, learning_rate: Positive
) -> Iterator[np.ndarray]:
    r"""$g_i^\top f(C) g_i$ (n,), mean over members."""
    return running_mean(filtered_squares(member, *_filter(member, steps, learning_rate)) for member in members)


def _filter(member: dict[str, np.ndarray], steps: int, rate: float) -> tuple[np.ndarray, float]:
    """f of every mode (q,), and outside of all modes."""
    values = np.asarray(member["values"], np.float64)
    if rate * values.max() > 2:
        raise ValueError(
            f"learning_rate {rate}: gradient descent diverges where the curvature is {values.max():.3g}; use a rate of "
            f"at most {2 / values.max():.6g}"
        )
    growth = np.log1p(max(0.0, -rate * values.min()))
    if steps * growth > _MOST_GROWTH:
        raise ValueError(
            f"steps: {steps} asked for, in which the mode of curvature {values.min():.3g} grows by e^"
            f"{steps * growth:.0f}; use at most {int(_MOST_GROWTH / growth)}, or curvature 'ggn' or 'fisher'"
        )
    return _sum_of_powers(rate * values, steps) * rate, steps * rate


def _sum_of_powers(x: np.ndarray, steps: int) -> np.ndarray:
    """sum_{j < K} (1 - x)^j = (1 - (1 - x)^K) / x for x up to 2, x != 0, without a difference that cancels."""
    with np.errstate(divide="ignore"):  # the logarithm of 0: its power is 0
        logarithms = np.log1p(np.where(x <= 1, -x, x - 2))  # of |1 - x|
    if steps % 2:
        return np.where(x <= 1, -np.expm1(steps * logarithms), 1 + np.exp(steps * logarithms)) / x
    return -np.expm1(steps * logarithms) / x
