"""Retraining without one training example, for a chosen list of them.

A run and its leave-one-out twins share their random stream (initial weights, order of examples, dropout masks), so
what differs between their outputs is the example and what its absence sets off, not another seed.
"""

import numpy as np

from attriflow.hyperparameters import Examples, PositiveInt
from attriflow.runs import Run
from attriflow.streams import stream


def runs(n: int, name: str, seed: int, *, examples: Examples, repeats: PositiveInt = 1) -> dict[int, list[Run]]:
    """One run on all examples and one without each of `examples` (a number of them to draw, or their indices)."""
    if isinstance(examples, int):
        examples = sorted(stream(seed, name, "examples").permutation(n)[:examples].tolist())
    if beyond := [index for index in examples if index >= n]:
        raise ValueError(f"examples: {beyond} lies beyond the {n} training examples (0 to {n - 1})")
    # ASSUME: left out means that the example carries weight 0 in its batch, whose mean is then over the others;
    # batches, masks and the number of steps stay those of the training on all examples.
    return {
        repeat: [Run(f"{name}/{repeat}"), *(Run(f"{name}/{repeat}", left_out=(index,)) for index in examples)]
        for repeat in range(repeats)
    }


def collect(runs: dict[int, list[Run]], outputs: dict[int, dict[str, np.ndarray]], n: int, seed: int) -> dict:
    """left_out (l,) indices; loss and margin (l, r, m): without the example, minus with all of them."""
    arrays = {"left_out": np.array([run.left_out[0] for run in runs[0][1:]])}
    for output in outputs[0]:
        differences = [outputs[repeat][output][1:] - outputs[repeat][output][:1] for repeat in sorted(outputs)]
        arrays[output] = np.stack(differences, axis=1)  # (l, r, m)
    return arrays
