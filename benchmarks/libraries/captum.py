"""captum. Its losses are sums over a batch, its Hessians too: a damping of the mean is n times as large there."""

from functools import partial

from captum.influence import NaiveInfluenceFunction, TracInCP, TracInCPFast
from captum.influence._core.arnoldi_influence_function import ArnoldiInfluenceFunction
from problem import ARNOLDI_RANK, ARNOLDI_STEPS, DAMPING, Problem, Work
from torch import Tensor, nn

BATCH = 500


def grad_dot(problem: Problem) -> Work:
    """TracIn with one checkpoint of weight 1."""
    return Work(partial(_tracin, problem, TracInCP, sample_wise_grads_per_batch=True))


def grad_dot_last(problem: Problem) -> Work:
    """The same for the last layer alone."""
    return Work(partial(_tracin, problem, TracInCPFast, last=True))


def _tracin(problem: Problem, kind: type, last: bool = False, **options) -> Tensor:
    model, (train, _) = problem.filled(), problem.sets()
    layer = [model[-1]] if last else []
    tracer = kind(
        model, *layer, train, [problem.states[0]], checkpoints_load_func=_load,
        loss_fn=nn.CrossEntropyLoss(reduction="sum"), batch_size=BATCH, **options,
    )  # fmt: skip
    return tracer.influence((problem.test_x, problem.test_y)).T


def influence(problem: Problem) -> Work:
    """The inverse of the Hessian by all of its eigenvalues."""
    return Work(partial(_influence, problem, NaiveInfluenceFunction, projection_dim=problem.size))


def influence_arnoldi(problem: Problem) -> Work:
    """Its low-rank inverse with as many pairs as steps."""
    return Work(
        partial(_influence, problem, ArnoldiInfluenceFunction, projection_dim=ARNOLDI_RANK, arnoldi_dim=ARNOLDI_STEPS)
    )


def _influence(problem: Problem, kind: type, **options) -> Tensor:
    train, _ = problem.sets()
    tracer = kind(
        problem.filled(), train, problem.states[0], checkpoints_load_func=_load,
        loss_fn=nn.CrossEntropyLoss(reduction="sum"), batch_size=BATCH, sample_wise_grads_per_batch=True,
        hessian_reg=DAMPING * len(train), **options,
    )  # fmt: skip
    return tracer.influence((problem.test_x, problem.test_y)).T


def _load(model: nn.Module, state: dict[str, Tensor]) -> float:
    model.load_state_dict(state)
    return 1.0


RUNS = {
    "grad_dot": grad_dot,
    "grad_dot_last": grad_dot_last,
    "influence": influence,
    "influence_arnoldi": influence_arnoldi,
}
