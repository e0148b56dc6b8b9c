"""Models that differ in their seed and, if asked, in the random part of the data that they see."""

from attriflow.ensembles import Member
from attriflow.hyperparameters import Fraction, PositiveInt
from attriflow.runs import Run


def members(*, count: PositiveInt = 1, fraction: Fraction | None = None) -> list[Member]:
    """`count` models, on all training examples or each on its own random `fraction` of them.

    Subsets and seeds come from streams that no ground truth uses; the evaluation checks it (`evaluation.disjoint`).
    """
    if fraction is None:
        return [Member(f"full-{member}", Run(f"models/full-{member}")) for member in range(count)]
    names = [f"part{fraction}-{member}" for member in range(count)]
    return [Member(name, Run(f"models/{name}", subset=f"models/{name}/subset", fraction=fraction)) for name in names]
