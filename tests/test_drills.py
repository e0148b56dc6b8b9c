"""The fault drills themselves: all are found, a failing one is told, and a table is written whole."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT))

from drills import harness, run


@pytest.fixture
def fakes(monkeypatch, tmp_path) -> Path:
    """Three drills of no work in place of the real ones, and a table elsewhere."""

    def passes(place):
        return f"said in {place.folder}/copy-7/results"

    def fails(place):
        raise AssertionError("not as in an undisturbed run")

    def skips(place):
        raise harness.SkippedError("no such disk here")

    drills = {each.__name__: harness.Drill(each.__name__, "nothing", each) for each in (passes, fails, skips)}
    monkeypatch.setattr(run, "load", lambda: drills)
    monkeypatch.setattr(run, "RESULTS", tmp_path / "drills.csv")
    return tmp_path / "drills.csv"


def test_every_drill_says_what_it_does():
    found = run.load()
    assert len(found) >= 40
    for drill in found.values():
        assert drill.name.isidentifier() and len(drill.description) > 10, drill


def test_a_failing_drill_is_told_and_a_skipped_one_does_not_pass(fakes, capsys):
    assert run.main() == 1
    table = pd.read_csv(fakes).set_index("drill")
    assert table.outcome.to_dict() == {"passes": "pass", "fails": "fail", "skips": "skipped"}
    assert table.message.to_dict() == {
        "passes": "said in results",
        "fails": "AssertionError: not as in an undisturbed run",
        "skips": "no such disk here",
    }
    assert capsys.readouterr().out.splitlines()[-1] == "1 pass, 1 skipped, 1 fail"


def test_some_drills_leave_the_table_as_it_is(fakes, capsys):
    assert run.main("skips") == 0
    assert not fakes.exists()
    assert run.main("unheard") == 2
    assert "no drill's name contains 'unheard'; known:" in capsys.readouterr().out
