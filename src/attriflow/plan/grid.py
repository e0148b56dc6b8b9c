"""Grids: the values of a method's hyperparameters, as what is prepared and what is scored."""

import itertools
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass

from attriflow import sizes
from attriflow.hyperparameters import RULES
from attriflow.pairs import SIZE
from attriflow.registry import Registry


@dataclass(frozen=True)
class Grid:
    """The values of a method's hyperparameters, split by the signatures of its two functions.

    What only `prepare` takes is costly, what only `score` takes is cheap. What both take is a prefix: prepared once
    at its largest value, scored at each.
    """

    prepare: dict[str, list]
    score: dict[str, list]

    @classmethod
    def of(cls, registry: Registry, entry: dict) -> "Grid":
        """The grid of one entry of `methods`; defaults stand in for what it leaves out."""

        def values(function: str) -> dict[str, list]:
            found = {}
            for name, hyperparameter in registry.hyperparameters("scores", entry["kind"], function).items():
                value = entry.get(name, hyperparameter.default)
                found[name] = value if isinstance(value, list) else [value]
            return found

        return cls(values("prepare"), values("score"))

    def prefixes(self) -> dict:
        """The largest value of each prefix."""
        return {name: max(values) for name, values in self.prepare.items() if name in self.score}

    def costly(self) -> list[dict]:
        """Every costly point."""
        return _product({name: values for name, values in self.prepare.items() if name not in self.score})

    def cheap(self, names: Container[str] | None = None) -> list[dict]:
        """Every cheap point; of some hyperparameters alone where these are named."""
        return _product({name: values for name, values in self.score.items() if names is None or name in names})


def several_values(entry: dict, written: list[int | str]) -> set[str]:
    """What a method's entry has several values of, at ensembles of these sizes; dampings that a rule chooses are none.

    Several sizes are those of as many members of each model.
    """
    most = max(Counter(size.per_model for size in sizes.read(written)).values(), default=0)
    grid = entry | {SIZE: list(range(most))}
    lists = {name: values for name, values in grid.items() if isinstance(values, list) and name != "skip"}
    return {name for name, values in lists.items() if len([value for value in values if value not in RULES]) > 1}


def _product(grid: dict[str, list]) -> list[dict]:
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
