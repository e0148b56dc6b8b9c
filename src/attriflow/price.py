"""What ensembles cost: training, serving and space, beside what they are worth.

A row is an ensemble of some size at a hyperparameter point. Costs are those of the jobs that made it: seconds depend on
the machine and on what else ran there, operations (`attriflow.flops`) and bytes do not.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from attriflow import summary
from attriflow.intervals import NONE, Effects
from attriflow.paired import lost
from attriflow.streams import stream
from attriflow.summary import gridded

# of an array of scores: what preparing its members took, what scoring them took, and what is kept of them meanwhile
SERVING = (
    "prepare_seconds", "prepare_cpu_seconds", "prepare_flops", "score_seconds", "score_cpu_seconds", "score_flops",
    "cached_bytes",
)  # fmt: skip
# what ensembles are compared by
RESOURCES = (
    "train_seconds", "train_flops", "serve_seconds", "serve_flops", "flops_a_query", "stored_bytes", "cached_bytes",
)  # fmt: skip
NAIVE = "independent"  # the kind of ensemble that all others are measured against
_TRAINING = ("train_seconds", "train_flops", "weights_bytes", "adapter_bytes", "stored_bytes")
_SERVED = ("serve_seconds", "serve_flops", "seconds_a_query", "flops_a_query_amortised")
_DRAWS = 1000  # of values together, in which the cheapest is found anew
ANY = "any"  # in place of a kind of ensemble: whichever is cheapest
_NUMBER = 4  # bytes of a number of a stored model


def used(members: Sequence[dict], models: int, per_model: int) -> list[dict]:
    """The members of the first models, with the first so many of each; members come model by model.

    Raises ValueError where there are fewer.
    """
    every: dict[str, list[dict]] = {}
    for member in members:
        every.setdefault(member["name"], []).append(member)
    some = [each[:per_model] for each in list(every.values())[:models]]
    if len(some) < models or any(len(each) < per_model for each in some):
        given = sorted({len(each) for each in every.values()})
        raise ValueError(f"{models} models with {per_model} members each asked of {len(every)} models with {given}")
    return [member for each in some for member in each]


def training(ensemble: dict, models: int, per_model: int) -> dict[str, float]:
    """What making the members of an ensemble of a size took, and the bytes of the weights that they stand for.

    A model counts once however many members share it, its weights once for each of its checkpoints among them; an
    adapter counts with its member. ensemble: as the rule of this name describes it; `adapter` of a model is one of its
    adapters, where it has any.
    """
    members = used(ensemble["members"], models, per_model)
    names = dict.fromkeys(member["name"] for member in members)
    trained = {each["name"]: each for each in ensemble["models"]}
    adapted = [trained[name]["adapter"] for name in names if "adapter" in trained[name]]
    weights = {(member["name"], member["change"].get("epoch")) for member in members}
    made = [(trained[name], 1) for name in names] + [(each, per_model) for each in adapted]
    stored = {
        "weights_bytes": _NUMBER * sum(trained[name]["parameters"] for name, _ in weights),
        "adapter_bytes": _NUMBER * sum(per_model * each["parameters"] for each in adapted),
    }
    return {
        "train_seconds": sum(count * each["training_seconds"] for each, count in made),
        "train_flops": sum(count * _known(each["training_flops"]) for each, count in made),
        **stored,
        "stored_bytes": sum(stored.values()),
    }


def _known(flops: float | None) -> float:
    """Nothing is known of how a user's own checkpoint was trained."""
    return np.nan if flops is None else flops


def serving(costs: Sequence[float], test_examples: int) -> dict[str, float]:
    """What attributing all test examples took, from what `SERVING` names, and a test example's share."""
    row = dict(zip(SERVING, costs, strict=True))
    whole = {f"serve_{unit}": row[f"prepare_{unit}"] + row[f"score_{unit}"] for unit in ("seconds", "flops")}
    return (
        row
        | whole
        | {
            "seconds_a_query": whole["serve_seconds"] / test_examples,
            "flops_a_query_amortised": whole["serve_flops"] / test_examples,
        }
    )


def of_query(members: Sequence[dict], query: dict, point: str) -> float:
    """Operations that one more test example takes while everything of the training examples is kept.

    query: what the rule `query` counted for one member: of `prepare`, and of `score` at every point. Members that
    change no gradient share those of their model.
    """
    alone = query["prepare"] + query["score"][point]
    gradients = {
        (member["name"], member["change"]["number"] if _changes_gradients(member["change"]) else None)
        for member in members
    }
    return len(gradients) * alone


def _changes_gradients(change: dict) -> bool:
    return bool(change) and "gradients" in change.get("parts", ["gradients"])


