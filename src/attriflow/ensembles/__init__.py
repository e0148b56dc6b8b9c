"""Ensembles: the trained models that a score may look at.

A kind is a file with
    members(*, hyperparameters) -> [Member, ...]
in an order such that the ensemble of size e is the first e members. No torch: a plan is made from it.
"""

from dataclasses import dataclass

from attriflow.runs import Run


@dataclass(frozen=True)
class Member:
    """One member: its name, which is the name of its file in the models room, and the training that makes it."""

    name: str
    run: Run
