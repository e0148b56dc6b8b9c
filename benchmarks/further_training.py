"""Further training of a narrow perceptron without one example at a time: the engine against a loop that people write.

The shape of the paper's Energy protocol: an MLP 8-128-128 on 691 examples, batches of 128, 100 left-out examples. The
engine runs on two processes of one thread as the pipeline runs it, the loop on one thread, which is faster than two for
products so small, one model after the other. A round trains each way; the loop trains fewer models and is scaled up.
Random inputs of this shape: no time depends on what they show.
"""

import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import nn

from attriflow.engine import further
from attriflow.models import mlp
from attriflow.runs import Run

N, TESTS, LEFT_OUT, ALONE, EPOCHS, ROUNDS = 691, 77, 100, 3, 50, 3
AMOUNTS = [1 / 6, 1, 2, 5, 10, 20, EPOCHS]
RECIPE = {"optimiser": "sgd", "learning_rate": 0.03, "momentum": 0.0, "weight_decay": 0.0, "batch_size": 128}
BUILD = partial(mlp.build, (8,), 2, hidden=[128, 128], dropout=0.0)


def run():
    """Rows of the results table."""
    for estimator in further.ESTIMATORS:
        ours, alone = [], []
        for _ in range(ROUNDS):
            ours.append(batched(estimator))
            alone.append(one_by_one(estimator) * LEFT_OUT / ALONE)
        steps = LEFT_OUT * further.steps([EPOCHS], N, RECIPE["batch_size"])[0]
        yield {
            "case": f"MLP 8-128-128-2, {N} examples, {EPOCHS} epochs of further training",
            "method": f"{LEFT_OUT} left-out examples, {estimator}",
            "peer": "loop, one model after the other",
            "ours_seconds": round(statistics.median(ours), 1),
            "peer_seconds": round(statistics.median(alone), 1),
            "ratio": round(statistics.median(b / a for a, b in zip(ours, alone, strict=True)), 2),
            "goal": 2,
            "rounds": ROUNDS,
            "note": f"{statistics.median(ours) / steps * 1e6:.0f} microseconds a model and step on two cores",
        }


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training inputs and labels, test inputs and labels."""
    random = np.random.default_rng(0)
    x = random.standard_normal((N + TESTS, 8)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    return x[:N], y[:N], x[N:], y[N:]


def weights() -> dict[str, torch.Tensor]:
    """Where every run starts."""
    torch.manual_seed(0)
    return BUILD().state_dict()


def batched(estimator: str) -> float:
    """Seconds of our engine, runs split over two processes, start of the processes included."""
    runs = [Run("further/0", left_out=(index,)) for index in range(0, 7 * LEFT_OUT, 7) if index < N]
    runs += [Run("further/0", left_out=(index,)) for index in range(1, 1 + LEFT_OUT - len(runs))]
    started = time.perf_counter()
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_train, [runs[::2], runs[1::2]], [estimator] * 2))
    return time.perf_counter() - started


def _train(runs: list[Run], estimator: str):
    for _ in further.train(BUILD, weights(), *data(), runs, RECIPE, 0, amounts=AMOUNTS, estimator=estimator):
        pass


def one_by_one(estimator: str) -> float:
    """Seconds of a loop over shuffled batches, tests measured at the same amounts."""
    x, y, test_x, test_y = map(torch.from_numpy, data())
    wanted = further.steps(AMOUNTS, N, RECIPE["batch_size"])
    loss = nn.functional.cross_entropy
    torch.set_num_threads(1)
    started = time.perf_counter()
    for index in range(ALONE):
        model, step = BUILD(), 0
        model.load_state_dict(weights())
        optimiser = torch.optim.SGD(model.parameters(), lr=RECIPE["learning_rate"])
        for _ in range(EPOCHS):
            order = torch.randperm(N)
            order = order[order != index] if estimator == "deletion" else order
            for rows in order.split(RECIPE["batch_size"]):
                objective = loss(model(x[rows]), y[rows])
                if estimator == "subtraction":
                    objective = objective - loss(model(x[[index]]), y[[index]]) / N
                optimiser.zero_grad()
                objective.backward()
                optimiser.step()
                step += 1
                if step in wanted:
                    with torch.no_grad():
                        loss(model(test_x), test_y, reduction="none")
    return time.perf_counter() - started
