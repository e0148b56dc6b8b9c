"""Gaussian noise matched to dropout, a control: is it sub-networks that help, or any noise of that size?"""

from attriflow.ensembles import Member
from attriflow.ensembles._changed import changed
from attriflow.hyperparameters import Fraction, PositiveInt, Probability


def members(
    *, count: PositiveInt = 1, masks: PositiveInt, rate: Probability | None = None, fraction: Fraction | None = None
) -> list[Member]:
    r"""`count` models, each under so many masks of Gaussian factors at its dropout layers, one for every unit.

    A factor has mean 1 and the variance p / (1 - p) of dropout's at rate p: noise on the weights that leave the unit.
    rate: p; null is each layer's own. Source: Srivastava et al. 2014, J. Mach. Learn. Res. 15, section 10.
    """
    return changed(count, fraction, "gaussian", [{"rate": rate}] * masks)
