"""One model alone: what who has nothing but a final model has. Several such ensembles differ in their seed."""

from attriflow.ensembles import Member
from attriflow.hyperparameters import Index
from attriflow.runs import Run


def members(*, model: Index = 0) -> list[Member]:
    """The model of this number: the same as member `model` of an independent ensemble, so it is trained once."""
    return [Member(f"full-{model}", Run(f"models/full-{model}"))]
