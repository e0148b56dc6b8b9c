"""How far a final model has converged: what the quality of every first-order method turns on."""

import dataclasses

import torch

from attriflow import engine
from attriflow.data import Split
from attriflow.device import CPU
from attriflow.gradients import per_example
from attriflow.models import Trained

_BATCH = 500  # training examples whose gradients are held at once


def measured(trained: Trained, split: Split, device: torch.device = CPU) -> dict[str, float]:
    """Of the final model, in float64:

    lamb, the mean of the squared entries of all training gradients (SOURCE: the authors' notebooks, which measure
    dampings in it); gradient_norm, the length of the gradient of the mean training loss; losses and what else
    `engine.quality` says of the training and the test examples; parameters, how many.
    """
    model = dataclasses.replace(trained, device=device, dtype=torch.float64).model()
    n, squares, total = len(split.train_y), 0.0, 0.0
    for start in range(0, n, _BATCH):
        rows = slice(start, start + _BATCH)
        gradients = per_example(model, split.train_x[rows], split.train_y[rows], "loss")
        squares += float(gradients.squared_norms().sum())
        total = total + gradients.combine(torch.ones(len(gradients), 1, dtype=torch.float64, device=device))
    found = {"lamb": squares / (n * gradients.size), "gradient_norm": float(torch.linalg.norm(total)) / n}
    parts = {"train": (split.train_x, split.train_y), "test": (split.test_x, split.test_y)}
    for part, (x, y) in parts.items():
        quality = engine.quality(trained.build, trained.final, x, y, device)
        found |= {f"{part}_{name}": value for name, value in quality.items()}
    return found | {"parameters": gradients.size}
