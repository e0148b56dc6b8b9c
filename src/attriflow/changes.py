"""Changes: what a member of an ensemble does to a trained model before gradients and outputs are taken.

A change is a mapping that the ensemble's kind wrote (`attriflow.ensembles.Member`); nothing is changed by an empty one.
Kinds of change:
    dropout      every nn.Dropout layer multiplies its units by a mask: 0, or 1 / (1 - rate)
    gaussian     or by Gaussian factors of the same mean and variance
    projection   nothing but the member's random stream, which every number of a change has
    checkpoint   the model as it was after an epoch (`Trained.changed`)
    lora         low-rank adapters, which alone have gradients (`attriflow.lora`); `Trained` knows their weights

A fixed mask makes a sub-network: one for each unit, the same for every example and position. A fresh one belongs to an
example, as in training. It is a function of what the model is given: the numbers of an example, hashed, count through a
generator. So an example has the same mask in every pass of whatever method, in a batch of any size, alone, and under
vmap; the same example at two places, or among training and test examples, has one mask.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from attriflow import lora

PARTS = ("gradients", "residuals")  # of a score that a change may act on: what is solved with, and TRAK's Q

Random = Callable[..., np.random.Generator]  # names of a purpose -> its random numbers

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # odd, 2⁶⁴ over the golden ratio: consecutive counts lie far apart


def acts_on(change: dict, part: str) -> bool:
    """Whether a change acts on a part of a score, 'gradients' or 'residuals'. Raises ValueError for another."""
    if part not in PARTS:
        raise ValueError(f"part '{part}'; expected one of {list(PARTS)}")
    return part in change.get("parts", PARTS)


def apply(module: nn.Module, change: dict, name: str, random: Random):
    """Change a module in place. name: of the model, for errors. random: what belongs to this model and change alone.

    Raises ValueError for an unknown kind of change, and for masks where the model has no nn.Dropout or none drops.
    """
    match change.get("kind"):
        case None | "projection" | "checkpoint":
            return
        case "dropout":
            site = partial(_Fresh, random) if change["fresh"] else partial(_Fixed, random, _bernoulli)
            _mask(module, change["rate"], name, site)
        case "gaussian":
            _mask(module, change["rate"], name, partial(_Fixed, random, _gaussian))
        case "lora":
            lora.insert(module, **change["adapter"])
        case kind:
            known = "dropout, gaussian, projection, checkpoint, lora"
            raise ValueError(f"model {name}: unknown change '{kind}'; known: {known}")


def _mask(module: nn.Module, rate: float | None, name: str, site: Callable[[str, float], nn.Module]):
    """Put a site that multiplies by factors in place of every dropout layer."""
    places = [
        (path, layer) for path, layer in module.named_modules(remove_duplicate=False) if type(layer) is nn.Dropout
    ]
    if not places:
        raise ValueError(
            f"model {name} has no nn.Dropout, so there are no units to mask; put nn.Dropout(p) where its model's "
            f"`build` should have them (p = 0 will do: training is then the same, and the ensemble gives the `rate`), "
            f"or let the ensemble `skip` the setting"
        )
    if rate is None and not any(layer.p for _, layer in places):
        raise ValueError(f"model {name}: its dropout layers have rate 0, so a mask drops nothing; give a `rate`")
    made: dict[nn.Module, nn.Module] = {}  # a layer that is used at two places has one mask
    for path, layer in places:
        if layer not in made:
            made[layer] = site(path, layer.p if rate is None else rate)
        module.set_submodule(path, made[layer])
    fresh = [each for each in made.values() if isinstance(each, _Fresh)]
    if fresh:
        module.register_forward_pre_hook(lambda _, given: [each.see(given[0]) for each in fresh] and None)


def _bernoulli(random: np.random.Generator, shape: tuple[int, ...], rate: float) -> np.ndarray:
    """Factors of dropout: the same random numbers at a higher rate drop the same units and more."""
    return (random.random(shape) >= rate) / (1 - rate)


def _gaussian(random: np.random.Generator, shape: tuple[int, ...], rate: float) -> np.ndarray:
    """Factors of mean 1 and the variance of dropout's."""
    return 1 + (rate / (1 - rate)) ** 0.5 * random.standard_normal(shape)


class _Fixed(nn.Module):
    """One factor for every unit of a site: a feature, the same at all positions of a sequence, or a channel."""

    # ASSUME: a fixed mask has one factor for a feature of a sequence, the same at all positions, and one for a channel
    # of an image; a fresh one has one for every number, as in training.
    def __init__(self, random: Random, draw: Callable[..., np.ndarray], path: str, rate: float):
        super().__init__()
        self._draw = lambda shape: draw(random("mask", path), shape, rate)
        self._factors: dict[tuple[int, ...], np.ndarray] = {}

    def forward(self, x: Tensor) -> Tensor:
        shape = _units(tuple(x.shape))
        if shape not in self._factors:
            self._factors[shape] = self._draw(shape)
        return x * torch.from_numpy(self._factors[shape]).to(x)


def _units(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one factor a unit, for what an example's site is of shape (n, ...)."""
    match shape:
        case (_, channels, _, _):
            return channels, 1, 1
        case (_, _, width):
            return (width,)
    return shape[1:]


class _Fresh(nn.Module):
    """Factors of dropout of its own for every example, one for each of its numbers at the site."""

    def __init__(self, random: Random, path: str, rate: float):
        super().__init__()
        self._key, self._rate = int(random("fresh", path).integers(2**63)), rate
        self._examples: Tensor | None = None

    def see(self, x: Tensor):
        """The inputs (n, ...) of the pass that begins."""
        self._examples = hashes(x)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[1:].numel()
        counts = torch.arange(size, device=x.device) * _GOLDEN
        random = _mixed(_mixed(self._examples ^ self._key)[:, None] + counts)  # (n, size)
        uniform = _shifted(random, 11).double() * 2.0**-53
        return x * (uniform >= self._rate).view(x.shape) / (1 - self._rate)


def hashes(x: Tensor) -> Tensor:
    """64-bit numbers (n,) of examples (n, ...), by their content alone: the same in any floating precision."""
    bits = (x.double().view(torch.int64) if x.is_floating_point() else x.long()).flatten(1)
    places = _mixed(torch.arange(1, bits.shape[1] + 1, device=x.device) * _GOLDEN) | 1
    return _mixed((_mixed(bits + places) * places).sum(1))


def _mixed(z: Tensor) -> Tensor:
    """The finaliser of SplitMix64, Steele, Lea and Flood 2014, OOPSLA: every bit depends on every other."""
    z = (z ^ _shifted(z, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    z = (z ^ _shifted(z, 27)) * (0x94D049BB133111EB - 2**64)
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """To the right, zeros moving in."""
    return (z >> bits) & (2 ** (64 - bits) - 1)
