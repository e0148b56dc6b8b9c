"""100 subset trainings of the MNIST MLP: the batched engine against loops that people write.

Every round trains with each way in turn, the engine on two processes of one thread as the pipeline runs it, the loops
as they are run: one process, torch's own number of threads. The naive loops train fewer models a round and are scaled
up; ratios are medians over rounds.
"""

import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from attriflow import engine
from attriflow.ground_truth import subsets
from attriflow.models import mlp

MODELS, NAIVE_MODELS, ROUNDS = 100, 3, 3
RECIPE = {
    "optimiser": "sgd", "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.0, "schedule": "constant",
    "batch_size": 64, "epochs": 50,
}  # fmt: skip
BUILD = partial(mlp.build, (1, 28, 28), 10)


def run():
    """Rows of the results table."""
    pixels, labels = data(5000)
    x = ((pixels / 255.0 - 0.1307) / 0.3081).astype(np.float32)
    runs = subsets.runs(len(x), "bench", 0, count=MODELS // 2, repeats=2)
    every = [run for repeat in runs.values() for run in repeat]
    ways = {
        "DataLoader over tensors": TensorDataset(torch.from_numpy(x), torch.from_numpy(labels)),
        "DataLoader that normalises each image": Images(pixels, labels),
    }
    seconds = {name: [] for name in ("ours", "floor", *ways)}
    for _ in range(ROUNDS):
        seconds["ours"].append(batched(x, labels, every))
        seconds["floor"].append(products_alone())
        for name, dataset in ways.items():
            seconds[name].append(naive(dataset, every[:NAIVE_MODELS]) * MODELS / NAIVE_MODELS)
    floor = statistics.median(each / ours for each, ours in zip(seconds["floor"], seconds["ours"], strict=True))
    for name in ways:
        yield {
            "case": "MNIST MLP 784-128-64-10, 2500 examples, 50 epochs",
            "method": f"{MODELS} subset trainings",
            "peer": name,
            "ours_seconds": round(statistics.median(seconds["ours"]), 1),
            "peer_seconds": round(statistics.median(seconds[name]), 1),
            "ratio": round(statistics.median(b / a for a, b in zip(seconds["ours"], seconds[name], strict=True)), 2),
            "goal": 7,
            "rounds": ROUNDS,
            "note": f"matrix products alone, at this machine's peak, would take {floor:.0%} of our time",
        }


def data(count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` images (N, 1, 28, 28) of 0 to 255 and labels."""
    mirror = os.environ.get("ATTRIFLOW_DATA_MIRROR")
    if mirror:
        from attriflow.data.mnist import read_idx

        folder = Path(mirror, "mnist")
        pixels = read_idx(folder / "train-images-idx3-ubyte.gz")[:count, None]
        return pixels, read_idx(folder / "train-labels-idx1-ubyte.gz")[:count].astype(np.int64)
    random = np.random.default_rng(0)
    return random.integers(0, 256, (count, 1, 28, 28), np.uint8), random.integers(0, 10, count)


class Images(Dataset):
    """Images that are scaled and normalised when they are asked for, as image data sets commonly are."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray):
        self.pixels, self.labels = torch.tensor(pixels), labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        return self.pixels[index].float().div(255).sub(0.1307).div(0.3081), self.labels[index]


def batched(x: np.ndarray, y: np.ndarray, runs: list) -> float:
    """Seconds of our engine, runs split over two processes, start of the processes included."""
    started = time.perf_counter()
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_train, [x] * 2, [y] * 2, [runs[::2], runs[1::2]]))
    return time.perf_counter() - started


def _train(x, y, runs):
    for _ in engine.train(BUILD, x, y, runs, RECIPE, 0):
        pass


def naive(dataset: Dataset, runs: list) -> float:
    """Seconds of a DataLoader loop, one model after the other."""
    started = time.perf_counter()
    for run in runs:
        model = BUILD()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        chosen = Subset(dataset, run.examples(len(dataset), 0).tolist())
        loader = DataLoader(chosen, batch_size=64, shuffle=True)
        for _ in range(RECIPE["epochs"]):
            for x, y in loader:
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimiser.step()
    return time.perf_counter() - started


def products_alone() -> float:
    """Seconds that the matrix products of all trainings would take at the speed of large ones on all threads."""
    widths = [784, 128, 64, 10]
    products = [2 * a * b for a, b in pairwise(widths)]
    # forward and weight gradient of every layer, input gradient of all but the first
    per_example = 2 * sum(products) + sum(products[1:])
    work = per_example * 2500 * RECIPE["epochs"] * MODELS
    a = torch.rand(2000, 2000)
    torch.mm(a, a)
    started = time.perf_counter()
    for _ in range(5):
        torch.mm(a, a)
    return work / (5 * 2 * 2000**3 / (time.perf_counter() - started))
