"""The problems: data, and models trained on it, saved for every library."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import retraining
import torch
from sklearn.datasets import load_digits

from attriflow import engine
from attriflow.models import mlp
from attriflow.runs import Run

MEMBERS = 10
RECIPE = {
    "optimiser": "sgd", "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.0, "schedule": "constant",
    "batch_size": 64, "epochs": 10,
}  # fmt: skip


def digits() -> tuple[np.ndarray, ...]:
    """1000 and 200 images of 64 pixels."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[:1200]
    x = (x[order] / 16).astype(np.float32)
    return x[:1000], y[order][:1000], x[1000:], y[order][1000:]


def mnist() -> tuple[np.ndarray, ...]:
    """5000 and 500 images of 784 pixels."""
    pixels, labels = retraining.data(5500)
    x = (pixels.reshape(len(pixels), -1) / 255).astype(np.float32)
    return x[:5000], labels[:5000], x[5000:], labels[5000:]


@dataclass(frozen=True)
class Setting:
    """What a problem is made from: its name in the table, its data, the widths of its hidden layers."""

    title: str
    data: Callable[[], tuple[np.ndarray, ...]]
    hidden: list[int]


SETTINGS = {
    # its Hessian is positive semi-definite, so all libraries mean the same by its inverse
    "digits_logistic": Setting("digits logistic 64-10, 1000 x 200", digits, []),
    "digits_mlp": Setting("digits MLP 64-32-10, 1000 x 200", digits, [32]),
    "mnist_mlp": Setting("MNIST MLP 784-128-64-10, 5000 x 500", mnist, [128, 64]),
}


def save(setting: Setting, folder: Path):
    """Train the members and save what `problem.Problem` reads."""
    train_x, train_y, test_x, test_y = setting.data()
    width = train_x.shape[1]
    build = partial(mlp.build, (width,), 10, hidden=setting.hidden, dropout=0.0)
    runs = [Run(f"models/full-{member}") for member in range(MEMBERS)]
    states = []
    for stack in engine.train(build, train_x, train_y, runs, RECIPE, 0):
        for place in range(len(stack.runs)):
            states.append(_flat_inputs(stack.state(place, RECIPE["epochs"])))
    torch.save(states, folder / "weights.pt")
    np.savez(
        folder / "data.npz", train_x=train_x, train_y=train_y.astype(np.int64), test_x=test_x,
        test_y=test_y.astype(np.int64), widths=[width, *setting.hidden, 10],
    )  # fmt: skip


def _flat_inputs(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a model without its first layer, which flattens."""
    places = {key: key.split(".") for key in state}
    return {f"{int(place) - 1}.{name}": state[key] for key, (place, name) in places.items()}
