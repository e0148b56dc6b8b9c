"""Models that differ in their seed and, if asked, in the random part of the data that they see."""

from attriflow.ensembles import Member
from attriflow.ensembles._changed import trained
from attriflow.hyperparameters import Fraction, PositiveInt


def members(*, count: PositiveInt = 1, fraction: Fraction | None = None) -> list[Member]:
    """`count` models, on all training examples or each on its own random `fraction` of them."""
    return trained(count, fraction)
