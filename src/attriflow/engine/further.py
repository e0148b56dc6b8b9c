"""Further training: runs that start from the weights of a trained model, on all examples and without one of them.

A run's stream decides the order of its examples and its dropout masks. A run and those of the same stream that leave
an example out share both, so what differs between them is the example.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from attriflow.amounts import steps
from attriflow.device import CPU
from attriflow.engine import groups, measure, order, paths, side_by_side, stack_size, tensor
from attriflow.engine.dropout import left_out_masks, masks
from attriflow.engine.optimisers import OPTIMISERS
from attriflow.models import aliases, built, fill
from attriflow.runs import Run
from attriflow.streams import stream

ESTIMATORS = ("deletion", "subtraction")

_ROUNDINGS = 32  # of the weights, from which their effect is estimated, to an eighth


@dataclass(frozen=True)
class Furthered:
    """Further trained runs: test losses (runs, amounts, m) in float64, and where each diverged.

    diverged: the first step (from 1) whose loss, or whose measurement, is no number; 0 where there is none. Losses of
    such a run are NaN at every amount.
    """

    runs: tuple[Run, ...]
    losses: np.ndarray
    diverged: np.ndarray


def train(
    build: Callable[[], nn.Module],
    weights: dict[str, Tensor],
    x: np.ndarray,
    y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    runs: list[Run],
    recipe: dict,
    seed: int,
    *,
    amounts: list[float],
    estimator: str,
    dropout: bool = True,
    dtype: torch.dtype = torch.float32,
    stack: int | None = None,
    threads: int = 1,
    device: torch.device = CPU,
    progress: Callable[[int], None] = lambda runs: None,
) -> Iterator[Furthered]:
    r"""Train every run on from `weights` (a state dict), with a fresh optimiser at a constant learning rate.

    A run leaves out at most one example i, in one of two ways (Wei et al. 2025, arXiv:2412.03906, and their code):
    `deletion` takes its index out of the order, so that later batches begin one example later; `subtraction` keeps
    the batches of the full run, and the loss of every step is their mean minus $\ell(z_i) / n$.

    x (n, ...), y: training examples; test_x (m, ...), test_y: where losses are measured, without dropout.
    recipe: optimiser, learning_rate, momentum, weight_decay, batch_size. amounts: when to measure, in epochs; see
    `steps`. dropout: whether the model's dropout acts in training. dtype: of weights and gradients. stack, threads,
    device: as for `engine.train`. progress: called with the number of runs that are done.
    Raises ValueError as `engine.train` does, but for runs that diverge, which are told.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"unknown estimator '{estimator}'; known: {list(ESTIMATORS)}")
    if several := [run for run in runs if len(run.left_out) > 1 or run.subset]:
        raise ValueError(f"further training takes all examples but at most one, not {several[0]}")

    def start() -> nn.Module:
        module = built(build)
        fill(module, weights, "of the final model")
        for layer in module.modules():
            if type(layer) is nn.Dropout and not dropout:
                layer.p = 0.0
        return module.to(dtype)

    walk = {"deletion": _Deletion, "subtraction": _Subtraction}[estimator]
    size = stack or stack_size(build, device, dtype.itemsize)
    stacks = groups(runs, size, lambda run: walk.count(run, len(x)))
    train_x, train_y = tensor(x).to(device), tensor(y).to(device)
    path = paths.choose(start, train_x, train_y)

    def work(chunk: tuple[Run, ...]) -> Furthered:
        stacked = path([start()] * len(chunk), train_x)
        way = walk(chunk, len(x), seed, recipe["batch_size"], stacked.dropouts, device)
        wanted = steps(amounts, way.count(chunk[0], len(x)), recipe["batch_size"])
        losses, diverged = _train_stack(
            build, stacked, train_y, way, wanted, recipe, lambda state: measure(build, state, test_x, test_y, device)
        )
        paths.refuse_other_outcome(build, stacked, [each.stream for each in chunk], train_x, train_y, stacked.state())
        progress(len(chunk))
        return Furthered(chunk, losses, diverged)

    yield from side_by_side(work, stacks, threads)


@dataclass(frozen=True)
class _Batch:
    """A step of a stack: rows of its examples (runs, batch), what each loss counts or None for 1 / batch, masks."""

    places: Tensor
    shares: Tensor | None
    noise: list[Tensor]


class _Walk:
    """The batches of a stack whose runs have equally many examples."""

    def __init__(self, runs: tuple[Run, ...], n: int, seed: int, batch_size: int, sites: list, device: torch.device):
        self._runs, self._n, self._seed, self._batch_size = runs, n, seed, batch_size
        self._sites, self._device = sites, device
        self._left_out = np.array([run.left_out[0] if run.left_out else -1 for run in runs])  # (runs,)
        first = {run.stream: run for run in reversed(runs)}
        self._streams = tuple(first.values())
        self._of = np.array([list(first).index(run.stream) for run in runs])  # (runs,)

    def epoch(self, epoch: int) -> Iterator[_Batch]:
        """The steps of an epoch (from 1)."""
        every = np.arange(self._n)
        orders = np.stack([order(self._seed, run, every, epoch) for run in self._streams])  # (streams, n)
        noise = [mask.to(self._device) for mask in masks(self._sites, self._seed, self._streams, epoch, self._n)]
        return self._batches(epoch, orders, noise)

    def _on_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device)


