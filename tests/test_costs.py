"""What choosing a damping costs, from what jobs say of themselves."""

import pandas as pd
import pytest
import yaml
from conftest import ROOT, TINY

from attriflow import costs, provenance
from attriflow.study import plan

NAMES = {"setting": "s", "ensemble": "e", "method": "trak", "costly": {"epoch": "last"}}


def made(job: str, seconds: float, **settings) -> dict:
    cost = {"seconds": seconds, "cpu_seconds": seconds, "peak_mib": 100.0}
    return {"spec": {"job": job, "settings": settings}, "outputs": {}, "cost": cost}


def found() -> pd.DataFrame:
    """One costly point of two blocks of members, three dampings in two dimensions, in one of two settings."""
    stem = "scores/s/e/trak/epoch=last"
    cheap = [{"damping": damping, "proj_dim": k} for damping in (0.1, 1.0, "select") for k in (8, 64)]
    return costs.table(
        [made(f"{stem}/selection", 2.0, **NAMES, sizes=[1, 4])],
        [made(stem, 6.0, **NAMES, cheap=cheap, sizes=[1, 4])],
        [made(f"{stem}/{block}", 16.0) for block in (0, 1)],
        [made(f"ground_truth/{name}/{block}", 50.0, runs=[{}] * 5)
         for name in ("s/subsets", "s/small", "other/subsets") for block in ("0.0", "0.1")],
    )  # fmt: skip


def test_the_costs_of_a_choice_are_those_of_its_own_jobs():
    row = found().iloc[0]
    assert (row.epoch, row.members) == ("last", 4)
    assert (row.choose_seconds, row.prepare_seconds, row.score_seconds) == (2, 32, 6)
    assert row.choose_share == pytest.approx(2 / 40)
    assert (row.dampings, row.seconds_a_damping) == (3, 2)


def test_retraining_is_that_of_the_same_setting_by_ground_truth():
    table = found()
    assert list(table.truth) == ["subsets", "small"]
    assert (table.retrain_seconds == 100).all()
    assert (table.models == 10).all()


def test_a_measurement_of_another_spec_is_refused(tmp_path):
    each = made("scores/s", 1.0)
    provenance.write(tmp_path / "x.made.json", each["spec"], {}, each["cost"])
    entry = {"path": "x.npz", "made": str(tmp_path / "x.made.json"), "spec": provenance.digest(each["spec"])}
    (said,) = provenance.of_jobs([entry])
    assert {name: said[name] for name in each} == each
    for wrong in (entry | {"spec": "0"}, entry | {"made": str(tmp_path / "y.made.json")}):
        with pytest.raises(ValueError, match=r"made\.json is missing, altered or of another spec"):
            provenance.of_jobs([wrong])


def test_costs_are_read_by_no_other_job_and_only_where_something_chooses():
    assert "evaluation/selection.costs" not in plan(ROOT, yaml.safe_load(TINY)).jobs
    config = yaml.safe_load(TINY)
    config["methods"]["influence"]["damping"].append("select")
    jobs = plan(ROOT, config).jobs
    assert jobs["evaluation/selection.costs"].outputs == {"costs": "csv"}
    assert all(source.job.rule != "costs" for job in jobs.values() for every in job.inputs.values() for source in every)
    alone = plan(ROOT, config | {"run": {"ground_truth": ["leave_one_out"]}}).jobs
    assert "evaluation/selection.costs" not in alone
