r"""LoGra: influence with gradients projected by a Kronecker product, from a layer's input and output gradient alone.

Choe et al. 2024, arXiv:2405.13954; positive = helpful. The gradient $\sum_t b_t a_t^\top$ of a layer becomes
$\phi = \sum_t (P_{out}^\top b_t) (P_{in}^\top a_t)^\top$, at most rank × rank numbers. The entries of P are Gaussian of
variance 1 / rank, so that inner products are kept in expectation; each member has its own. With
$F = \Phi^\top \Phi / n$ for each layer, the score is the sum over layers of
$\phi_{test}^\top (F + \lambda I)^{-1} \phi_i$.

Damping is absolute, in units of a mean squared gradient as in `influence`, or relative to each layer's tr(F) / k for k
projected numbers (the paper's library takes 1e-5 of it).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from attriflow.curvature import decompose
from attriflow.data import Split
from attriflow.gradients import Factors, Gradients, Part, Sequences, of_split
from attriflow.hyperparameters import Epoch, NonNegative, Parameters, PositiveInt, Target
from attriflow.krylov import expect_resolved
from attriflow.layerwise import absolute, pack, places, unpack
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.precision import stored, weighted_product, weighted_squares, widened
from attriflow.projection import project
from attriflow.scores import running_mean
from attriflow.spectrum import Spectrum, join

Stream = Callable[..., np.random.Generator]


def prepare(
    member: Trained,
    split: Split,
    *,
    rank: PositiveInt,
    epoch: Epoch = "last",
    parameters: Parameters = "all",
    target: Target = "loss",
) -> dict[str, np.ndarray]:
    r"""For each layer the spectrum of F and both gradients in its basis: values, left (n, q), right (q, m), squares.

    A training gradient's squared coordinate in mode j is left² times squares_j, as in `influence`; a test gradient's is
    right² by squares_j.

    A layer without factors (embeddings, scales, parameters outside of any layer, and layers whose gradients take less
    memory than their factors) is projected by a dense Gaussian to rank² numbers. What is not larger than it would
    become is kept whole: an input or output of at most `rank`, a layer without factors of at most rank² parameters.

    Decomposed in float64 as k × k or n × n, whichever is smaller; modes that are rounding error are dropped, so damping
    0 means the pseudo-inverse. Stored in float32, 4 (n + m) q bytes a layer with q <= min(n, k), k <= rank²; at work
    8 (n + m) k and 8 min(n, k)².
    """
    model = member.model(epoch, parameters)
    train, test = widened(*of_split(model, split, target))
    stream = partial(member.stream, "logra")
    pairs = {name: (train.parts[at], test.parts[at]) for name, at in places(train).items()}
    return pack({name: _modes(*_projected(*pair, rank, stream)) for name, pair in pairs.items()})


def _projected(train: Part, test: Part, rank: int, stream: Stream) -> list[Tensor]:
    """Projected gradients (n, k) and (m, k) of one layer, float64."""
    if isinstance(train, Factors | Sequences):
        left = _matrix(train.a.shape[-1], rank, stream(train.names[0], "in")).to(train.a)
        right = _matrix(train.b.shape[-1], rank, stream(train.names[0], "out")).to(train.b)
        return [replace(each, a=each.a @ left, b=each.b @ right).dense() for each in (train, test)]
    # ASSUME: LoGra is defined for linear layers; any other is projected to rank² numbers by a dense Gaussian.
    if train.size <= rank**2:
        return [train.dense(), test.dense()]
    sets = [Gradients([train]), Gradients([test])]
    return [each.to(train.dtype) / rank for each in project(sets, stream, dimension=rank**2, kind="gaussian")]


def _matrix(size: int, rank: int, random: np.random.Generator) -> Tensor:
    # ASSUME: LoGra leaves open what becomes of inputs and outputs not larger than the rank; they are kept whole.
    if size <= rank:
        return torch.eye(size, dtype=torch.float64)
    return torch.from_numpy(random.standard_normal((size, rank)) / np.sqrt(rank))


def _modes(train: Tensor, test: Tensor) -> dict[str, Tensor]:
    n, k = train.shape
    dual = n < k
    if dual:  # (F + λI)⁻¹ through K = ΦΦᵀ/n, as in `influence`
        values, vectors = decompose(train @ train.T / n)
        left, right = vectors, vectors.T @ (train @ test.T)
    else:
        values, vectors = decompose(train.T @ train / n)
        left, right = train @ vectors, (test @ vectors).T
    kept = values > 0
    return {
        "values": values[kept],
        "left": stored(left[:, kept]),
        "right": stored(right[kept]),
        "squares": (n * values if dual else torch.ones_like(values))[kept],
        "size": torch.tensor(k),
        "mean_square": values.sum() / k,
    }


def memory(size: Size, *, rank: int) -> int:
    """Bytes that `prepare` takes at work."""
    k = rank**2
    kept = 4 * (size.n + size.m) * min(size.n, k)
    return size.gradients + 24 * (size.n + size.m) * k + 48 * min(size.n, k) ** 2 + size.layers * kept


def score(
    members: Iterable[dict[str, np.ndarray]], *, damping: NonNegative, relative: bool = False
) -> Iterator[np.ndarray]:
    r"""$\sum \phi_{test}^\top (F + \lambda I)^{-1} \phi_i$ over layers (n, m), mean over members.

    relative: damping in units of each layer's tr(F) / k.
    """
    return running_mean(
        sum(_solve(layer, absolute(damping, relative, layer)) for layer in unpack(member).values())
        for member in members
    )


def _solve(layer: dict[str, Tensor], damping: float) -> np.ndarray:
    expect_resolved(layer["values"].numpy(), damping, len(layer["values"]))
    return weighted_product(layer["left"], (1 / (layer["values"] + damping)).numpy(), layer["right"])


def spectrum(member: dict[str, np.ndarray], *, relative: bool = False) -> Spectrum:
    """Of the block-diagonal F of all layers, in units of each layer's mean squared gradient where relative."""
    # ASSUME: the indicator of methods that take every layer for itself is one for all layers, and leaves out what the
    # gradients of different layers have in common.
    return join(
        Spectrum.of(
            layer["values"].numpy(),
            (layer["right"].double().square() / layer["squares"][:, None]).numpy(),
            dimension=int(layer["size"]),
            unit=absolute(1.0, relative, layer),
        )
        for layer in unpack(member).values()
    )


def self_influence(
    members: Iterable[dict[str, np.ndarray]], *, damping: NonNegative, relative: bool = False
) -> Iterator[np.ndarray]:
    r"""$\sum \phi_i^\top (F + \lambda I)^{-1} \phi_i$ over layers (n,), mean over members."""
    return running_mean(
        sum(_own(layer, absolute(damping, relative, layer)) for layer in unpack(member).values()) for member in members
    )


def _own(layer: dict[str, Tensor], damping: float) -> np.ndarray:
    return weighted_squares(layer["left"], (layer["squares"] / (layer["values"] + damping)).numpy())
