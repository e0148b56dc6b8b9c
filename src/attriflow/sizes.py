"""The size of an ensemble, or of a part of it: so many models, and so many members made of each."""

import re
from dataclasses import dataclass

_WORD = re.compile(r"([1-9][0-9]*)x([1-9][0-9]*)")


@dataclass(frozen=True, order=True)
class EnsembleSize:
    """The first `models` models of an ensemble, each by its first `per_model` members (masks, adapters, ...)."""

    models: int
    per_model: int = 1

    @classmethod
    def read(cls, value: int | str, per_model: int = 1) -> "EnsembleSize":
        """A size as it is written: `5`, so many models, each with all its `per_model` members, or `5x3`.

        Raises ValueError for anything else.

        >>> EnsembleSize.read("5x3") == EnsembleSize.read(5, per_model=3) == EnsembleSize(5, 3)
        True
        """
        if isinstance(value, int) and value >= 1:
            return cls(value, per_model)
        if isinstance(value, str) and (found := _WORD.fullmatch(value)):
            return cls(*map(int, found.groups()))
        raise ValueError(
            f"must be a whole number of at least 1, so many models, or a word such as 5x3, the first 5 models with the "
            f"first 3 members of each, not {value!r}"
        )

    @classmethod
    def named(cls, text: str) -> "EnsembleSize":
        """A size from the name of a point, where all is text."""
        return cls.read(int(text) if text.isdecimal() else text)

    @property
    def members(self) -> int:
        """How many members."""
        return self.models * self.per_model

    @property
    def written(self) -> int | str:
        """As specs and names of arrays have it: `5` where every model is one member, else `5x3`."""
        return self.models if self.per_model == 1 else f"{self.models}x{self.per_model}"

    @property
    def columns(self) -> dict[str, int]:
        """What tables say of it."""
        return {"ensemble_size": self.members, "models": self.models, "per_model": self.per_model}

    def holds(self, model: int, number: int) -> bool:
        """Whether member `number` of a model, both from 0, is among its members."""
        return model < self.models and number < self.per_model

    def within(self, most: int) -> "EnsembleSize":
        """The largest size of at most so many members that is within this one: fewer members of each model first."""
        per_model = min(self.per_model, most)
        return EnsembleSize(min(self.models, most // per_model), per_model)


def read(values: list[int | str]) -> list[EnsembleSize]:
    """Sizes as specs have them."""
    return [EnsembleSize.read(value) for value in values]


def counts(sizes: list[EnsembleSize]) -> list[int]:
    """How many members of each model these sizes take, model by model.

    >>> counts([EnsembleSize(1, 25), EnsembleSize(3, 10)])
    [25, 10, 10]
    """
    models = max(size.models for size in sizes)
    return [max(size.per_model for size in sizes if size.models > model) for model in range(models)]


def largest(sizes: list[EnsembleSize]) -> EnsembleSize:
    """The size of most members; of several the one of most models."""
    return max(sizes, key=lambda size: (size.members, size.models))
