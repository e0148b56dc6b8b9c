"""pyDVL, in an environment of its own (`requirements-pydvl.txt`): it needs numpy below 2."""

from functools import partial

from problem import ARNOLDI_RANK, DAMPING, Problem, Work
from pydvl.influence.torch import (
    ArnoldiInfluence,
    BlockMode,
    CgInfluence,
    DirectInfluence,
    EkfacInfluence,
    InverseHarmonicMeanInfluence,
)
from torch import nn


def influence(problem: Problem, kind: type, **options) -> Work:
    """A model of its influence family, the training set as one batch."""
    return fitted(problem, kind(problem.filled(), nn.functional.cross_entropy, regularization=DAMPING, **options))


def ekfac(problem: Problem) -> Work:
    """EK-FAC of the Fisher matrix, with the corrected eigenvalues."""
    return fitted(problem, EkfacInfluence(problem.filled(), update_diagonal=True, hessian_regularization=DAMPING))


def fitted(problem: Problem, model) -> Work:
    """Its curvature, and every pair."""
    train, _ = problem.loaders(len(problem.train_y))
    pairs = (problem.test_x, problem.test_y, problem.train_x, problem.train_y)
    return Work(lambda: model.fit(train).influences(*pairs).T)


RUNS = {
    "influence": partial(influence, kind=DirectInfluence),
    "influence_cg": partial(influence, kind=CgInfluence, solve_simultaneously=True),
    "influence_arnoldi": partial(influence, kind=ArnoldiInfluence, rank=ARNOLDI_RANK),
    "datainf": partial(influence, kind=InverseHarmonicMeanInfluence, block_structure=BlockMode.LAYER_WISE),
    "ekfac_true": ekfac,
}