class _Deletion(_Walk):
    """What a run leaves out is not in its order; masks stay with the examples that they have in the full run."""

    @staticmethod
    def count(run: Run, n: int) -> int:
        """Examples of an epoch."""
        return n - len(run.left_out)

    def _batches(self, epoch: int, orders: np.ndarray, noise: list[Tensor]) -> Iterator[_Batch]:
        # (runs, count): places in the order of the full run
        kept = np.nonzero(orders[self._of] != self._left_out[:, None])[1].reshape(len(self._runs), -1)
        of = self._on_device(self._of)[:, None]
        places, kept = self._on_device(orders[self._of[:, None], kept]), self._on_device(kept)
        for start in range(0, kept.shape[1], self._batch_size):
            rows = slice(start, start + self._batch_size)
            yield _Batch(places[:, rows], None, [mask[of, kept[:, rows]] for mask in noise])


class _Subtraction(_Walk):
    """Every step passes what a run leaves out once more, and counts its loss -1 / n; the full run, 0 for any example.

    The full run so does the same arithmetic as those that leave an example out.
    """

    @staticmethod
    def count(run: Run, n: int) -> int:
        """Examples of an epoch."""
        return n

    def _batches(self, epoch: int, orders: np.ndarray, noise: list[Tensor]) -> Iterator[_Batch]:
        starts = range(0, self._n, self._batch_size)
        # ASSUME: the example that is subtracted has dropout masks of its own in every step, the same whichever it is.
        extra = left_out_masks(self._sites, self._seed, self._streams, epoch, len(starts))
        extra = [mask.to(self._device) for mask in extra]
        left_out = self._on_device(self._left_out.clip(0))[:, None]
        counts = self._on_device(np.where(self._left_out < 0, 0.0, -1 / self._n))[:, None]
        of, orders = self._on_device(self._of), self._on_device(orders)
        for step, start in enumerate(starts):
            rows = slice(start, start + self._batch_size)
            places = torch.cat([orders[of, rows], left_out], 1)  # (runs, batch + 1)
            batch = places.shape[1] - 1
            shares = torch.cat([counts.new_full((len(counts), batch), 1 / batch), counts], 1)
            noisy = [
                torch.cat([mask[of, rows], own[of, step, None]], 1) for mask, own in zip(noise, extra, strict=True)
            ]
            yield _Batch(places, shares, noisy)


def _train_stack(
    build, stack, y: Tensor, walk: _Walk, wanted: list[int], recipe: dict, measured: Callable
) -> tuple[np.ndarray, np.ndarray]:
    """Test losses (runs, amounts, m) after the wanted steps, and the first step at which each run diverged, or 0."""
    optimiser = OPTIMISERS[recipe["optimiser"]](recipe, stack.flat.values, stack.flat.buffer)
    found: dict[int, np.ndarray] = {}
    trained: list[Tensor] = []
    batches = itertools.chain.from_iterable(map(walk.epoch, itertools.count(1)))
    for step, batch in enumerate(itertools.islice(batches, wanted[-1]), 1):
        shares = None if batch.shares is None else batch.shares.to(stack.flat.values.dtype)
        trained.append(stack.backward(y, batch.places, shares, batch.noise, optimiser.decay))
        optimiser.step(recipe["learning_rate"])
        if step in wanted:
            found[step] = measured(stack.state())["loss"]
    finite = {step: np.isfinite(losses).all(1) for step, losses in found.items()}
    diverged = _first_bad(torch.stack(trained).isfinite().numpy(force=True), finite)
    losses = np.stack([found[step] for step in wanted], 1)  # (runs, amounts, m)
    losses[diverged > 0] = np.nan
    return losses, diverged


def _first_bad(trained: np.ndarray, measured: dict[int, np.ndarray]) -> np.ndarray:
    """The first step (from 1) with a loss that is not finite, in training (steps, runs) or measured; 0 for none."""
    good = trained.copy()
    for step, finite in measured.items():
        good[step - 1] &= finite
    return np.where(good.all(0), 0, good.argmin(0) + 1)


def resolution(
    build: Callable[[], nn.Module],
    weights: dict[str, Tensor],
    test_x: np.ndarray,
    test_y: np.ndarray,
    seed: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device = CPU,
) -> np.ndarray:
    r"""The standard deviation (m,) of each test loss when every weight is rounded once to a neighbour in `dtype`.

    A step rounds all weights, so after t steps about $\sqrt t$ times this lies between a run and the same one in exact
    arithmetic, and a score, the difference of two runs, that is smaller says nothing. Measured: 1.1 times for the runs
    of `tests/test_further.py`; of scores on digits .3 to .9 (the two runs round partly alike).
    """
    ulp = {torch.float32: np.float32, torch.float64: np.float64}[dtype]
    random = stream(seed, "further", "resolution")
    rounded, tied = {}, aliases(built(build))
    for name, values in weights.items():
        if name in tied and tied[name] in weights:
            continue  # rounded once
        exact = values.double().numpy(force=True)
        if values.is_floating_point():
            spacing = np.spacing(np.abs(exact).astype(ulp)).astype(np.float64)
            exact = exact + spacing * random.uniform(-0.5, 0.5, (_ROUNDINGS, *exact.shape))
            rounded[name] = torch.from_numpy(exact)
        else:
            rounded[name] = values.expand(_ROUNDINGS, *values.shape)
    return measure(build, rounded, test_x, test_y, device)["loss"].std(0)
