"""Scores of tiny and huge gradients are those of the same problem at an ordinary scale; no score is no number."""

import numpy as np
import pytest
import torch
from conftest import toy_split
from test_scores import options, scores
from torch import nn

from attriflow.data import Split
from attriflow.extremes import extremes
from attriflow.krylov import expect_resolved
from attriflow.models import Trained
from attriflow.precision import columns_near_one, near_one, stored, unit, widened
from attriflow.registry import Registry
from attriflow.scores import rps
from attriflow.scoring import scored
from attriflow.sizes import EnsembleSize

REGISTRY = Registry()
# powers of two: a problem at another scale has the same digits
SCALES = [2.0**-66, 2.0**-33, 2.0**66]  # about 1e-20, 1e-10, 1e20
GIVEN = {
    "grad_dot": {},
    "grad_cos": {},
    "influence": {"relative": True, "damping": 0.1},
    "influence_cg": {"relative": True, "damping": 0.1, "iterations": 8, "curvature": "fisher"},
    "influence_arnoldi": {"relative": True, "damping": 0.1, "iterations": 12, "curvature": "fisher"},
    "influence_corrected": {"relative": True, "damping": 0.1, "curvature": "fisher"},
    "datainf": {"relative": True, "damping": 0.1},
    "ekfac": {"relative": True, "damping": 0.1},
    "logra": {"relative": True, "damping": 0.1, "rank": 40},
    "trak": {"damping": 0.0, "proj_dim": 4},
}
# how scores change with the gradients: their square, or not at all where a curvature divides by the square
POWER = {"grad_dot": 2, "trak": 2}


def of_size(scale: float, n: int, dtype: torch.dtype) -> tuple[Trained, Split]:
    """A regression of one linear layer whose targets, outputs and gradients are so large."""
    random = np.random.default_rng(0)
    x, y = random.standard_normal((n + 4, 6)).astype(np.float32), random.standard_normal(n + 4)
    weights = torch.from_numpy(random.standard_normal((1, 6)))
    y, places = scale * y, (np.arange(n), np.arange(4))
    split = Split(x[:n], y[:n], x[n:], y[n:], y[:n], *places, np.zeros(6), np.ones(6))
    build = lambda: nn.Linear(6, 1, bias=False).double()  # noqa: E731
    return Trained("full-0", 0, build, {1: {"weight": scale * weights}}, {1: 0.1}, dtype=dtype), split


@pytest.mark.parametrize("n", [5, 20])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("method", GIVEN)
def test_scores_scale_with_the_gradients(method, scale, n):
    given, results = GIVEN[method], []
    for each in (1.0, scale):
        member, split = of_size(each, n, torch.float64)
        results.append(scores(method, [member], split, **given)[0])
    expected = results[0] * scale ** POWER.get(method, 0)
    assert expected.any()
    np.testing.assert_allclose(results[1], expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("method", [method for method in GIVEN if method != "trak"])
def test_tiny_gradients_in_single_precision_keep_their_digits(method):
    given, results = GIVEN[method], []
    for each in (1.0, 2.0**-66):
        member, split = of_size(each, 12, torch.float32)
        results.append(scores(method, [member], split, **given)[0])
    expected = results[0] * 2.0 ** (-66 * POWER.get(method, 0))
    np.testing.assert_allclose(results[1], expected, rtol=0, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("method", ["datainf", "ekfac", "grad_dot", "influence", "logra"])
@pytest.mark.parametrize("scale", SCALES)
def test_self_influence_scales_with_the_gradients(method, scale):
    module, results = REGISTRY.load("scores", method), []
    for each in (1.0, scale):
        member, split = of_size(each, 12, torch.float64)
        prepared = module.prepare(member, split, **options(method, "prepare", **GIVEN[method]))
        results.append(next(module.self_influence([prepared], **options(method, "self_influence", **GIVEN[method]))))
    np.testing.assert_allclose(results[1], results[0] * scale ** POWER.get(method, 0), rtol=1e-5)


@pytest.mark.parametrize("scale", [2.0**-30, 2.0**30])
@pytest.mark.parametrize("features", ["input", "penultimate"])
def test_the_size_of_features_does_not_change_who_is_near(scale, features):
    found = []
    for each in (1.0, scale**4):
        split = toy_split(n=20, m=5)
        split = Split(**{**vars(split), "train_x": each * split.train_x.astype(float), "test_x": each * split.test_x})
        build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()  # noqa: E731
        state = {"1.weight": torch.ones(3, 16), "1.bias": torch.zeros(3)}
        member = Trained("full-0", 0, build, {1: state}, {1: 0.1}, dtype=torch.float64)
        found.append(scores("knn_shapley", [member], split, features=features, neighbours=3)[0])
    np.testing.assert_array_equal(*found)


def test_representer_points_of_scaled_features_with_a_scaled_penalty_are_the_same():
    found = []
    for scale in (1.0, 2.0**-40):
        split = toy_split(n=20, m=5)
        sides = {key: scale * getattr(split, key).astype(float) for key in ("train_x", "test_x")}
        build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3, bias=False)).double()  # noqa: E731
        weights = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 16)) / scale)
        member = Trained("full-0", 0, build, {1: {"1.weight": weights}}, {1: 0.1})
        found.append(rps.prepare(member, Split(**{**vars(split), **sides}), l2=3e-3 * scale**2)["values"])
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=5e-3 * np.abs(found[0]).max())


