"""What ensembles cost: sums of known parts, each counted once; and who is cheapest among those that are as good."""

import numpy as np
import pandas as pd
import pytest
from effects import effects

from attriflow import price


def member(model: int, change: dict | None = None) -> dict:
    return {"name": f"full-{model}", "run": None, "change": change or {}}


def dropout(models: int, masks: int, **change) -> list[dict]:
    return [member(i, {"kind": "dropout", "number": d} | change) for i in range(models) for d in range(masks)]


def described(members: list[dict], **more: dict) -> dict:
    """An ensemble whose models took 10 seconds and 1000 operations, and have 25 parameters."""
    cost = {"training_seconds": 10.0, "training_flops": 1000, "parameters": 25}
    models = [{"name": name} | cost | more for name in dict.fromkeys(each["name"] for each in members)]
    return {"members": members, "models": models}


def test_a_model_is_trained_and_stored_once_however_many_members_it_has():
    assert price.training(described(dropout(3, 4)), 2, 3) == {
        "train_seconds": 20.0, "train_flops": 2000, "weights_bytes": 200, "adapter_bytes": 0, "stored_bytes": 200,
    }  # fmt: skip


def test_every_adapter_and_every_checkpoint_is_stored():
    lora = [member(i, {"kind": "lora", "number": d}) for i in range(3) for d in range(4)]
    one = {"training_seconds": 1.0, "training_flops": 10, "parameters": 3}
    found = price.training(described(lora, adapter=one), 2, 2)
    assert (found["train_seconds"], found["train_flops"]) == (24.0, 2040)
    assert (found["weights_bytes"], found["adapter_bytes"], found["stored_bytes"]) == (200, 48, 248)
    epochs = [member(0, {"kind": "checkpoint", "number": d, "epoch": e}) for d, e in enumerate(["last", 5, 10])]
    assert price.training(described(epochs), 1, 3)["weights_bytes"] == 300
    assert price.training(described(epochs), 1, 3)["train_flops"] == 1000


def test_nothing_is_known_of_how_a_checkpoint_of_a_user_was_trained():
    ensemble = described([member(0)])
    ensemble["models"][0]["training_flops"] = None
    assert np.isnan(price.training(ensemble, 1, 1)["train_flops"])


def test_members_are_those_of_the_first_models_with_the_first_changes():
    some = price.used(dropout(3, 4), 2, 2)
    assert [(each["name"], each["change"]["number"]) for each in some] == [
        ("full-0", 0), ("full-0", 1), ("full-1", 0), ("full-1", 1),
    ]  # fmt: skip
    for size in ((4, 1), (1, 5)):
        with pytest.raises(ValueError, match=f"{size[0]} models with {size[1]} members each asked of 3 models with"):
            price.used(dropout(3, 4), *size)


def test_serving_is_preparing_and_scoring():
    row = price.serving([4.0, 3.0, 400, 2.0, 1.0, 100, 64], 10)
    assert (row["serve_seconds"], row["serve_flops"], row["cached_bytes"]) == (6.0, 500, 64)
    assert (row["seconds_a_query"], row["flops_a_query_amortised"]) == (0.6, 50)


def test_a_query_meets_every_set_of_gradients_once():
    query = {"prepare": 5, "score": {"damping=1": 2, "damping=2": 3}}
    assert price.of_query([member(0), member(1)], query, "damping=1") == 2 * 7
    assert price.of_query(dropout(2, 3), query, "damping=2") == 6 * 8
    assert price.of_query(dropout(2, 3, parts=["residuals"]), query, "damping=1") == 2 * 7
    assert price.of_query(dropout(2, 3, parts=["gradients"]), query, "damping=1") == 6 * 7


def test_the_front_holds_whom_nobody_beats():
    random = np.random.default_rng(0)
    costs, values = random.integers(0, 8, 40), random.integers(0, 8, 40)
    expected = [
        not any(c <= costs[i] and v >= values[i] and (c < costs[i] or v > values[i])
                for c, v in zip(costs, values, strict=True))
        for i in range(40)
    ]  # fmt: skip
    assert price.front(costs, values).tolist() == expected
    assert price.front([3], [1]).tolist() == [True]
    assert price.front([1, 1], [2, 2]).tolist() == [True, True]


