"""Several random projections of the same gradients, a control: what of an ensemble's gain is their average alone?"""

from attriflow.ensembles import Member
from attriflow.ensembles._changed import changed
from attriflow.hyperparameters import Fraction, PositiveInt


def members(*, count: PositiveInt = 1, projections: PositiveInt, fraction: Fraction | None = None) -> list[Member]:
    """`count` models, each whole under so many projections, those of the masks of a dropout ensemble."""
    return changed(count, fraction, "projection", [{}] * projections)
