"""Ours, in float64 where a run does not say otherwise."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from problem import ARNOLDI_RANK, ARNOLDI_STEPS, CG_STEPS, COMPARED, DAMPING, DAMPINGS, PROJ_DIM, Problem, Work

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from attriflow.data import Split
from attriflow.models import Trained
from attriflow.registry import Registry


def scores(
    problem: Problem, method: str, members: int = 1, cheap: dict | None = None, dtype=torch.float64, **costly
) -> Work:
    """Prepare every member and score them together."""
    module, trained, split = parts(problem, method, members, dtype)

    def call():
        prepared = [module.prepare(member, split, **costly) for member in trained]
        return list(module.score(prepared, **(cheap or {})))[-1]

    return Work(call)


def sweep(problem: Problem) -> Work:
    """Exact influence at every damping: by the Hessian, or by the Fisher matrix where p × p is too large."""
    module, (member,), split = parts(problem, "influence", 1)
    curvature = "hessian" if problem.small else "fisher"

    def call():
        prepared = module.prepare(member, split, curvature=curvature)
        return [next(module.score([prepared], damping=damping)) for damping in DAMPINGS][COMPARED]

    return Work(call)


def trak_unprojected(problem: Problem) -> Work:
    """TRAK of one member on the gradients themselves."""
    return scores(
        problem, "trak", cheap={"damping": DAMPING, "proj_dim": problem.size}, proj_dim=problem.size, projection="none"
    )


def parts(problem: Problem, method: str, members: int, dtype: torch.dtype = torch.float64) -> tuple:
    """The method's module, the trained members, and the data as our methods take it."""
    nothing, one = np.arange(0), np.float64(1)
    train_y = problem.train_y.numpy()
    split = Split(
        problem.train_x.numpy(), train_y, problem.test_x.numpy(), problem.test_y.numpy(), train_y,
        nothing, nothing, 0 * one, one,
    )  # fmt: skip
    trained = [
        Trained(f"full-{place}", 0, problem.model, {1: state}, {1: 1.0}, dtype=dtype)
        for place, state in enumerate(problem.states[:members])
    ]
    return Registry().load("scores", method), trained, split


DAMPED = {"damping": DAMPING}
RUNS = {
    "grad_dot": partial(scores, method="grad_dot"),
    "grad_dot_float32": partial(scores, method="grad_dot", dtype=torch.float32),
    "grad_dot_last": partial(scores, method="grad_dot", parameters="last"),
    "grad_cos": partial(scores, method="grad_cos"),
    "influence": partial(scores, method="influence", cheap=DAMPED, curvature="hessian"),
    "influence_cg": partial(
        scores, method="influence_cg", cheap=DAMPED | {"iterations": CG_STEPS}, iterations=CG_STEPS
    ),
    "influence_arnoldi": partial(
        scores,
        method="influence_arnoldi",
        cheap=DAMPED | {"iterations": ARNOLDI_STEPS, "rank": ARNOLDI_RANK},
        iterations=ARNOLDI_STEPS,
    ),
    "sweep": sweep,
    "datainf": partial(scores, method="datainf", cheap=DAMPED),
    "ekfac": partial(scores, method="ekfac", cheap=DAMPED),
    "ekfac_true": partial(scores, method="ekfac", cheap=DAMPED, curvature="true"),
    "trak_unprojected": trak_unprojected,
} | {
    f"trak_{members}_{kind}": partial(
        scores,
        method="trak",
        members=members,
        cheap=DAMPED | {"proj_dim": PROJ_DIM},
        proj_dim=PROJ_DIM,
        projection=kind,
    )
    for members in (1, 10)
    for kind in ("gaussian", "sjlt")
}