def measured() -> pd.DataFrame:
    """Naive ensembles of 1 and 10 models, dropout of 2 models that is nearly as good, and a poor one."""
    rows = [
        ("independent", "independent", 1, 1, 0.20, 10.0),
        ("independent", "independent", 10, 1, 0.50, 100.0),
        ("dropout", "masks", 2, 5, 0.47, 20.0),
        ("dropout", "masks", 3, 5, 0.49, 30.0),
        ("gaussian", "noise", 2, 5, 0.30, 20.0),
    ]
    table = pd.DataFrame(rows, columns=["kind", "ensemble", "models", "per_model", "value", "train_flops"])
    names = {"setting": "s", "method": "trak", "truth": "subsets", "damping_rule": "", "confidence": 0.9}
    table = table.assign(**names, low=table.value - 0.05, high=table.value + 0.05)
    return table.assign(**dict.fromkeys(price.RESOURCES, table.train_flops))


def saved(table: pd.DataFrame, noise: float | np.ndarray = 0.0) -> pd.DataFrame:
    """Savings where every value has a standard error of so much, each on its own or as an array has it."""
    if np.isscalar(noise):
        noise = noise * np.sqrt(50) * np.random.default_rng(0).standard_normal((len(table), 50))
    return pd.DataFrame(price.savings(table, effects(table, noise), seed=0))


def test_the_cheapest_that_is_as_good_is_found_by_kind():
    table = measured()
    found = saved(table)
    found = found[found.resource == "train_flops"].set_index("kind")
    for kind in ("any", "dropout"):
        row = found.loc[kind]
        assert (row.ensemble, row.models, row.per_model, row.cost) == ("masks", 2, 5, 20.0)
        assert (row.saved, row.saved_low, row.saved_high, row.found) == pytest.approx((0.8, 0.8, 0.8, 1.0))
        assert row.gap == pytest.approx(0.03)
    assert found.loc["independent"].saved == 0
    row = found.loc["gaussian"]
    assert np.isnan(row.saved) and row.found == 0 and row.highest == 0.30


def test_the_interval_of_what_is_saved_says_how_sure_the_choice_is():
    table = measured()
    row = saved(table, 0.02).set_index(["resource", "kind"])
    row = row.loc[("train_flops", "dropout")]
    assert row.saved_low == pytest.approx(0.7) and row.saved_high == pytest.approx(0.8)
    assert 0.9 < row.found <= 1
    assert row.gap_low < row.gap < row.gap_high


def test_paired_noise_leaves_the_gap_alone():
    table = measured()
    common = np.tile(np.random.default_rng(0).standard_normal(50), (len(table), 1))
    row = saved(table, common).set_index(["resource", "kind"]).loc[("train_flops", "any")]
    assert (row.gap_low, row.gap_high) == pytest.approx((0.03, 0.03))


def test_an_ensemble_without_a_number_is_neither_cheapest_nor_on_the_front():
    table = measured()
    table.loc[table.kind == "dropout", "value"] = np.nan
    found = saved(table)
    row = found[(found.resource == "train_flops") & (found.kind == "any")].iloc[0]
    assert (row.ensemble, row.saved) == ("independent", 0)
    assert "dropout" not in set(found.kind)
    assert price.front([1, np.nan, 3], [np.nan, 2, 1]).tolist() == [False, False, True]


def test_without_an_interval_of_the_naive_one_nothing_is_as_good():
    table = measured().assign(low=np.nan, high=np.nan)
    found = saved(table, np.full((len(table), 3), 0.0))
    assert len(found) and found.filter(["saved", "gap"]).isna().all().all()


def test_every_ensemble_stands_at_its_best_point_of_the_grid():
    table = measured()
    other = table.assign(value=table.value - 0.1, train_flops=1.0)
    chosen = table.assign(value=table.value + 0.1, damping_rule="select")
    every = pd.concat([table, other, chosen], ignore_index=True)
    assert price.tops(every).index.tolist() == table.index.tolist()


def test_without_a_naive_ensemble_there_is_nothing_to_save():
    table = measured()
    some = table[table.kind != "independent"].reset_index(drop=True)
    assert saved(some).empty
