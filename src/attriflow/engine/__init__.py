"""The batched retraining engine: many runs of one architecture train together as stacked parameters.

Every run draws its initial weights, its order of examples and its dropout masks from its own named stream, and no
operation mixes two runs. How many train together, in which order and on how many threads so changes no number: on
one machine perceptrons are equal to the bit, other modules up to rounding; tests say so.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from attriflow import outputs
from attriflow.data import Split
from attriflow.device import CPU, inputs, labels
from attriflow.engine import paths
from attriflow.engine.dropout import masks
from attriflow.engine.optimisers import OPTIMISERS, learning_rate
from attriflow.models import built, completed, default_generator, made, slots
from attriflow.outputs import OUTPUTS, measured
from attriflow.runs import Run
from attriflow.streams import stream, torch_seed

# Parameters, momentum and the batch of all runs of a stack should stay in a core's caches: measured on an AMD EPYC
# with 1 MiB of L2 and 32 MiB of L3, an MLP of 109,386 parameters was fastest in stacks of 2 to 4 (docs/engine.md).
STACK_BYTES = 6 * 2**20
MOST_IN_A_STACK = 64
# An accelerator has no such caches, and wants large products.
DEVICE_BYTES = 2**30

Done = TypeVar("Done")


class Diverged(ArithmeticError):
    """A training whose loss is no number any more."""


@dataclass(frozen=True)
class Step:
    """A step of a stack: its epoch, its examples (runs, batch), their weights or None for 1 each, its learning rate."""

    epoch: int
    examples: Tensor
    shares: Tensor | None
    rate: float


@dataclass(frozen=True)
class Trainings:
    """Trained runs, stacked: weights, epoch -> name -> (runs, ...), and losses (runs, epochs), mean over the steps."""

    runs: tuple[Run, ...]
    weights: dict[int, dict[str, Tensor]]
    losses: np.ndarray

    def state(self, index: int, epoch: int) -> dict[str, Tensor]:
        """The state dict of one run after an epoch."""
        return {name: values[index].clone() for name, values in self.weights[epoch].items()}


def train(
    build: Callable[[], nn.Module],
    x: np.ndarray,
    y: np.ndarray,
    runs: list[Run],
    recipe: dict,
    seed: int,
    *,
    checkpoints: tuple[int, ...] = (),
    stack: int | None = None,
    threads: int = 1,
    device: torch.device = CPU,
    progress: Callable[[int], None] = lambda epochs: None,
    observe: Callable[[Step, dict[str, Tensor]], None] | None = None,
) -> Iterator[Trainings]:
    """Train every run on its part of x (n, ...) and y (n,), in stacks, and yield each stack in the order of `runs`.

    The loss is that of `outputs.loss`: the squared error where y is of a floating dtype.

    checkpoints: epochs whose weights to keep, besides the last. stack: runs that train together; None sizes it to
    the caches. threads: stacks that train at once. device: where they train; weights come back on the processor.
    progress: called with the number of epochs that were trained. observe: called before every step of a stack with the
    step and the weights, name -> (runs, ...), which it changes.
    Raises Diverged naming run, epoch and step when a loss is not finite; and ValueError as `paths.choose` does before
    the training, and naming a run where the saved weights are not what was trained.
    """
    chunks = groups(runs, stack or stack_size(build, device), partial(_count, n=len(x)))
    x, y = tensor(x).to(device), tensor(y).to(device)
    kept = {*checkpoints, recipe["epochs"]}
    path = paths.choose(partial(initial_weights, build, seed, runs[0]), x, y) if runs else None

    def work(chunk: tuple[Run, ...]) -> Trainings:
        return _train_stack(build, path, x, y, chunk, recipe, seed, kept, progress, observe)

    yield from side_by_side(work, chunks, threads)


def side_by_side(
    work: Callable[[tuple[Run, ...]], Done], stacks: list[tuple[Run, ...]], threads: int
) -> Iterator[Done]:
    """The work of every stack, in order; each on one thread of torch, `threads` at once."""
    threads_of_torch = torch.get_num_threads()
    torch.set_num_threads(1)  # one thread a stack: faster than sharing small products, and equal to the bit
    try:
        if threads == 1:
            yield from map(work, stacks)
        else:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                yield from pool.map(work, stacks)
    finally:
        torch.set_num_threads(threads_of_torch)


def measure(
    build: Callable[[], nn.Module],
    weights: dict[str, Tensor],
    x: np.ndarray,
    y: np.ndarray,
    device: torch.device = CPU,
) -> dict[str, np.ndarray]:
    """Outputs of every run in float64, name -> (runs, m): those that exist for its logits and labels.

    float64, because nearly equal losses of nearly equal models are subtracted later.
    """
    module = built(build).to(device).double().eval()
    x, y = inputs(module, x), labels(module, y)
    found: dict[str, list[np.ndarray]] = {}
    with torch.no_grad():
        for index in range(len(next(iter(weights.values())))):
            logits = _passed(module, _double(weights, index, device), x)
            for name in measured(logits, y):
                found.setdefault(name, []).append(OUTPUTS[name](logits, y).numpy(force=True))
    return {name: np.stack(values) for name, values in found.items()}


def _passed(module: nn.Module, state: dict[str, Tensor], x: Tensor) -> Tensor:
    """What the module gives of x with the weights of a state. Raises ValueError where tied ones differ."""
    state = completed(module, state, "that is measured")
    held = {slot: state[name] for slot, name in slots(module).items() if name in state}
    return functional_call(module, held, (x,), tie_weights=False)


def _double(weights: dict[str, Tensor], index: int, device: torch.device) -> dict[str, Tensor]:
    """The state of one run: its numbers in float64, counters as they are."""
    rows = {name: values[index].to(device) for name, values in weights.items()}
    return {name: values.double() if values.is_floating_point() else values for name, values in rows.items()}


def quality(
    build: Callable[[], nn.Module],
    state: dict[str, Tensor],
    x: np.ndarray,
    y: np.ndarray,
    device: torch.device = CPU,
) -> dict:
    """`outputs.quality` of one model on x (n, ...) and y (n, ...)."""
    module = built(build).to(device).double().eval()
    stacked = {name: values[None] for name, values in state.items()}
    with torch.no_grad():
        logits = _passed(module, _double(stacked, 0, device), inputs(module, x))
        return outputs.quality(logits, labels(module, y))


def metrics(
    build: Callable[[], nn.Module], states: dict[int, dict[str, Tensor]], split: Split, device: torch.device = CPU
) -> dict:
    """`quality` of every checkpoint on all training and test examples, and the number of parameters."""
    parts = {"train": (split.train_x, split.train_y), "test": (split.test_x, split.test_y)}
    found = {
        str(epoch): {
            f"{part}_{name}": value
            for part, (x, y) in parts.items()
            for name, value in quality(build, state, x, y, device).items()
        }
        for epoch, state in states.items()
    }
    return {"checkpoints": found, "parameters": sum(parameter.numel() for parameter in built(build).parameters())}


def initial_weights(build: Callable[[], nn.Module], seed: int, run: Run) -> nn.Module:
    """The module as the run's stream initialises it."""
    with default_generator(torch_seed(seed, run.stream, "weights")):
        return made(build)


