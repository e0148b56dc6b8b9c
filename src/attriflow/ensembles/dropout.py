"""Dropout ensemble: every trained model, by many of its sub-networks, at no more training.

Deng, Li, Zhang and Ma 2024, arXiv:2405.17293: masks are drawn for the dropout layers of a trained model, and every
masked model is a member of the ensemble.
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
    """`count` models, as independent ones, each under so many masks of its dropout layers.

    rate: share of the units that a mask drops; null is each layer's own, a number serves models that were trained
    without dropout, too. fresh: every example has a mask of its own, as in training; otherwise a member is one
    sub-network, the same for all training and test examples.
    """
    # ASSUME: the paper of dropout ensembles does not say whether a mask is fixed for a member (its definition reads so)
    # or fresh for every example (the authors' library does that); both are there, and fixed is the default.
    return changed(count, fraction, "dropout", [{"rate": rate, "fresh": fresh}] * masks)
