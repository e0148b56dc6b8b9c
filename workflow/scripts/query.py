"""Count what one more test example takes, of one member, by one method at every cheap point of a costly one."""

from dataclasses import replace
from types import ModuleType

import numpy as np

from attriflow import flops
from attriflow.data import Split, load_split
from attriflow.hyperparameters import RULES, point_name
from attriflow.io import save_json
from attriflow.job import Job, run
from attriflow.members import of_block
from attriflow.models import builder

_TESTS = (2, 4)  # test examples, whose difference is that of so many queries


def main(job: Job):
    settings, split = job.settings, load_split(job.input("data"))
    build = builder(job.registry, settings["model"], split.shape, split.classes, split.tokens)
    method = job.registry.load("scores", settings["kind"])
    _, _, member = next(of_block(job, build))
    prepared, counts = [], []
    for count in _TESTS:
        with flops.spending() as spent:
            prepared.append(method.prepare(member, of_tests(split, count), **settings["hyperparameters"]))
        counts.append(spent.flops)
    scores = {
        point_name(point): a_query([scoring(method, each, point) for each in prepared]) for point in settings["cheap"]
    }
    save_json(job.outputs["query"], {"prepare": a_query(counts), "score": scores})


def scoring(method: ModuleType, prepared: dict[str, np.ndarray], point: dict) -> int:
    """Operations of scoring one member; a rule's damping costs what any other does."""
    given = point | ({"damping": 1.0} if point.get("damping") in RULES else {})
    with flops.spending() as spent:
        np.asarray(next(iter(method.score(iter([prepared]), **given))))
    return spent.flops


def a_query(counts: list[int]) -> float:
    """Of counts with so many test examples as `_TESTS` the share of one."""
    return (counts[1] - counts[0]) / (_TESTS[1] - _TESTS[0])


def of_tests(split: Split, count: int) -> Split:
    """The split with so many test examples, the first again where there are fewer."""
    places = np.arange(count) % len(split.test_y)
    return replace(split, **{name: getattr(split, name)[places] for name in ("test_x", "test_y", "test_index")})


if __name__ == "__main__":
    run(main)
