"""Evaluation: how well scores predict what retraining says.

A kind is a file with
    TRUTH = "subsets"                                                   the kind of ground truth that it reads
    evaluate(scores, truth, *, seed, resamples, confidence) -> rows     for every (name, (n, m)) of `scores`
A row is a mapping with point (the name), output, value, low, high, ceiling, how many rows (subsets, left-out examples)
and test_examples it is a mean over, how many further test examples are constant and left out, first_half and
second_half, the value on the rows of even and of odd number, and effects (`attriflow.intervals.Effects`), what rows and
test examples do to the value: those of a difference on one truth are differences of effects. A metric may leave effects
out; then nothing it measures has an interval of a difference. resamples: how many numbers effects may keep of what rows
and test examples do together.
"""

from attriflow.runs import Run


def disjoint(members: list[Run], truth: list[Run], n: int, seed: int):
    """Raise ValueError if an ensemble's member shares a random stream or a subset with the ground truth.

    A member that saw what a ground-truth model saw makes any score look good.
    """
    streams = {run.stream for run in truth}
    subsets = {run.examples(n, seed).tobytes(): run.stream for run in truth if run.subset is not None}
    for member in members:
        if member.stream in streams:
            raise ValueError(f"ensemble member {member.stream} is also a model of the ground truth")
        if member.subset is not None and (twin := subsets.get(member.examples(n, seed).tobytes())):
            raise ValueError(f"ensemble member {member.stream} was trained on the same subset as ground truth {twin}")
