"""Dropout in gradients and kernels alone, a control: the residuals Q of TRAK are those of the whole models."""

from attriflow.ensembles import Member
from attriflow.ensembles._changed import changed
from attriflow.hyperparameters import Fraction, PositiveInt, Probability


def members(
    *,
    count: PositiveInt = 1,
    masks: PositiveInt,
    rate: Probability | None = None,
    fresh: bool = False,
    fraction: Fraction | None = None,
) -> list[Member]:
    """As `dropout`; the same where a method has no residuals."""
    change = {"rate": rate, "fresh": fresh, "parts": ["gradients"]}
    return changed(count, fraction, "dropout", [change] * masks)
