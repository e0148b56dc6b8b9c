"""Figures of ensembles draw what tables say, and are planned where there is something to show."""

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, TINY
from matplotlib import pyplot as plt
from test_variance import OPTIONS, simulated

from attriflow import price, variance
from attriflow.figures import (
    _ensembles,
    ensembles_cost,
    ensembles_forward,
    ensembles_lora,
    ensembles_methods,
    ensembles_models,
    ensembles_theory,
    heatmaps,
)
from attriflow.study import plan

SIZES = {
    "independent": [(1, 1), (2, 1), (5, 1), (10, 1), (25, 1)],
    "dropout": [(1, 3), (1, 10), (1, 25), (5, 3), (5, 10), (5, 25)],
    "dropout_forward": [(1, 3), (1, 10), (1, 25), (5, 3), (5, 10), (5, 25)],
    "dropout_kernel": [(1, 10), (5, 10)],
    "gaussian": [(1, 10), (5, 10)],
    "projection": [(1, 10), (5, 10)],
    "lora": [(1, 5), (5, 1), (5, 5)],
}


def ensembles() -> pd.DataFrame:
    """A table as the rule `price` writes it: values that grow with members, costs that grow with models and members."""
    rows = []
    for setting in ("digits_mlp", "mnist_mlp"):
        for method, top in (("trak", 0.5), ("grad_dot", 0.2)):
            for kind, sizes in SIZES.items():
                if method != "trak" and kind not in ("independent", "dropout"):
                    continue
                for models, per_model in sizes:
                    worth = models * per_model**0.4
                    value = top * worth / (worth + 3)
                    cost = {"train_flops": models * 1e10, "train_seconds": models * 3.0}
                    cost |= dict.fromkeys(("serve_flops", "flops_a_query"), 1e9 * models * per_model)
                    cost |= {"serve_seconds": 2.0 * models * per_model, "stored_bytes": 4e5 * models}
                    cost |= {"cached_bytes": 1e7 * models * per_model, "kind": kind, "ensemble": kind}
                    names = {"setting": setting, "method": method, "truth": "subsets", "metric": "lds", "damping": 0.1}
                    names |= {"ensemble_size": models * per_model, "models": models, "per_model": per_model}
                    known = {"damping_rule": "", "rows": 50, "test_examples": 200, "confidence": 0.95, "ceiling": 0.8}
                    rows.append(names | {"value": value, "low": value - 0.03, "high": value + 0.03} | known | cost)
    return pd.DataFrame(rows)


def theory() -> pd.DataFrame:
    rows = []
    for setting, own in (("digits_mlp", 1.0), ("mnist_mlp", 0.3)):
        members, truth = simulated(8, 10, own=own)
        found = pd.DataFrame(variance.table(variance.products(members, truth, 8, 10), **OPTIONS))
        rows.append(found.assign(setting=setting, method="trak", ensemble="dropout", reference_error=0.05))
    return pd.concat(rows, ignore_index=True)


