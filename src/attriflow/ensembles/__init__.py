"""Ensembles: the trained models that a score may look at, and what its members do to them.

A kind is a file with
    members(*, hyperparameters) -> [Member, ...]
model by model, as many members of each, in an order such that the first I models with the first D members of each are
an ensemble, too. No torch: a plan is made from it. A member's name is that of its model and ends in its number,
`full-0`: of the checkpoints of a setting that is not trained it is the one of that number. Members of one model differ
in their change alone; the model is trained once.
"""

from dataclasses import dataclass, field

from attriflow.runs import Run
from attriflow.sizes import EnsembleSize


@dataclass(frozen=True)
class Member:
    """One member: a trained model, and a change of it.

    name: of the model's file in the models room. run: the training that makes it. change: what the member does to the
    model before its scores are taken, as `attriflow.changes` reads it, nothing where it is empty: `kind`; `number`, its
    place among the members of the model; `parts`, those of a score that it acts on, "gradients" and "residuals" where
    they are not said; and what the kind takes.
    """

    name: str
    run: Run
    change: dict = field(default_factory=dict)

    @property
    def number(self) -> int:
        """Which of the models that differ in their seed alone it is, from 0: the end of its name."""
        return int(self.name.rpartition("-")[2])


def by_model(members: list[Member]) -> dict[str, list[Member]]:
    """Name of a model -> its members, in their order.

    Raises ValueError where members of one model are apart or of several trainings, or where models have unequally many.
    """
    found: dict[str, list[Member]] = {}
    for member in members:
        if member.name in found and (list(found)[-1] != member.name or found[member.name][0].run != member.run):
            raise ValueError(f"the members of model {member.name} must follow each other and share its training")
        found.setdefault(member.name, []).append(member)
    counts = {name: len(each) for name, each in found.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"every model must have equally many members, not {counts}")
    return found


def one_setting(made: list[dict]):
    """Raise ValueError unless all models were made from the same data, with the same model and recipe.

    made: the spec of the job that made each model. A score is a mean over models that differ in their seed and in the
    part of the data that they saw, not in what they are.
    """
    first = made[0]
    for other in made[1:]:
        for what in ("model", "recipe"):
            mine, theirs = first["settings"].get(what), other["settings"].get(what)
            if mine != theirs:
                raise ValueError(
                    f"members of different settings: {first['job']} has {what} {mine}, {other['job']} has {theirs}; "
                    f"an ensemble is of one"
                )
        if first["inputs"]["data"] != other["inputs"]["data"]:
            places = [spec["inputs"]["data"][0]["path"] for spec in (first, other)]
            raise ValueError(
                f"members of different data: {first['job']} was made from {places[0]}, {other['job']} from {places[1]} "
                f"or another version of it; an ensemble is of one setting"
            )


def whole(members: list[Member]) -> EnsembleSize:
    """The size of all members together."""
    models = len(by_model(members))
    return EnsembleSize(models, len(members) // models)
