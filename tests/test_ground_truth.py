"""Ground truth: which models are trained, and how their outputs are laid out."""

import numpy as np
import pytest

from attriflow.ground_truth import leave_one_out, subsets
from attriflow.runs import Run


def test_subsets_have_their_size_and_differ():
    runs = subsets.runs(40, "g", 0, count=6, repeats=2, fraction=0.25)
    masks = np.stack([run.mask(40, 0) for run in runs[0]])
    assert (masks.sum(1) == 10).all()
    assert len({mask.tobytes() for mask in masks}) == 6


def test_repeats_share_the_subset_and_not_the_stream():
    runs = subsets.runs(40, "g", 0, count=6, repeats=2)
    for first, second in zip(runs[0], runs[1], strict=True):
        assert (first.mask(40, 0) == second.mask(40, 0)).all()
        assert first.stream != second.stream


def test_more_subsets_or_repeats_leave_the_others_as_they_were():
    few, many = subsets.runs(40, "g", 0, count=3, repeats=1), subsets.runs(40, "g", 0, count=6, repeats=2)
    assert many[0][:3] == few[0]


def test_one_subset_is_refused():
    with pytest.raises(ValueError, match="correlations over subsets need at least 2"):
        subsets.runs(40, "g", 0, count=1)


def test_a_fraction_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match=r"fraction: 0.01 of 10 training examples leaves 0; expected 1 to 9"):
        Run("a", subset="a/subset", fraction=0.01).examples(10, 0)


def test_outputs_of_subsets_are_subsets_by_repeats_by_tests():
    runs = subsets.runs(40, "g", 0, count=3, repeats=2)
    outputs = {repeat: {"loss": np.full((3, 5), repeat) + np.arange(3)[:, None]} for repeat in (0, 1)}
    arrays = subsets.collect(runs, outputs, 40, 0)
    assert arrays["masks"].shape == (3, 40)
    assert arrays["loss"].shape == (3, 2, 5)
    assert arrays["loss"][2, 1].tolist() == [3] * 5


def test_leaving_out_shares_the_stream_of_the_run_on_all_examples():
    runs = leave_one_out.runs(40, "g", 0, examples=[3, 17], repeats=2)
    assert [run.stream for run in runs[1]] == ["g/1"] * 3
    assert [run.left_out for run in runs[1]] == [(), (3,), (17,)]
    assert runs[0][2].mask(40, 0).sum() == 39


def test_left_out_examples_can_be_drawn():
    runs = leave_one_out.runs(40, "g", 0, examples=5)
    drawn = [run.left_out[0] for run in runs[0][1:]]
    assert len(set(drawn)) == 5
    assert drawn == sorted(drawn)


def test_a_left_out_index_beyond_the_data_is_refused():
    with pytest.raises(ValueError, match=r"examples: \[40\] lies beyond the 40 training examples \(0 to 39\)"):
        leave_one_out.runs(40, "g", 0, examples=[3, 40])


def test_changes_are_without_minus_with_the_example():
    runs = leave_one_out.runs(40, "g", 0, examples=[3, 17], repeats=2)
    outputs = {repeat: {"loss": np.array([[1.0], [1.5], [0.5]]) + repeat} for repeat in (0, 1)}
    arrays = leave_one_out.collect(runs, outputs, 40, 0)
    assert arrays["left_out"].tolist() == [3, 17]
    assert arrays["loss"].tolist() == [[[0.5], [0.5]], [[-0.5], [-0.5]]]


def test_a_run_survives_its_description():
    run = Run("a", subset="b", fraction=0.5, left_out=(3, 4))
    assert Run.from_dict(run.as_dict()) == run