def order(seed: int, run: Run, examples: np.ndarray, epoch: int) -> np.ndarray:
    """The run's examples in the order in which the epoch (from 1) visits them."""
    return stream(seed, run.stream, "order", epoch).permutation(examples)


def tensor(array: np.ndarray) -> Tensor:
    """The array's numbers, in its memory."""
    return torch.from_numpy(np.ascontiguousarray(array))


def stack_size(build: Callable[[], nn.Module], device: torch.device, bytes_a_number: int = 4) -> int:
    """How many runs of a module train best together."""
    trained = sum(parameter.numel() for parameter in built(build).parameters() if parameter.requires_grad)
    room = STACK_BYTES if device.type == "cpu" else DEVICE_BYTES
    return max(1, min(MOST_IN_A_STACK, room // (3 * bytes_a_number * max(1, trained))))


def groups(runs: list[Run], size: int, count: Callable[[Run], int]) -> list[tuple[Run, ...]]:
    """Stacks: consecutive runs, at most `size`, that have equally many examples."""
    found: list[list[Run]] = []
    for run in runs:
        if not found or len(found[-1]) == size or count(run) != count(found[-1][0]):
            found.append([])
        found[-1].append(run)
    return [tuple(group) for group in found]


def _count(run: Run, n: int) -> int:
    return n if run.subset is None else round(run.fraction * n)


def _train_stack(build, path, x, y, runs, recipe, seed, kept, progress, observe) -> Trainings:
    modules = [initial_weights(build, seed, run) for run in runs]
    examples = [run.examples(len(x), seed) for run in runs]
    stack = path(modules, x)
    optimiser = OPTIMISERS[recipe["optimiser"]](recipe, stack.flat.values, stack.flat.buffer)
    count, batch, epochs = len(examples[0]), recipe["batch_size"], recipe["epochs"]
    starts = range(0, count, batch)
    weights, losses = {}, np.empty((len(runs), epochs))
    for epoch in range(1, epochs + 1):
        orders = np.stack([order(seed, run, each, epoch) for run, each in zip(runs, examples, strict=True)])
        shares = _shares(runs, orders, x.device)
        noise = [mask.to(x.device) for mask in masks(stack.dropouts, seed, runs, epoch, count)]
        places, found = torch.from_numpy(orders).to(x.device), []
        for step, start in enumerate(starts):
            rows = slice(start, start + batch)
            batch_places, batch_shares = places[:, rows], None if shares is None else shares[:, rows]
            rate = learning_rate(recipe, (epoch - 1) * len(starts) + step, epochs * len(starts))
            if observe:
                observe(Step(epoch, batch_places, batch_shares, rate), stack.flat.parameters)
            batch_noise = [mask[:, rows] for mask in noise]
            weighed = None if batch_shares is None else batch_shares / batch_shares.sum(1, keepdim=True).clamp(min=1)
            found.append(stack.backward(y, batch_places, weighed, batch_noise, optimiser.decay))
            optimiser.step(rate)
        steps = torch.stack(found).double().numpy(force=True)  # (steps, runs)
        _refuse_divergence(runs, epoch, steps)
        losses[:, epoch - 1] = steps.mean(0)
        if epoch in kept:
            weights[epoch] = {name: values.cpu() for name, values in stack.state().items()}
        progress(len(runs))
    paths.refuse_other_outcome(build, stack, list(map(_named, runs)), x, y, weights[epochs])
    return Trainings(runs, weights, losses)


def _shares(runs: tuple[Run, ...], orders: np.ndarray, device: torch.device) -> Tensor | None:
    """Weights of the ordered examples, (runs, examples): 0 for what a run leaves out. None where nobody does."""
    if not any(run.left_out for run in runs):
        return None
    out = [np.isin(row, run.left_out) for run, row in zip(runs, orders, strict=True)]
    return torch.from_numpy(1 - np.stack(out).astype(np.float32)).to(device)


def _named(run: Run) -> str:
    return f"{run.stream} without {list(run.left_out)}" if run.left_out else run.stream


def _refuse_divergence(runs: tuple[Run, ...], epoch: int, found: np.ndarray):
    steps, places = np.nonzero(~np.isfinite(found))
    if len(steps):
        step, run = int(steps[0]), runs[int(places[0])]
        raise Diverged(
            f"training {_named(run)}: the loss is {found[step, places[0]]} at epoch {epoch}, step {step}; "
            f"lower the learning rate of the recipe"
        )
