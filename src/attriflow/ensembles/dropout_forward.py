"""Forward-only dropout ensemble: masks in the residuals Q of TRAK alone, gradients of the whole models.

Deng, Li, Zhang and Ma 2024, arXiv:2405.17293: gradients and kernels of every model are made once, and a mask costs one
forward pass over the training examples. It is the control in which dropout acts on Q alone.
"""

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
    """As `dropout`, for methods that have residuals."""
    change = {"rate": rate, "fresh": fresh, "parts": ["residuals"]}
    return changed(count, fraction, "dropout", [change] * masks)
