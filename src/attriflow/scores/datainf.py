r"""DataInf: influence with the inverse of a mean replaced by the mean of inverses, each of which is a formula.

Kwon et al. 2024, arXiv:2310.00902, eq. (5), with the sign such that positive = helpful. Summed over layers, with
training gradients $g_j$ and a test gradient $v$ of the loss:
$$v^\top \Big[ \frac{1}{n} \sum_j (g_j g_j^\top + \lambda I)^{-1} \Big] g_i
  = \frac{1}{\lambda} \Big[ W_{i} - \frac{1}{n} \sum_j \frac{K_{ij} W_{j}}{\lambda + K_{jj}} \Big],
  \quad K = G G^\top, \; W = G v.$$

Damping is absolute, in units of a squared gradient as in `influence`, or relative to each layer's mean squared gradient
entry; the paper takes 0.1 of that.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from attriflow.data import Split
from attriflow.gradients import Gradients, Part, of_split
from attriflow.hyperparameters import Epoch, Parameters, Positive, Target
from attriflow.layerwise import absolute, pack, places, unpack
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.precision import columns_near_one, near_one, stored, weighted_squares, widened
from attriflow.scores import running_mean


def prepare(
    member: Trained, split: Split, *, epoch: Epoch = "last", parameters: Parameters = "all", target: Target = "loss"
) -> dict[str, np.ndarray]:
    r"""For each layer of s parameters: W = G Tᵀ (n, m), |g|² (n,), and K (n, n), or G (n, s) where 2 s < n.

    K enters a score only in a product with (n, m), which through G takes 2 s / n of the work. Computed in float64,
    stored in float32: 4 n (w + m + 1) bytes a layer, w = s where 2 s < n and n elsewhere; at work 8 n² more. Three
    layers of 5000 × 500 examples take at most 330 MB.
    """
    model = member.model(epoch, parameters)
    train, test = widened(*of_split(model, split, target))
    return pack({name: _layer(train.parts[at], test.parts[at]) for name, at in places(train).items()})


def _layer(train: Part, test: Part) -> dict[str, Tensor]:
    squares = train.squared_norms()
    few = 2 * train.size < len(train)
    return {
        "products": _gram(train, test),
        "squares": stored(squares),
        "mean_square": squares.mean() / train.size,
        **({"gradients": stored(train.dense())} if few else {"kernel": _gram(train, train)}),
    }


def _gram(left: Part, right: Part) -> Tensor:
    return stored(Gradients([left]).gram(Gradients([right])))


def memory(size: Size) -> int:
    """Bytes that `prepare` takes at work."""
    return size.gradients + (16 + 4 * size.layers) * size.n**2 + (16 + 4 * size.layers) * size.n * size.m


def score(
    members: Iterable[dict[str, np.ndarray]], *, damping: Positive, relative: bool = False
) -> Iterator[np.ndarray]:
    """DataInf (n, m), mean over members: one product of (n, n) and (n, m) a layer.

    relative: damping in units of each layer's mean squared gradient entry, tr(K) / (n s).
    """
    return running_mean(
        sum(_solve(layer, absolute(damping, relative, layer)) for layer in unpack(member).values()).numpy()
        for member in members
    )


def _solve(layer: dict[str, Tensor], damping: float) -> Tensor:
    products, units = columns_near_one(layer["products"])
    weights, unit = near_one(_weights(layer, damping))
    weighted = weights[:, None] * products  # (n, m)
    if "kernel" in layer:
        kernel, size = near_one(layer["kernel"])
        taken = (kernel @ weighted).double() * (size * unit)
    else:
        gradients, size = near_one(layer["gradients"])
        taken = (gradients @ (gradients.T @ weighted)).double() * (size**2 * unit)
    return (products - taken) * (units / damping)


def _weights(layer: dict[str, Tensor], damping: float) -> Tensor:
    r"""$1 / (n (\lambda + K_{jj}))$ (n,)"""
    squares = layer["squares"].double()
    return 1 / (len(squares) * (damping + squares))


def self_influence(
    members: Iterable[dict[str, np.ndarray]], *, damping: Positive, relative: bool = False
) -> Iterator[np.ndarray]:
    """DataInf of every training example on itself (n,), mean over members, from the same arrays as `score`."""
    return running_mean(
        sum(_own(layer, absolute(damping, relative, layer)) for layer in unpack(member).values()).numpy()
        for member in members
    )


def _own(layer: dict[str, Tensor], damping: float) -> Tensor:
    squares, weights = layer["squares"].double(), _weights(layer, damping)
    if "kernel" in layer:
        return (squares - torch.from_numpy(weighted_squares(layer["kernel"], weights.numpy()))) / damping
    gradients = layer["gradients"].double()
    weighted = gradients.T @ (gradients * weights[:, None])  # (s, s)
    return (squares - (gradients @ weighted).mul_(gradients).sum(1)) / damping
