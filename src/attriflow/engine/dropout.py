"""Dropout without hidden state: a mask is a function of seed, run, epoch, layer and place in the epoch's order."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attriflow.runs import Run
from attriflow.streams import stream

_LEVELS = 2**16  # masks are drawn as 16-bit numbers: the rate is met to 1/131072


@dataclass(frozen=True)
class Site:
    """One dropout layer: its rate and the shape of what it masks, without the batch."""

    rate: float
    shape: tuple[int, ...]


def masks(sites: list[Site], seed: int, runs: tuple[Run, ...], epoch: int, count: int) -> list[Tensor]:
    """For each site the factors of an epoch, (runs, count, *shape): 0, or 1 / (1 - rate)."""
    return [
        torch.from_numpy(np.stack([_mask(site, place, seed, run, epoch, count) for run in runs]))
        for place, site in enumerate(sites)
    ]


def left_out_masks(sites: list[Site], seed: int, runs: tuple[Run, ...], epoch: int, steps: int) -> list[Tensor]:
    """As `masks`, (runs, steps, *shape): those of an example that is passed once more in every step of an epoch."""
    return [
        torch.from_numpy(np.stack([_mask(site, place, seed, run, epoch, steps, "left out") for run in runs]))
        for place, site in enumerate(sites)
    ]


def _mask(site: Site, place: int, seed: int, run: Run, epoch: int, count: int, *names: str) -> np.ndarray:
    random = stream(seed, run.stream, "dropout", epoch, place, *names)
    drawn = random.integers(0, _LEVELS, size=(count, *site.shape), dtype=np.uint16)
    return (drawn >= round(site.rate * _LEVELS)) * np.float32(1 / (1 - site.rate))
