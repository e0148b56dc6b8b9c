"""What the kinds share: independently trained models, and changed members of each."""

from attriflow.ensembles import Member
from attriflow.runs import Run


def trained(count: int, fraction: float | None) -> list[Member]:
    """`count` models that differ in their seed, on all training examples or each on its own random `fraction` of them.

    Subsets and seeds come from streams that no ground truth uses; the evaluation checks it (`evaluation.disjoint`).
    """
    if fraction is None:
        return [Member(f"full-{member}", Run(f"models/full-{member}")) for member in range(count)]
    names = [f"part{fraction}-{member}" for member in range(count)]
    return [Member(name, Run(f"models/{name}", subset=f"models/{name}/subset", fraction=fraction)) for name in names]


def changed(count: int, fraction: float | None, kind: str, changes: list[dict]) -> list[Member]:
    """The models of `trained`, each with all changes of a kind, which are numbered from 0."""
    numbered = [{"kind": kind, "number": number} | change for number, change in enumerate(changes)]
    return [Member(model.name, model.run, change) for model in trained(count, fraction) for change in numbered]
