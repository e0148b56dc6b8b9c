"""A training run in words: which examples, and which random stream. No torch, so a plan can be made without it."""

from dataclasses import asdict, dataclass

import numpy as np

from attriflow.streams import stream


@dataclass(frozen=True)
class Run:
    """One training of a setting's model.

    stream: name of its random stream: initial weights, order of examples, dropout masks.
    subset: name of the stream that draws its training examples; None trains on all of them.
    fraction: share of the training examples that `subset` draws.
    left_out: indices that keep their place in the order of the examples but carry no weight, so that a run and its
        leave-one-out twin (same stream) see the same batches, but for that example.
    """

    stream: str
    subset: str | None = None
    fraction: float | None = None
    left_out: tuple[int, ...] = ()

    def as_dict(self) -> dict:
        """For a spec; `Run(**as_dict)` reads it back."""
        return asdict(self) | {"left_out": list(self.left_out)}

    @classmethod
    def from_dict(cls, content: dict) -> "Run":
        """The run that `as_dict` described."""
        return cls(**(content | {"left_out": tuple(content["left_out"])}))

    def examples(self, n: int, seed: int) -> np.ndarray:
        """Indices of the examples in its order, ascending, before `left_out` loses its weight."""
        if self.subset is None:
            return np.arange(n)
        size = round(self.fraction * n)
        if not 0 < size < n:
            raise ValueError(f"fraction: {self.fraction} of {n} training examples leaves {size}; expected 1 to {n - 1}")
        return np.sort(stream(seed, self.subset).permutation(n)[:size])

    def mask(self, n: int, seed: int) -> np.ndarray:
        """Which of the n training examples it learns from, (n,) bool."""
        mask = np.zeros(n, bool)
        mask[self.examples(n, seed)] = True
        mask[list(self.left_out)] = False
        return mask