def test_representer_points_whose_penalty_is_lost_in_rounding_are_refused():
    split = toy_split(n=20, m=5)
    sides = {key: 1e20 * getattr(split, key).astype(float) for key in ("train_x", "test_x")}
    build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3, bias=False)).double()  # noqa: E731
    member = Trained("full-0", 0, build, {1: {"1.weight": 1e-20 * torch.randn(3, 16)}}, {1: 0.1})
    with pytest.raises(ValueError, match="use a larger l2"):
        rps.prepare(member, Split(**{**vars(split), **sides}))


@pytest.mark.parametrize("method", ["knn_shapley", "rps"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_inputs_that_are_no_numbers_are_refused_by_example(method, value):
    split = toy_split(n=10, m=3)
    split.train_x[4, 0, 1, 1] = value
    build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Linear(4, 3))  # noqa: E731
    member = Trained("full-0", 0, build, {1: build().state_dict()}, {1: 0.1})
    with pytest.raises(ValueError, match=r"not finite at examples \[4\]"):
        scores(method, [member], split)
    if method == "knn_shapley":
        with pytest.raises(ValueError, match=r"training inputs .* not finite at index \(4"):
            scores(method, [member], split, features="input")


# --- one place that all scores pass --------------------------------------------------------------------------


def leaving(array: np.ndarray, point: dict) -> np.ndarray:
    """What `scored` makes of the scores of a method."""
    size = EnsembleSize(1)
    ((_, found, _),) = scored(lambda _, **__: iter([array]), lambda _: iter([{}]), point, [size], {}, "influence")
    return found


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_name_the_method_the_point_and_the_examples(value):
    array = np.ones((4, 3))
    array[2, 1] = value
    with pytest.raises(ValueError) as caught:
        leaving(array, {"damping": 0.1, "relative": True})
    said = str(caught.value)
    assert "\n" not in said
    for words in ("influence at damping 0.1, relative True", "1 of 12", "training example 2 and test example 1"):
        assert words in said
    with pytest.raises(ValueError, match="training example 2 "):
        leaving(array[:, 1], {"damping": 0.1})


def test_scores_are_saved_in_single_precision_where_that_holds_them():
    random = np.random.default_rng(0).standard_normal((5, 3))
    assert leaving(random, {}).dtype == np.float32
    for scale in (1e-44, 1e44, [1, 1, 1e-40]):
        found = leaving(random * scale, {})
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, random * scale)


@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e-30, 1e-3, 1.0, 1e30, 1e300])
def test_a_unit_rounds_nothing(scale):
    array = scale * torch.from_numpy(np.random.default_rng(0).standard_normal((6, 4)))
    found, size = near_one(array)
    assert found.dtype == torch.float32 and float(found.abs().max()) <= 1
    torch.testing.assert_close(found.double() * size, array, rtol=1e-6, atol=0)
    found, sizes = columns_near_one(array)
    torch.testing.assert_close(found.double() * sizes, array, rtol=1e-6, atol=0)
    torch.testing.assert_close(stored(array).double(), array, rtol=1e-6, atol=0)
    assert np.log2(unit(array)).is_integer()


def test_gradients_in_single_precision_are_widened_only_at_extreme_scales():
    for scale, dtype in ((1.0, torch.float32), (2.0**-66, torch.float64)):
        member, split = of_size(scale, 5, torch.float32)
        gradients = pytest.importorskip("attriflow.gradients").of_split(member.model(), split)
        assert widened(*gradients)[0].parts[0].dtype == dtype


# --- rounding ------------------------------------------------------------------------------------------------


def test_a_damping_below_the_rounding_error_of_the_curvature_is_refused_with_one_that_would_do(caplog):
    values = np.array([1e-3, 2.0])
    expect_resolved(values, 0.0, 2)  # the pseudo-inverse
    expect_resolved(values, 1e-6, 2)
    assert not caplog.records
    expect_resolved(values, 1e-13, 2)
    assert "scores are right to about 4e-02" in caplog.text
    with pytest.raises(ValueError, match=r"damping 1e-20 is .* use at least 3.6e-14, or 0 for the pseudo-inverse"):
        expect_resolved(values, 1e-20, 2)


@pytest.mark.parametrize("method", ["influence", "influence_arnoldi", "logra"])
def test_methods_refuse_a_damping_that_rounding_hides(method):
    member, split = of_size(1.0, 20, torch.float64)
    with pytest.raises(ValueError, match="of rounding error"):
        scores(method, [member], split, **{**GIVEN[method], "damping": 1e-25, "relative": False})


def test_a_kernel_that_is_singular_up_to_rounding_is_said_to_be():
    member, split = of_size(1.0, 20, torch.float64)
    copied = split.train_x.copy()
    copied[:, 5] = copied[:, 4]  # two parameters that never differ
    split = Split(**{**vars(split), "train_x": copied})
    with pytest.raises(ValueError, match="is singular"):
        scores("trak", [member], split, damping=0.0, proj_dim=6, projection="none")


def test_extremes_refuse_scores_that_are_no_numbers():
    array = np.zeros((10, 4))
    array[3, 1] = np.nan
    split = toy_split(n=10, m=4)
    with pytest.raises(ValueError, match=r"not finite at index \(3, 1\)"):
        extremes(array, split, np.arange(4), 2)
    extremes(array, split, np.array([0, 2]), 2)  # of others nothing is shown
