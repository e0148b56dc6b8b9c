r"""Influence functions with an exact inverse: $g_{test}^\top (C + \lambda I)^{-1} g_i$.

Koh and Liang 2017, arXiv:1703.04730, eq. (2), with the sign such that positive = helpful. Damping is absolute and
belongs to the *mean* curvature: C is a mean over the n training examples, so $\lambda$ has the unit of a mean squared
gradient (fisher) or of a second derivative of the mean loss (ggn, hessian). Or it is relative to the mean squared entry
of the training gradients, whatever the curvature; Wei et al. 2025, arXiv:2412.03906, take 0.1 to 1000 of that.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np

from attriflow.data import Split
from attriflow.gradients import of_split
from attriflow.hyperparameters import Epoch, NonNegative, Parameters, Target
from attriflow.krylov import expect_resolved
from attriflow.layerwise import absolute
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.modes import arrays, bytes_at_work, filtered, filtered_squares, modes, of_subsets
from attriflow.precision import widened
from attriflow.scores import running_mean
from attriflow.spectrum import Spectrum


def prepare(
    member: Trained,
    split: Split,
    *,
    curvature: Literal["fisher", "ggn", "hessian"] = "fisher",
    epoch: Epoch = "last",
    parameters: Parameters = "all",
    target: Target = "loss",
) -> dict[str, np.ndarray]:
    r"""The spectrum of C and both gradients in its modes, as `attriflow.modes.arrays` stores them.

    fisher: $C = G^\top G / n$ of the training-loss gradients G (n, p). Where p > n it is decomposed as
    $K = G G^\top / n$ (n, n), which gives the same scores:
    $G (C + \lambda I)^{-1} T^\top = (K + \lambda I)^{-1} G T^\top$.
    ggn: $C = B^\top B / n$, the Gauss-Newton matrix, of n r rows: an example has r, one of a squared error or of two
    classes, c - 1 of c, as many at every position of a sequence. Where p > n r it is decomposed as $B B^\top / n$.
    ValueError where both exceed 10,000. hessian: p × p, for models of up to 10,000 parameters; ValueError above.

    Everything is computed in float64. Modes whose eigenvalue is below q × 2⁻⁵² of the largest are rounding error and
    are dropped, so damping 0 means the pseudo-inverse. What a training gradient has outside of all modes meets the
    damping alone.
    """
    model = member.model(epoch, parameters)
    train, test = widened(*of_split(model, split, target))
    return arrays(modes(curvature, model, split.train_x, split.train_y, train), train, test)


def memory(size: Size, *, curvature: str = "fisher") -> int:
    """Bytes that `prepare` takes at work."""
    return size.gradients + bytes_at_work(size, curvature)


def score(
    members: Iterable[dict[str, np.ndarray]],
    *,
    damping: NonNegative,
    relative: bool = False,
    relatif: Literal["none", "loss", "parameters"] = "none",
) -> Iterator[np.ndarray]:
    r"""$g_{test}^\top (C + \lambda I)^{-1} g_i$ (n, m), mean over members.

    relative: damping in units of the mean squared entry of all training gradients, $\sum_i |g_i|^2 / (n p)$.

    relatif: divided by what i does globally, so that no example helps everywhere by its size alone (RelatIF, Barshan
    et al. 2020, arXiv:2003.11630): by the root of its self-influence $g_i^\top (C + \lambda I)^{-1} g_i$ (loss), or by
    the length of the change of the parameters $|(C + \lambda I)^{-1} g_i|$. 0 for an example without a gradient.

    An indefinite Hessian is taken by the absolute values of its eigenvalues, $1 / (|\sigma| + \lambda)$: a direction of
    negative curvature is no reason to count an example as harmful, and no damping can meet a pole. Raises ValueError
    for a damping, other than 0, that is no more than what the eigenvalues have of rounding error.
    """
    power = {"none": 0, "loss": 1, "parameters": 2}[relatif]
    return running_mean(_solve(member, absolute(damping, relative, member), power) for member in members)


def _solve(member: dict[str, np.ndarray], damping: float, power: int) -> np.ndarray:
    found = filtered(member, *_inverse(member, damping, 1))
    if not power:
        return found
    sizes = np.sqrt(filtered_squares(member, *_inverse(member, damping, power)))[:, None]
    return np.divide(found, sizes, out=np.zeros_like(found), where=sizes > 0)


def _inverse(member: dict[str, np.ndarray], damping: float, power: int) -> tuple[np.ndarray, float]:
    """(|σ| + λ)⁻ᵏ of every mode (q,), and outside of all modes, where damping 0 is the pseudo-inverse."""
    # ASSUME: an indefinite Hessian is taken by the absolute values of its eigenvalues; Koh and Liang add a damping that
    # makes it positive and leave its size open.
    expect_resolved(member["values"], damping, len(member["values"]))
    return (np.abs(member["values"]) + damping) ** -power, damping**-power if damping else 0.0


def powers(
    member: dict[str, np.ndarray], masks: np.ndarray, *, damping: NonNegative, relative: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    r"""Group scores: $g_{test}^\top (C + \lambda I)^{-k} g_i$ of one member, summed over the training examples of each
    subset, masks (s, n); k = 1 and 2, (s, m) each, the second times the unit of a relative damping, as t_k is in it.
    See `attriflow.mechanism`.
    """
    summed, unit = of_subsets(member, masks), absolute(1.0, relative, member)
    first, second = (filtered(summed, *_inverse(member, damping * unit, power)) for power in (1, 2))
    return first, unit * second


def spectrum(member: dict[str, np.ndarray], *, relative: bool = False) -> Spectrum:
    """Of C, with absolute eigenvalues as in `score`, in units of the mean squared gradient where relative.

    The weights are those of C as the covariance of the training gradients, which the Fisher is. Where p > n the modes
    and weights are those of the n × n form: the part of a test gradient outside of all training gradients drops out.
    """
    # ASSUME: the indicator is derived for the Fisher; a Gauss-Newton matrix or Hessian stands for the covariance of the
    # training gradients, too.
    squares = np.square(np.asarray(member["right"], np.float64)) / np.asarray(member["squares"])[:, None]
    return Spectrum.of(
        np.abs(member["values"]),
        squares,
        dimension=int(member["parameters"]),
        unit=absolute(1.0, relative, member),
    )


def self_influence(
    members: Iterable[dict[str, np.ndarray]], *, damping: NonNegative, relative: bool = False
) -> Iterator[np.ndarray]:
    r"""$g_i^\top (C + \lambda I)^{-1} g_i$ (n,), mean over members."""
    return running_mean(
        filtered_squares(member, *_inverse(member, absolute(damping, relative, member), 1)) for member in members
    )
