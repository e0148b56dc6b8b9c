"""What every library starts from, and what its run is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

DAMPING = 0.01
DAMPINGS = np.geomspace(1e-3, 1.0, 10).tolist()
COMPARED = 6  # of the dampings of a sweep: the one, 0.1, whose scores are compared
PROJ_DIM = 512
SWEEP_STEPS, CG_STEPS = 10, 30  # of conjugate gradients: 30 are converged on the logistic problem at DAMPING
ARNOLDI_STEPS, ARNOLDI_RANK = 200, 50  # SOURCE: the defaults of captum


@dataclass(frozen=True)
class Work:
    """What is timed, made by a library: a function that gives the scores (n, m), or (n, fewer) of the first tests.

    scaled: how many times as long all test examples and dampings would take.
    """

    call: Callable[[], np.ndarray | Tensor]
    scaled: float = 1


class Problem:
    """A trained perceptron and its data, as `trained.py` saved them."""

    def __init__(self, folder: Path):
        arrays = np.load(folder / "data.npz", allow_pickle=False)
        self.train_x, self.train_y, self.test_x, self.test_y = (
            torch.from_numpy(arrays[name]) for name in ("train_x", "train_y", "test_x", "test_y")
        )
        self.states = torch.load(folder / "weights.pt", weights_only=True)
        self.widths = arrays["widths"].tolist()

    @property
    def size(self) -> int:
        """Parameters, p."""
        return sum(value.numel() for value in self.states[0].values())

    @property
    def small(self) -> bool:
        """Whether every library can do all of it within minutes."""
        return len(self.train_y) <= 1000

    def model(self) -> nn.Sequential:
        """The architecture, flat inputs."""
        layers: list[nn.Module] = []
        for a, b in zip(self.widths[:-2], self.widths[1:-1], strict=True):
            layers += [nn.Linear(a, b), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(*self.widths[-2:]))

    def filled(self, member: int = 0) -> nn.Sequential:
        """The architecture with a member's weights."""
        model = self.model()
        model.load_state_dict(self.states[member])
        return model.eval()

    def sets(self, tests: int | None = None) -> tuple[TensorDataset, TensorDataset]:
        """Training and test examples in their order."""
        return (
            TensorDataset(self.train_x, self.train_y),
            TensorDataset(self.test_x[:tests], self.test_y[:tests]),
        )

    def loaders(self, batch: int, tests: int | None = None) -> tuple[DataLoader, DataLoader]:
        """The same in batches."""
        train, test = self.sets(tests)
        return DataLoader(train, batch_size=batch), DataLoader(test, batch_size=batch)