FIGURES = {
    "ensembles_models": (ensembles_models, ensembles, 2 * 6),
    "ensembles_cost": (ensembles_cost, ensembles, 2 * 6),
    "ensembles_forward": (ensembles_forward, ensembles, 2 * 2),
    "ensembles_lora": (ensembles_lora, ensembles, 2 * 4),
    "ensembles_methods": (ensembles_methods, ensembles, 2 * 2),
    "ensembles_theory": (ensembles_theory, theory, 2 * 3),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_its_panels(name, tmp_path):
    kind, table, panels = FIGURES[name]
    figure = kind.draw(table())
    assert len(figure.axes) == panels
    assert all(axes.has_data() for axes in figure.axes)
    figure.savefig(tmp_path / f"{name}.png")
    plt.close(figure)


def test_every_cost_has_the_naive_ensembles_and_the_front():
    table = ensembles()
    figure = ensembles_cost.draw(table)
    for axes in figure.axes:
        labels = axes.get_legend_handles_labels()[1]
        assert "naive" in labels
    trak = table[(table.setting == "digits_mlp") & (table.method == "trak")]
    best = trak[price.front(trak.train_flops, trak.value)]
    said = {text.get_text() for text in figure.axes[0].texts}
    assert said == {
        f"{row.models}x{row.per_model}" if row.per_model > 1 else str(row.models) for row in best.itertuples()
    }
    plt.close(figure)


def test_a_front_is_not_drawn_of_a_cost_that_nobody_knows():
    figure = ensembles_cost.draw(ensembles().assign(train_flops=np.nan))
    assert not figure.axes[0].axison and figure.axes[1].axison
    plt.close(figure)


def config(**ensembles: dict) -> dict:
    found = yaml.safe_load(TINY)
    found["ensembles"] |= ensembles
    return found


def test_prices_and_figures_are_planned_where_there_are_several_kinds_of_ensembles():
    assert not {"evaluation/ensembles", "figures/ensembles_cost"} & set(plan(ROOT, config()).jobs)
    found = plan(ROOT, config(dropout={"count": 2, "masks": 2, "sizes": ["2x2"]})).jobs
    assert found["evaluation/ensembles"].outputs == {"ensembles": "csv", "savings": "savings.csv"}
    drawn = {stem.split("/")[1] for stem in found if stem.startswith("figures/ensembles")}
    assert drawn == {"ensembles_cost", "ensembles_models", "ensembles_methods"}  # no LoRA, no theory of two models
    queries = [job for job in found.values() if job.rule == "query"]
    assert {job.settings["method"] for job in queries} == {"grad_dot", "influence", "trak"}
    assert len(queries) == 3


def test_adapters_of_another_rank_are_queries_of_their_own():
    adapters = {"kind": "lora", "count": 2, "adapters": 2, "epochs": 1, "sizes": ["2x2"]}
    found = plan(ROOT, config(narrow=adapters | {"rank": 1}, wide=adapters | {"rank": 2})).jobs.values()
    ranks = {
        job.stem.split("/")[2]: job.settings["members"][0]["changes"][0].get("adapter", {}).get("rank")
        for job in found
        if job.rule == "query" and job.settings["method"] == "trak"
    }
    assert ranks == {"queries.0": None, "queries.narrow": 1, "queries.wide": 2}


def test_the_variance_is_planned_where_halves_and_a_reference_are_there():
    six = {"count": 6, "sizes": [1, 6]}
    few = config(independent=six, dropout={"count": 3, "masks": 2, "sizes": ["3x2"]})
    assert not any(job.rule == "variance" for job in plan(ROOT, few).jobs.values())
    no_reference = config(independent=six, dropout={"count": 6, "masks": 2, "sizes": ["6x2"]})
    assert not any(job.rule == "variance" for job in plan(ROOT, no_reference).jobs.values())
    found = plan(ROOT, config(independent=six, dropout={"count": 4, "masks": 2, "sizes": ["4x2"]})).jobs
    jobs = [job for job in found.values() if job.rule == "variance"]
    assert {job.settings["method"] for job in jobs} == {"grad_dot", "influence", "trak"}
    assert all(job.settings["reference"] == [4, 5] and job.settings["size"] == "4x2" for job in jobs)
    assert "figures/ensembles_theory" in found
    half = config(independent=six, dropout={"count": 4, "masks": 2, "sizes": ["4x2"], "fraction": 0.5})
    assert not any(job.rule == "variance" for job in plan(ROOT, half).jobs.values())


def test_a_heat_map_shows_the_grid_of_an_ensemble_that_has_most_sizes():
    """Sizes with five members a model are two, with one there is one: over the sizes the first is drawn."""
    rows = [
        {
            "setting": "digits_mlp", "ensemble": "lora", "ensemble_size": models * per_model, "models": models,
            "per_model": per_model, "method": "trak", "damping": damping, "damping_rule": "", "truth": "subsets",
            "metric": "lds", "output": "loss", "value": models / 100 + damping, "low": 0.0, "high": 1.0,
        }
        for models, per_model in ((1, 5), (5, 5), (5, 1))
        for damping in (0.1, 0.2)
    ]  # fmt: skip
    names = {"setting": "digits_mlp", "ensemble": "lora", "method": "trak"}
    pairs = pd.DataFrame([names | {"tuned": "damping", "beneath": "ensemble_size"}])
    figure = heatmaps.draw(pd.DataFrame(rows), pairs)
    (image,) = [image for axes in figure.axes for image in axes.get_images()]
    np.testing.assert_allclose(np.sort(image.get_array().ravel()), [0.11, 0.15, 0.21, 0.25])
    plt.close(figure)


@pytest.mark.parametrize("order", [1, -1])
def test_an_ensemble_has_the_same_dashes_in_every_panel(order):
    table = pd.DataFrame({"setting": "s", "kind": "independent", "ensemble": ["naive_half", "naive"][::order]})
    assert _ensembles.style(table, "naive")["linestyle"] == "-"
    assert _ensembles.style(table, "naive_half")["linestyle"] == "--"
