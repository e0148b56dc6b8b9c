"""dattri. The training set is one batch wherever a curvature is cached: of several it sums the inverses."""

from functools import partial

import dattri.algorithm.influence_function as family
import torch
from dattri.algorithm.tracin import TracInAttributor
from dattri.algorithm.trak import TRAKAttributor
from dattri.task import AttributionTask
from problem import (
    ARNOLDI_RANK,
    ARNOLDI_STEPS,
    CG_STEPS,
    COMPARED,
    DAMPING,
    DAMPINGS,
    PROJ_DIM,
    SWEEP_STEPS,
    Problem,
    Work,
)
from torch import nn

SWEEP_TESTS, DATAINF_TESTS = 50, 10  # all would take an hour and more on MNIST


def task(problem: Problem, members: int = 1, *, single: bool, margin: bool = False):
    """Its task; losses of a batch, or of a single example, as its attributors ask for."""
    model = problem.filled()

    def loss(parameters, data):
        x, y = (each[None] if single else each for each in data)
        values = nn.functional.cross_entropy(torch.func.functional_call(model, parameters, (x,)), y)
        if margin:
            p = torch.exp(-values)
            return torch.log(p) - torch.log1p(-p)
        return values

    return AttributionTask(loss_func=loss, model=model, checkpoints=problem.states[:members])


def grad_dot(problem: Problem, normalised: bool = False) -> Work:
    """TracIn with one checkpoint of weight 1 and no projection."""
    attributor = TracInAttributor(
        task(problem, single=True), weight_list=torch.ones(1), normalized_grad=normalised
    )  # fmt: skip
    attributor.projector_kwargs = None  # otherwise it projects to 512 dimensions
    return Work(lambda: attributor.attribute(*problem.loaders(512)))


def inner(problem: Problem, name: str, tests: int | None = None, points: int = 1, **options) -> Work:
    """An attributor of its influence family at one of `points` dampings, on some test examples of a large problem."""
    attributor = getattr(family, name)(task(problem, single=False), **options)
    tests = len(problem.test_y) if problem.small or tests is None else tests
    train, test = problem.loaders(len(problem.train_y), tests)

    def call():
        attributor.cache(train)
        return attributor.attribute(train, test)

    return Work(call, points * len(problem.test_y) / tests)


def trak(problem: Problem, members: int = 1, regularization: float = 0.0, **projector) -> Work:
    """TRAK with a projection of its own."""
    model = problem.filled()

    def probability(parameters, data):
        x, y = data
        logits = torch.func.functional_call(model, parameters, (x[None],))
        return torch.exp(-nn.functional.cross_entropy(logits, y[None]))

    attributor = TRAKAttributor(
        task(problem, members, single=True, margin=True), probability, regularization=regularization,
        projector_kwargs=projector | {"device": "cpu"},
    )  # fmt: skip
    train, test = problem.loaders(512)

    def call():
        attributor.cache(train)
        return attributor.attribute(test)

    return Work(call)


def trak_unprojected(problem: Problem) -> Work:
    """TRAK on the gradients themselves, at our damping in its units."""
    damping = DAMPING * len(problem.train_y) / problem.size
    return trak(problem, regularization=damping, proj_dim=problem.size, proj_type="identity")


RUNS = {
    "grad_dot": grad_dot,
    "grad_cos": partial(grad_dot, normalised=True),
    "influence": partial(inner, name="IFAttributorExplicit", regularization=DAMPING),
    "influence_cg": partial(inner, name="IFAttributorCG", max_iter=CG_STEPS, regularization=DAMPING),
    "influence_arnoldi": partial(
        inner, name="IFAttributorArnoldi", max_iter=ARNOLDI_STEPS, proj_dim=ARNOLDI_RANK, regularization=DAMPING
    ),
    "sweep": partial(
        inner, name="IFAttributorCG", tests=SWEEP_TESTS, points=len(DAMPINGS), max_iter=SWEEP_STEPS,
        regularization=DAMPINGS[COMPARED],
    ),
    "datainf": partial(inner, name="IFAttributorDataInf", tests=DATAINF_TESTS, regularization=DAMPING),
    "trak_unprojected": trak_unprojected,
    "trak_1_gaussian": partial(trak, proj_dim=PROJ_DIM, proj_type="normal"),
    "trak_10_gaussian": partial(trak, members=10, proj_dim=PROJ_DIM, proj_type="normal"),
}  # fmt: skip
