"""Several checkpoints of one training run, the baseline that costs no training either."""

from attriflow.ensembles import Member
from attriflow.ensembles._changed import changed
from attriflow.hyperparameters import Epoch, Fraction, PositiveInt


def members(*, count: PositiveInt = 1, epochs: list[Epoch], fraction: Fraction | None = None) -> list[Member]:
    """`count` models, each as it was after every one of these epochs.

    epochs: those that the setting keeps, or 'last', in the order in which smaller ensembles take them. For a method
    the member ends there: 'last' is that epoch, and later checkpoints do not exist. Raises ValueError unless each is
    there once.
    """
    if not epochs or len(set(epochs)) != len(epochs):
        raise ValueError(f"epochs: at least one, and each once, not {epochs}")
    return changed(count, fraction, "checkpoint", [{"epoch": epoch} for epoch in epochs])
