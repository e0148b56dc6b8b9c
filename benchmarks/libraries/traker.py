"""traker, in full precision on the processor."""

import tempfile
from functools import partial

import numpy as np
import torch
from problem import DAMPING, PROJ_DIM, Problem, Work
from trak import TRAKer
from trak.projectors import BasicProjector, NoOpProjector, ProjectionType


def trak(problem: Problem, members: int = 1) -> Work:
    """TRAK with a Gaussian projection of its own."""
    projector = BasicProjector(
        grad_dim=problem.size, proj_dim=PROJ_DIM, seed=0, proj_type=ProjectionType.normal, device="cpu",
        dtype=torch.float32,
    )  # fmt: skip
    return traced(problem, members, projector, PROJ_DIM, 0.0)


def trak_unprojected(problem: Problem) -> Work:
    """TRAK on the gradients themselves, at our damping in its units."""
    damping = DAMPING * len(problem.train_y) / problem.size
    return traced(problem, 1, NoOpProjector(device="cpu"), problem.size, damping)


def traced(problem: Problem, members: int, projector, proj_dim: int, damping: float) -> Work:
    """The whole of it: gradients, features, scores."""
    tracer = TRAKer(
        model=problem.filled(), task="image_classification", train_set_size=len(problem.train_y), device="cpu",
        save_dir=tempfile.mkdtemp(), projector=projector, proj_dim=proj_dim, lambda_reg=damping,
        use_half_precision=False, logging_level=50,
    )  # fmt: skip
    train, test = problem.loaders(500)

    def call():
        for member in range(members):
            tracer.load_checkpoint(problem.states[member], model_id=member)
            for x, y in train:
                tracer.featurize(batch=(x, y), num_samples=len(y))
        tracer.finalize_features()
        for member in range(members):
            tracer.start_scoring_checkpoint(
                "test", problem.states[member], model_id=member, num_targets=len(problem.test_y)
            )
            for x, y in test:
                tracer.score(batch=(x, y), num_samples=len(y))
        return np.asarray(tracer.finalize_scores("test"))

    return Work(call)


RUNS = {
    "trak_unprojected": trak_unprojected,
    "trak_1_gaussian": trak,
    "trak_10_gaussian": partial(trak, members=10),
}
