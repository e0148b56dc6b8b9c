"""kronfluence."""

import tempfile

from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from problem import DAMPING, Problem, Work
from torch import nn


class Classification(Task):
    """The summed loss, for training and test examples alike."""

    def compute_train_loss(self, batch, model, sample=False):
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="sum")

    def compute_measurement(self, batch, model):
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="sum")


def ekfac(problem: Problem) -> Work:
    """EK-FAC with the empirical Fisher matrix."""
    task = Classification()
    analyzer = Analyzer(
        "bench", prepare_model(problem.filled(), task), task, cpu=True, disable_tqdm=True, disable_model_save=True,
        output_dir=tempfile.mkdtemp(),
    )  # fmt: skip
    train, test = problem.sets()

    def call():
        factors = FactorArguments(strategy="ekfac", use_empirical_fisher=True)
        analyzer.fit_all_factors("f", dataset=train, per_device_batch_size=500, factor_args=factors)
        analyzer.compute_pairwise_scores(
            "s", factors_name="f", query_dataset=test, train_dataset=train, per_device_query_batch_size=len(test),
            per_device_train_batch_size=500, score_args=ScoreArguments(damping_factor=DAMPING),
        )  # fmt: skip
        return analyzer.load_pairwise_scores("s")["all_modules"].T

    return Work(call)


RUNS = {"ekfac": ekfac}
