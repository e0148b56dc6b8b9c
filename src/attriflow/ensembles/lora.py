"""LoRA ensemble: every trained model, with many low-rank adapters that were trained on it for a little.

Deng, Li, Zhang and Ma 2024, arXiv:2405.17293: adapters are members of the ensemble, and gradients are taken with
respect to an adapter alone.
"""

from typing import Literal

from attriflow.ensembles import Member
from attriflow.ensembles._changed import changed
from attriflow.hyperparameters import Fraction, NonNegative, Positive, PositiveInt


def members(
    *,
    count: PositiveInt = 1,
    adapters: PositiveInt,
    layers: str = "*",
    rank: PositiveInt = 4,
    alpha: Positive = 8.0,
    init: Literal["zero", "random"] = "zero",
    epochs: PositiveInt = 1,
    learning_rate: Positive = 0.01,
    batch_size: PositiveInt = 32,
    optimiser: Literal["sgd", "adam", "adamw"] = "adam",
    weight_decay: NonNegative = 0.0,
    fraction: Fraction | None = None,
) -> list[Member]:
    """`count` models, as independent ones, each with so many adapters, trained on the examples of the model.

    layers: pattern of the names of the linear layers that have one. rank, alpha, init: as `attriflow.lora.insert` takes
    them. epochs, learning_rate (constant), batch_size, optimiser, weight_decay: how an adapter is trained, with the
    dropout of the model. An adapter has a random stream of its own: initial weights, order of examples, dropout masks.
    """
    # ASSUME: the LoRA ensemble's layers, rank, alpha, initialisation and epochs are not known to us from its paper; the
    # defaults are those at which adapters of a small transformer differ and keep its loss.
    adapter = {"layers": layers, "rank": rank, "alpha": alpha, "init": init}
    recipe = {
        "optimiser": optimiser,
        "learning_rate": learning_rate,
        "momentum": 0.0,
        "weight_decay": weight_decay,
        "schedule": "constant",
        "batch_size": batch_size,
        "epochs": epochs,
    }
    return changed(count, fraction, "lora", [{"adapter": adapter, "recipe": recipe}] * adapters)
