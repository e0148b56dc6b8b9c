"""Further training of one final model, on all examples and without one of them, for a chosen list.

The gold standard for who has nothing but a trained model and its data (Wei et al. 2025, arXiv:2412.03906): how would
its losses differ if it were trained on without an example? A truth belongs to the model that it starts from, not to
the recipe that made it. `engine.further` trains; runs of one seed share the order of examples and the dropout masks.
"""

from typing import Literal

import numpy as np

from attriflow.amounts import steps
from attriflow.hyperparameters import Examples, NonNegative, Positive, PositiveInt, Probability
from attriflow.runs import Run
from attriflow.streams import stream


def runs(n: int, name: str, seed: int, *, examples: Examples, seeds: PositiveInt = 10) -> dict[int, list[Run]]:
    """For every seed one run on all examples and one without each of `examples` (a number to draw, or indices).

    Streams do not bear the truth's name: estimators, optimisers and final models are compared on the same orders.
    Raises ValueError for indices beyond the data and for fewer than two examples.
    """
    if isinstance(examples, int):
        examples = sorted(stream(seed, "further", "examples").permutation(n)[:examples].tolist())
    if beyond := [index for index in examples if index >= n]:
        raise ValueError(f"examples: {beyond} lies beyond the {n} training examples (0 to {n - 1})")
    if len(examples) < 2:
        raise ValueError(f"examples: {len(examples)} left out; scores are centred on their mean, so at least 2")
    return {
        number: [
            Run(f"further/{number}"),
            *(Run(f"further/{number}", left_out=(index,)) for index in examples),
        ]
        for number in range(seeds)
    }


def training(
    n: int,
    *,
    learning_rate: Positive,
    batch_size: PositiveInt,
    amounts: list[Positive],
    optimiser: Literal["sgd", "adam", "adamw"] = "sgd",
    momentum: Probability = 0.0,
    weight_decay: NonNegative = 0.0,
    estimator: Literal["deletion", "subtraction"] = "deletion",
    dropout: bool = True,
    precision: Literal["float32", "float64"] = "float32",
) -> dict:
    """How every run trains on, as `engine.further.train` takes it; the learning rate is constant, all else begins anew.

    amounts: after how much further training the losses are measured, in epochs, ascending; parts of one are allowed,
    and are rounded to whole steps. precision: of training; losses are measured in float64 in any case.
    Raises ValueError for amounts that do not ascend or round to the same step, and for momentum of Adam.
    """
    if not amounts or amounts != sorted(set(amounts)):
        raise ValueError(f"amounts: at least one, and ascending, not {amounts}")
    if optimiser != "sgd" and momentum:
        raise ValueError(f"momentum: only sgd takes it; {optimiser} must leave it 0")
    for count in (n, n - 1):
        taken = steps(amounts, count, batch_size)
        if same := [each for each, step, later in zip(amounts, taken, taken[1:], strict=False) if step == later]:
            an_epoch = steps([1], count, batch_size)[0]
            raise ValueError(
                f"amounts: {same} epochs round to the same step as the next; an epoch has {an_epoch} steps"
            )
    recipe = {
        "optimiser": optimiser,
        "learning_rate": learning_rate,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "batch_size": batch_size,
    }
    return {
        "recipe": recipe,
        "amounts": amounts,
        "estimator": estimator,
        "dropout": dropout,
        "precision": precision,
    }


def collect(runs: dict[int, list[Run]], outputs: dict[int, dict[str, np.ndarray]], n: int, seed: int) -> dict:
    """Test losses after further training, NaN of runs that diverged; all of them float64.

    left_out (l,) indices; loss (l, r, a, m) without them; full (r, a, m) with all examples; dropped (d, 3): the index
    that was left out (-1: none), the seed and the step of every run that diverged.
    """
    left_out = np.array([run.left_out[0] for run in runs[0][1:]])
    every = np.stack([outputs[number]["loss"] for number in sorted(outputs)], axis=1)  # (1 + l, r, a, m)
    diverged = np.stack([outputs[number]["diverged"] for number in sorted(outputs)], axis=1)  # (1 + l, r)
    places, seeds = np.nonzero(diverged)
    dropped = np.stack([np.append(-1, left_out)[places], seeds, diverged[places, seeds]], axis=1)
    return {"left_out": left_out, "loss": every[1:], "full": every[0], "dropped": dropped}
