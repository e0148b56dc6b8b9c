"""Ensembles: the trained models that a score may look at.

A kind is a file with
    members(*, hyperparameters) -> [Member, ...]
in an order such that the ensemble of size e is the first e members. No torch: a plan is made from it. A member's name
ends in its number, `full-0`: of the checkpoints of a setting that is not trained it is the one of that number.
"""

from dataclasses import dataclass

from attriflow.runs import Run


@dataclass(frozen=True)
class Member:
    """One member: its name, which is the name of its file in the models room, and the training that makes it."""

    name: str
    run: Run

    @property
    def number(self) -> int:
        """Which of the models that differ in their seed alone it is, from 0: the end of its name."""
        return int(self.name.rpartition("-")[2])
