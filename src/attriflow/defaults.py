"""What other libraries set where their users say nothing, in our words and units."""

import numpy as np

from attriflow.summary import number, ordered, written

# ASSUME: no library says at which epoch to take gradients; all are handed the final model.
_FINAL = {"epoch": "last"}
# kind -> its hyperparameters as one library has them; what is not here has no default there, or one of another meaning
DEFAULTS: dict[str, dict[str, object]] = {
    "grad_dot": _FINAL,
    "grad_cos": _FINAL,
    "tracin": {"normalise": False},  # SOURCE: dattri 0.3.0, TracInAttributor: normalized_grad; checkpoints are given
    "influence": {"damping": 0, "curvature": "hessian"} | _FINAL,  # SOURCE: dattri 0.3.0, IFAttributorExplicit
    "influence_cg": {"damping": 0, "iterations": 10, "curvature": "hessian"} | _FINAL,  # SOURCE: dattri 0.3.0, ...CG
    "influence_arnoldi": {"damping": 0, "iterations": 100, "rank": 100, "curvature": "hessian"}
    | _FINAL,  # SOURCE: dattri 0.3.0, IFAttributorArnoldi: max_iter and proj_dim
    "influence_lissa": {"damping": 0, "scale": 50, "depth": 5000, "batch": 1, "repeats": 1, "curvature": "hessian"}
    | _FINAL,  # SOURCE: dattri 0.3.0, IFAttributorLiSSA
    "datainf": {"damping": 0} | _FINAL,  # SOURCE: dattri 0.3.0, IFAttributorDataInf
    # SOURCE: kronfluence 1.0.1, ScoreArguments.damping_factor; the Fisher of labels that the model draws
    "ekfac": {"damping": 1e-8, "relative": False, "curvature": "true"} | _FINAL,
    # SOURCE: dattri 0.3.0, LoGraAttributor: 4096 = 64^2 a layer; damping None means 1e-5 of the layer's mean square
    "logra": {"damping": 1e-5, "relative": True, "rank": 64} | _FINAL,
    "rps": {"l2": 3e-3, "targets": "model"} | _FINAL,  # SOURCE: dattri 0.3.0, RPSAttributor
    "trak": {"damping": 0, "proj_dim": 2048} | _FINAL,  # SOURCE: traker 0.3.2, TRAKer: lambda_reg, proj_dim
}


def default(kind: str, name: str, point: dict[str, str]) -> object:
    """The libraries' value of a hyperparameter at a point of a method's grid, None where they have none.

    A damping counts in the unit that it has there: relative ones say nothing about absolute ones.
    """
    values = DEFAULTS.get(kind, {})
    if name == "damping" and values.get("relative", False) != (point.get("relative") == "True"):
        return None
    return values.get(name)


def stand_in(value: object, grid: list[str]) -> str | None:
    """The value of a grid that a default stands for: itself, of numbers the nearest by ratio, for 0 the smallest.

    >>> stand_in(0, ["0.1", "0.001"]), stand_in(2048, ["64", "512"]), stand_in(64, ["16", "all"])
    ('0.001', '512', '16')
    >>> stand_in("last", ["5", "last"]), stand_in("true", ["empirical"])
    ('last', None)
    """
    if written(value) in grid:
        return written(value)
    numbers = [each for each in ordered(grid) if not np.isnan(number(each))]
    if isinstance(value, bool | str) or not numbers:
        return None
    if value == 0:
        return numbers[0]
    return min(numbers, key=lambda each: abs(np.log(number(each) / value)) if number(each) > 0 else np.inf)