def table(
    measured: pd.DataFrame, serving_costs: dict[str, Sequence[float]], ensemble: dict, kind: str, query: dict
) -> pd.DataFrame:
    """Measurements of one costly point of an ensemble with what each of them cost.

    measured: rows of the rule `evaluate`, `point` being the name of the array of scores. serving_costs: of each of
    these what `SERVING` names. ensemble, query: as the rules of these names wrote them. kind: of the ensemble.
    """
    rows = []
    for row in measured.to_dict("records"):
        size, point = (row["models"], row["per_model"]), row.pop("point")
        cheap = point.partition(",")[2]  # behind the size
        members = used(ensemble["members"], *size)
        costs = training(ensemble, *size) | serving(serving_costs[point], row["test_examples"])
        rows.append({"kind": kind} | row | costs | {"flops_a_query": of_query(members, query, cheap)})
    return pd.DataFrame(rows, index=measured.index)


def arranged(table: pd.DataFrame) -> pd.DataFrame:
    """The columns in their order: names, hyperparameters, what it is worth, what it costs."""
    costs = [*_TRAINING, *SERVING, *_SERVED, "flops_a_query"]
    return summary.arranged(table.drop(columns=["kind", *costs])).assign(
        **{name: table[name] for name in ["kind", *costs]}
    )


# --- who is cheapest -----------------------------------------------------------------------------------------


def front(costs: Sequence[float], values: Sequence[float]) -> np.ndarray:
    """Which of several are on the Pareto front: nobody costs less and is worth as much, or costs as much for more.

    One whose cost or worth is no number is not on it.

    >>> front([1, 2, 3, 3], [0.1, 0.5, 0.4, 0.6])
    array([ True,  True, False,  True])
    """
    costs, values = np.asarray(costs, float), np.asarray(values, float)
    as_cheap, as_good = costs[None] <= costs[:, None], values[None] >= values[:, None]
    missing = np.isnan(costs) | np.isnan(values)
    better = (costs[None] < costs[:, None]) | (values[None] > values[:, None])
    return ~(as_cheap & as_good & better).any(1) & ~missing


def tops(table: pd.DataFrame) -> pd.DataFrame:
    """Of every ensemble and size the point with the highest value, among dampings of the grid; labels are kept."""
    names = ["setting", "method", "truth", "ensemble", "models", "per_model"]
    return summary.best(gridded(table), names)


def savings(table: pd.DataFrame, effects: Effects, *, seed: int) -> Iterator[dict]:
    """What the cheapest ensemble saves that is as good as the largest naive one: a row a resource and kind of ensemble.

    table: as the rule `price` writes it; label i has entry i of `effects`. As good is what lies above the lower end of
    the naive one's interval. Both stand at their best points. `any` is over all kinds, the naive one among them.

    saved: 1 - cost / naive_cost, with an interval over joint draws of all values (`Effects.drawn`) in each of which the
    cheapest is found anew, no further below the drawn naive one than that lower end; found: the share of draws that
    have one. NaN where the naive one has no interval. gap: the
    naive one's value minus that of the cheapest, with its paired interval. highest: the best value of the kind, at any
    cost. Where none of a kind is as good, there is only that.
    """
    for names, each in tops(table).groupby(["setting", "method", "truth"], sort=False):
        naive = each[each.kind == NAIVE]
        if naive.empty:
            continue
        best = naive.loc[naive.models.idxmax()]
        drawn = pd.DataFrame(effects[each.index].drawn(_DRAWS, stream(seed, "price", *names)), index=each.index)
        for resource in RESOURCES:
            for kind in (ANY, *each.kind.unique()):
                some = each if kind == ANY else each[each.kind == kind]
                described = dict(zip(("setting", "method", "truth"), names, strict=True))
                described |= {"resource": resource, "kind": kind, "naive_models": best.models}
                described |= {"naive_value": best.value, "naive_low": best.low, "naive_high": best.high}
                described |= {"naive_cost": best[resource], "highest": some.value.max()}
                yield described | _cheapest(some, best, resource, effects, drawn)


def _cheapest(some: pd.DataFrame, naive: pd.Series, resource: str, effects: Effects, drawn: pd.DataFrame) -> dict:
    margin = naive.value - naive.low
    costs, base = some[resource].to_numpy(float), drawn.loc[naive.name].to_numpy()
    as_good = drawn.loc[some.index].to_numpy() >= base - margin  # (candidates, draws)
    least = np.where(as_good, costs[:, None], np.inf).min(0)
    saved = 1 - least[np.isfinite(least)] / naive[resource]
    found = {"found": as_good.any(0).mean(), "confidence": naive.confidence}
    inside = some[some.value >= naive.low]
    if inside.empty or np.isnan(costs).any():
        return found
    # of several that cost the same the one that is worth most
    top = inside.sort_values([resource, "value"], ascending=[True, False]).iloc[0]
    gap = lost(effects, top.name, naive.name, naive.confidence)
    outer = [(1 - naive.confidence) / 2, (1 + naive.confidence) / 2]
    ends = np.quantile(saved, outer) if len(saved) else NONE
    return found | {
        "ensemble": top.ensemble,
        "models": top.models,
        "per_model": top.per_model,
        "value": top.value,
        "gap": naive.value - top.value,
        "gap_low": gap[0],
        "gap_high": gap[1],
        "cost": top[resource],
        "saved": 1 - top[resource] / naive[resource],
        "saved_low": ends[0],
        "saved_high": ends[1],
    }
