"""Choosing a damping: moments, indicators, rules and the condition behind them, against exact arithmetic."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import reference
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attriflow.mechanism import mechanism
from attriflow.selection import (
    choose,
    curve,
    dimension_damping,
    effective_dimension,
    indicators,
    mean_eigenvalue,
    moments,
    select,
)
from attriflow.spectrum import Spectrum, condensed, join

DAMPINGS = np.geomspace(1e-9, 1e3, 25)  # 12 decades
WHERE = ("inside", "outside", "mixed", "random", "a training row")
SHAPES = {"wide": (7, 20, 7), "tall": (20, 7, 7), "square": (9, 9, 9), "rank deficient": (15, 12, 5)}


def gradients_of(shape: str, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Training gradients (n, p) of some rank and three test gradients (3, p) somewhere."""
    n, p, rank = SHAPES[shape]
    random = np.random.default_rng(0)
    left, rows = (np.linalg.qr(random.standard_normal((size, rank)))[0] for size in (n, p))
    train = left * np.geomspace(10, 0.1, rank) @ rows.T
    inside = random.standard_normal((3, rank)) @ rows.T
    beside = random.standard_normal((3, p))
    beside = 40 * (beside - beside @ rows @ rows.T)
    found = {"inside": inside, "outside": beside, "mixed": inside + beside, "random": random.standard_normal((3, p))}
    return train, found.get(where, train[:3])


def modes(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(matrix)
    kept = values > 1e-12 * values.max()
    return values[kept], vectors[:, kept]


def primal(train: np.ndarray, test: np.ndarray) -> Spectrum:
    """From the eigenvectors of GᵀG / n (p, p)."""
    values, vectors = modes(train.T @ train / len(train))
    return Spectrum.of(values, np.square(vectors.T @ test.T), dimension=train.shape[1])


def dual(train: np.ndarray, test: np.ndarray) -> Spectrum:
    """From the eigenvectors of GGᵀ / n (n, n): q_j² / n with q = Uᵀ G g."""
    values, vectors = modes(train @ train.T / len(train))
    weights = np.square(vectors.T @ (train @ test.T)) / len(train)
    return Spectrum(values, weights, np.ones(len(values)), train.shape[1])


def random_spectrum(seed: int, q: int = 6, m: int = 4, decades: float = 9.0) -> Spectrum:
    random = np.random.default_rng(seed)
    values = 10 ** random.uniform(-decades, 0, q)
    return Spectrum.of(values, random.chisquare(1, (q, m)), dimension=2 * q)


def two_scales() -> Spectrum:
    """Whose first indicator is high at small dampings, low between its eigenvalues, and high again."""
    return Spectrum(np.array([1e-6, 1.0]), np.array([[1.0], [1e5]]), np.ones(2), 2)


def three_scales() -> Spectrum:
    """Whose first indicator comes up through a half twice."""
    return Spectrum(np.array([1e-12, 1e-6, 1.0]), np.array([[1.0], [1e5], [1e10]]), np.ones(3), 3)


# --- moments -------------------------------------------------------------------------------------------------


def test_moments_are_those_of_rational_arithmetic_over_twelve_decades():
    spectrum = random_spectrum(0, decades=14)
    found = moments(spectrum, DAMPINGS)
    for d, damping in enumerate(DAMPINGS):
        for test in range(4):
            for k in range(5):
                exact = sum(
                    Fraction(w) / (Fraction(v) + Fraction(damping)) ** k
                    for v, w in zip(spectrum.values, spectrum.weights[:, test], strict=True)
                )
                assert abs(Fraction(found[k, d, test]) / exact - 1) < 1e-13


def test_indicators_are_those_of_rational_arithmetic():
    spectrum = random_spectrum(1, decades=14)
    found = indicators(spectrum, DAMPINGS)
    for d, damping in enumerate(DAMPINGS):
        t = [
            sum(
                Fraction(w) / (Fraction(v) + Fraction(damping)) ** k
                for v, w in zip(spectrum.values, spectrum.weights[:, 2], strict=True)
            )
            for k in range(4)
        ]
        for k in range(2):
            assert found[k, d, 2] == pytest.approx(float(t[k + 1] ** 2 / (t[k] * t[k + 2])) ** 0.5, rel=1e-13)


@pytest.mark.parametrize("where", ["inside", "random", "a training row"])
@pytest.mark.parametrize("shape", SHAPES)
def test_moments_are_those_of_explicit_inverses(shape, where):
    train, test = gradients_of(shape, where)
    expected = reference.moments(torch.from_numpy(train), torch.from_numpy(test), [0.1, 1.0, 10.0])
    np.testing.assert_allclose(moments(primal(train, test), np.array([0.1, 1.0, 10.0])), expected, rtol=1e-6)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_dual_and_the_primal_form_agree(shape, where):
    train, test = gradients_of(shape, where)
    first, second = (moments(form(train, test), DAMPINGS) for form in (primal, dual))
    if where == "outside" and shape in ("wide", "rank deficient"):
        whole = moments(dual(train, test / 40 + gradients_of(shape, "inside")[1]), DAMPINGS)
        assert (first < 1e-20 * whole).all()
        assert (second < 1e-20 * whole).all()
    elif where != "outside":
        np.testing.assert_allclose(first, second, rtol=1e-9)


@pytest.mark.parametrize("c", [1e-140, 1e-3, 1e30])
def test_indicators_do_not_depend_on_the_length_of_a_gradient(c):
    spectrum = random_spectrum(2)
    scaled = Spectrum(spectrum.values, spectrum.weights * c**2, spectrum.counts, spectrum.dimension)
    np.testing.assert_allclose(indicators(scaled, DAMPINGS), indicators(spectrum, DAMPINGS), rtol=1e-12)


@pytest.mark.parametrize("c", [1e-3, 330.0])
def test_indicators_of_a_kernel_that_is_a_sum_are_those_of_the_mean(c):
    """TRAK and dattri divide gradients by √p, c = 1 / √p, and sum over n examples: their damping is n c² of ours."""
    train, test = gradients_of("tall", "random")
    n = len(train)
    values, vectors = modes(c**2 * train.T @ train)
    summed = Spectrum.of(values, np.square(vectors.T @ (c * test.T)), dimension=train.shape[1])
    ours = primal(train, test)
    found, expected = indicators(summed, DAMPINGS * n * c**2), indicators(ours, DAMPINGS)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    factors = c**2 * (n * c**2) ** (1.0 - np.arange(5))
    np.testing.assert_allclose(
        moments(summed, DAMPINGS * n * c**2), factors[:, None, None] * moments(ours, DAMPINGS), rtol=1e-9
    )


def test_blocks_add_up_and_a_relative_damping_is_an_absolute_one_of_scaled_gradients():
    first, second = random_spectrum(3), random_spectrum(4)
    total = moments(first, DAMPINGS) + moments(second, DAMPINGS)
    np.testing.assert_allclose(moments(join([first, second]), DAMPINGS), total, rtol=1e-12)
    values, squares, unit = first.values, first.weights / first.values[:, None], 0.03
    relative = Spectrum.of(values, squares, dimension=12, unit=unit)
    scaled = Spectrum.of(values / unit, squares / unit, dimension=12)
    np.testing.assert_allclose(moments(relative, DAMPINGS), moments(scaled, DAMPINGS), rtol=1e-12)
    # the variance of the scores, t₂, is that of the gradients as they are at a damping of c times the unit
    np.testing.assert_allclose(moments(relative, DAMPINGS)[2], moments(first, DAMPINGS * unit)[2], rtol=1e-12)


@pytest.mark.parametrize("blocks", [1, 7])
def test_a_condensed_spectrum_has_the_moments_of_the_whole_to_three_in_ten_thousand(blocks):
    spectrum = random_spectrum(5, q=4000, m=3, decades=12)
    pieces = [
        Spectrum(spectrum.values[rows], spectrum.weights[rows], spectrum.counts[rows], len(rows))
        for rows in np.array_split(np.arange(4000), blocks)
    ]
    small = condensed(iter(pieces))
    assert len(small.values) <= 200 * 12 + 2
    assert small.dimension == 4000
    assert small.rank == pytest.approx(4000)
    lost = moments(small, DAMPINGS) / moments(spectrum, DAMPINGS) - 1
    h = np.log(10) / 200
    assert (np.abs(lost) <= np.arange(5)[:, None, None] ** 2 * h**2 / 8 + 1e-12).all()
    np.testing.assert_allclose(indicators(small, DAMPINGS), indicators(spectrum, DAMPINGS), rtol=1e-3)
    assert effective_dimension([small], 1e-5) == pytest.approx(effective_dimension([spectrum], 1e-5), rel=1e-4)


# --- indicators ----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_the_zeroth_indicator_never_decreases_and_both_end_at_one(seed):
    found = indicators(random_spectrum(seed, q=8), np.geomspace(1e-12, 1e8, 101))
    assert (np.diff(found[0], axis=0) >= -1e-12).all()
    assert (found > 0).all()
    assert (found <= 1).all()
    np.testing.assert_allclose(found[:, -1], 1, atol=1e-6)


def test_the_first_indicator_may_fall():
    values = indicators(two_scales(), np.array([1e-8, 1e-3, 1.0]))[1, :, 0]
    np.testing.assert_allclose(values, [0.95, 0.11, 1.0], atol=0.01)


def all_subsets(n: int, size: int) -> np.ndarray:
    return np.array([[i in subset for i in range(n)] for subset in combinations(range(n), size)], float)


def centred() -> tuple[np.ndarray, np.ndarray]:
    """Training gradients (8, 5) whose mean is zero, as at an optimum, and test gradients (3, 5)."""
    random = np.random.default_rng(0)
    train = random.standard_normal((8, 5)) * np.geomspace(1, 1e-2, 5)
    return train - train.mean(0), random.standard_normal((3, 5)) * np.geomspace(1, 0.1, 5)


def powers(train, test, damping):
    matrix = np.linalg.inv(train.T @ train / len(train) + damping * np.eye(train.shape[1]))
    return train @ matrix @ test.T, train @ matrix @ matrix @ test.T


def groups(masks, train, test, damping):
    """Group scores of power 1 and 2, (s, m) each."""
    return [masks @ each for each in powers(train, test, damping)]


def test_the_zeroth_indicator_is_the_correlation_of_group_scores_with_those_of_grad_dot():
    train, test = centred()
    masks = all_subsets(8, 4)
    found = indicators(dual(train, test), DAMPINGS)[0]
    plain = masks @ train @ test.T
    for place, damping in enumerate(DAMPINGS):
        damped = masks @ powers(train, test, damping)[0]
        expected = [np.corrcoef(plain[:, j], damped[:, j])[0, 1] for j in range(3)]
        np.testing.assert_allclose(found[place], expected, rtol=1e-6)


def test_a_test_example_outside_of_all_modes_has_no_indicator():
    spectrum = random_spectrum(6)
    spectrum.weights[:, 2] = 0
    with pytest.raises(ValueError, match="test example 2 has no indicator"):
        indicators(spectrum, DAMPINGS)
    without = Spectrum(spectrum.values, spectrum.weights[:, [0, 1, 3]], spectrum.counts, spectrum.dimension)
    found, expected = curve([spectrum]), curve([without])
    assert (found.skipped, expected.skipped) == (1, 0)
    assert np.array_equal(found.means, expected.means)
    spectrum.weights[:] = 0
    with pytest.raises(ValueError, match="none of 4 test examples has an indicator"):
        curve([spectrum])


# --- selection -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.4, 0.5, 0.6])
@pytest.mark.parametrize("indicator", [0, 1])
def test_the_selected_damping_is_where_the_mean_indicator_is_the_threshold(threshold, indicator):
    spectra = [random_spectrum(seed, q=40, m=10) for seed in (0, 1)]

    def excess(power):
        means = [indicators(each, np.array([np.exp(power)]))[indicator].mean() for each in spectra]
        return np.mean(means) - threshold

    found = select(spectra, threshold=threshold, indicator=indicator)
    assert found.warning == ""
    assert found.crossings == 1
    exact = np.exp(scipy.optimize.brentq(excess, np.log(found.value / 3), np.log(found.value * 3)))
    assert found.value == pytest.approx(exact, rel=2e-3)


def test_of_several_crossings_the_largest_is_taken_and_their_number_told():
    found = select([three_scales()])
    assert found.crossings == 2
    assert found.value > 1e-3
    assert select([two_scales()]).crossings == 1
    up_to = select([three_scales()], dampings=np.geomspace(1e-14, 1e-4, 200))
    assert up_to.crossings == 1
    assert up_to.value < 1e-5


def test_the_curve_is_seen_whole():
    """Beyond its default ends no indicator changes any more."""
    spectrum = random_spectrum(7, q=30)
    found = curve([spectrum])
    beyond = indicators(spectrum, np.array([found.dampings[0] / 1e6, found.dampings[-1] * 1e6])).mean(-1)
    np.testing.assert_allclose(found.means[:, [0, -1]], beyond, atol=0.02)
    steps = np.diff(np.log10(found.dampings))
    assert (steps <= 1 / 20 + 1e-9).all()


def test_where_a_curve_chooses_nothing_there_is_a_warning_and_no_value():
    one = Spectrum(np.array([1.0]), np.ones((1, 3)), np.ones(1), 1)
    two = Spectrum(np.array([0.3, 1.0]), np.ones((2, 3)), np.ones(2), 2)
    cases = [
        (select([one]), "flat, 1.0000 to 1.0000 over dampings from 0.01 to 100"),
        (select([two]), r"never below 0\.5: at least 0\.94"),
        (select([two_scales()], dampings=np.geomspace(1e-4, 1e-2, 30)), r"never reaches 0\.5: at most 0\.3"),
        (select([two_scales()], dampings=np.geomspace(1e-8, 1e-3, 30)), r"falls through 0\.5 and does not come up"),
        (select([two_scales()], dampings=np.array([1.0])), "flat"),
    ]
    for found, message in cases:
        assert found.value is None
        with pytest.raises(ValueError, match=message):
            raise ValueError(found.warning)
    crossing = select([two_scales()]).value
    near = select([two_scales()], dampings=crossing * np.array([0.999, 1.0, 1.001]))
    assert near.crossings == 1
    assert near.value is None
    assert "flat" in near.warning


def test_a_mean_that_is_hardly_below_the_threshold_chooses_with_a_warning():
    dips = two_scales()
    lowest = indicators(dips, curve([dips]).dampings)[1].mean(-1).min()
    for flat, warned in ((2, False), (8, True)):  # test examples in one mode alone, whose indicator is 1 everywhere
        many = 12 * flat  # enough that dips * lowest + flat lies below one half, by much or by little
        count = int(np.ceil(flat * (1 - 0.49) / (0.49 - lowest))) if warned else many
        alone = np.tile(np.array([[0.0], [1.0]]), flat)
        weights = np.hstack([np.tile(dips.weights[:, :1], count), alone])
        found = select([Spectrum(dips.values, weights, dips.counts, dips.dimension)])
        assert found.value is not None
        assert bool(found.warning) == warned
    assert "hardly below 0.5: 0.4" in found.warning


def test_one_test_example_has_a_curve_without_standard_errors():
    found = select([two_scales()])
    assert found.value is not None
    assert np.isnan(found.curve.errors).all()


def test_standard_errors_are_over_test_examples():
    spectra = [random_spectrum(seed, m=5) for seed in (0, 1)]
    found = curve(spectra, DAMPINGS)
    each = np.mean([indicators(spectrum, DAMPINGS) for spectrum in spectra], 0)
    np.testing.assert_allclose(found.errors, each.std(-1, ddof=1) / np.sqrt(5), rtol=1e-10)
    np.testing.assert_allclose(found.means, each.mean(-1), rtol=1e-10)
    np.testing.assert_allclose(found.by_member[1], indicators(spectra[1], DAMPINGS).mean(-1), rtol=1e-10)


def test_one_curve_serves_every_threshold_and_both_indicators():
    spectra = [random_spectrum(0, q=40)]
    found = curve(spectra)
    values = [choose(found, threshold=threshold).value for threshold in (0.4, 0.5, 0.6)]
    assert values == sorted(values)
    assert choose(found, indicator=0).value == select(spectra, indicator=0).value


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_neither_the_order_of_modes_nor_that_of_members_nor_blocks_of_dampings_change_the_choice(seed):
    spectra = [random_spectrum(seed + place, q=30) for place in range(3)]
    order = np.random.default_rng(seed).permutation(30)
    moved = [Spectrum(each.values[order], each.weights[order], each.counts, each.dimension) for each in spectra[::-1]]
    first = select(spectra)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attriflow.selection._BLOCK_BYTES", 8 * 30 * 7)
        second = select(moved)
    assert first.crossings == second.crossings
    np.testing.assert_allclose(first.curve.means, second.curve.means, rtol=1e-10)
    assert (first.value is None) == (second.value is None)
    if first.value:
        assert second.value == pytest.approx(first.value, rel=1e-6)


# --- rules to compare with -----------------------------------------------------------------------------------


def test_the_mean_eigenvalue_has_two_readings():
    spectrum = Spectrum.of(np.array([4.0, 2.0, 0.0]), np.ones((3, 1)), dimension=12)
    assert mean_eigenvalue([spectrum], over="parameters") == pytest.approx(0.1 * 6 / 12)
    assert mean_eigenvalue([spectrum], over="modes") == pytest.approx(0.1 * 6 / 2)
    assert mean_eigenvalue([spectrum, random_spectrum(0, m=1)], over="modes", share=1) == pytest.approx(
        (3 + random_spectrum(0, m=1).values.mean()) / 2
    )
    with pytest.raises(ValueError, match=r"over 'rank'; expected one of \['modes', 'parameters'\]"):
        mean_eigenvalue([spectrum], over="rank")


@pytest.mark.parametrize("decades", [0.0, 9.0, 20.0])
@pytest.mark.parametrize(("proj_dim", "multiple"), [(8, 2.0), (8, 8.6), (1, 1e6), (3000, 100.1)])
def test_the_dimension_rule_solves_for_the_effective_dimension(decades, proj_dim, multiple):
    spectra = [random_spectrum(seed, q=31, decades=decades) for seed in (0, 1)]
    found = dimension_damping(spectra, proj_dim=proj_dim, multiple=multiple)
    assert effective_dimension(spectra, found) == pytest.approx(proj_dim / multiple, rel=1e-9)


def test_the_effective_dimension_is_the_trace():
    train, test = gradients_of("tall", "random")
    matrix = train.T @ train / len(train)
    expected = np.trace(matrix @ np.linalg.inv(matrix + 0.1 * np.eye(len(matrix))))
    assert effective_dimension([dual(train, test)], 0.1) == pytest.approx(expected, rel=1e-9)


def test_a_dimension_that_is_large_enough_needs_no_damping():
    assert dimension_damping([random_spectrum(0)], proj_dim=60, multiple=10) == 0.0


# --- the condition behind the indicator ----------------------------------------------------------------------


def outputs(seed: int, masks: np.ndarray, m: int = 3) -> np.ndarray:
    """Outputs that depend on the subset, partly in no way that is linear."""
    random = np.random.default_rng(seed)
    return masks @ random.standard_normal((masks.shape[1], m)) + random.standard_normal((len(masks), m))


@pytest.mark.parametrize("seed", range(5))
def test_the_correlation_rises_with_the_damping_exactly_where_the_indicator_is_below_the_ratio(seed):
    train, test = centred()
    masks = all_subsets(8, 4)
    measured, spectrum = outputs(seed, masks), dual(train, test)
    dampings = np.geomspace(1e-5, 1e2, 60)
    found = mechanism(measured, (groups(masks, train, test, each) for each in dampings), spectrum, dampings)
    step = 1e-4
    below, above = (
        mechanism(measured, (groups(masks, train, test, each) for each in moved), spectrum, moved).correlation
        for moved in (dampings * (1 - step), dampings * (1 + step))
    )
    slope = (above - below) / (2 * step)  # in the logarithm
    clear = np.abs(slope) > 1e-6
    assert clear.mean() > 0.9
    assert ((slope > 0) == found.rises)[clear].all()
    xi = indicators(spectrum, dampings)[1]
    expected = np.where(found.o_2 > 0, xi < found.ratio, xi > found.ratio)
    assert (expected == found.rises).all()


def test_covariances_and_correlation_are_those_of_group_scores():
    train, test = centred()
    masks = all_subsets(8, 3)
    measured = outputs(0, masks)
    pair = groups(masks, train, test, 0.1)
    found = mechanism(measured, [pair], dual(train, test), [0.1])
    for test_index in range(3):
        for values, scores in ((found.o_1, pair[0]), (found.o_2, pair[1])):
            expected = np.cov(scores[:, test_index], measured[:, test_index], bias=True)[0, 1]
            assert values[0, test_index] == pytest.approx(expected, rel=1e-9)
        expected = np.corrcoef(pair[0][:, test_index], measured[:, test_index])[0, 1]
        assert found.correlation[0, test_index] == pytest.approx(expected, rel=1e-9)


def test_the_mechanism_refuses_what_does_not_fit():
    train, test = centred()
    masks, spectrum = all_subsets(8, 4), dual(train, test)
    measured, pair = outputs(0, masks), groups(masks, train, test, 0.1)
    with pytest.raises(ValueError, match=r"measured outputs have shape \(70, 2\), expected \(70, 3\)"):
        mechanism(measured[:, :2], [pair], spectrum, [0.1])
    with pytest.raises(ValueError, match=r"group scores of power 2 have shape \(69, 3\), expected \(70, 3\)"):
        mechanism(measured, [(pair[0], pair[1][1:])], spectrum, [0.1])
    with pytest.raises(ValueError, match="outputs of test example 1 are the same for all 70 subsets"):
        mechanism(measured * [1, 0, 1], [pair], spectrum, [0.1])
    with pytest.raises(ValueError, match=r"not finite at index \(3, 0\)"):
        measured[3, 0] = np.nan
        mechanism(measured, [pair], spectrum, [0.1])
    with pytest.raises(ValueError, match="group scores of 1 dampings, expected those of 2"):
        mechanism(outputs(0, masks), [pair], spectrum, [0.1, 1.0])
    spectrum.weights[:, 1] = 0
    with pytest.raises(ValueError, match="test example 1 has no indicator"):
        mechanism(outputs(0, masks), [pair], spectrum, [0.1])


# --- refusals ------------------------------------------------------------------------------------------------


def test_a_curvature_that_is_zero_everywhere_is_refused():
    with pytest.raises(ValueError, match="the curvature is zero everywhere"):
        Spectrum.of(np.zeros(3), np.ones((3, 2)), dimension=3)


def test_a_singular_gram_matrix_has_the_modes_of_its_rank():
    train, test = gradients_of("rank deficient", "mixed")
    assert len(dual(train, test).values) == 5
    values, vectors = np.linalg.eigh(train @ train.T / len(train))
    values[values < 1e-12] = 0
    squares = np.square(vectors.T @ (train @ test.T)) / len(train) / np.where(values > 0, values, 1)[:, None]
    found = Spectrum.of(values, squares, dimension=12)
    np.testing.assert_allclose(moments(found, [0.0]), moments(dual(train, test), [0.0]), rtol=1e-9)


@pytest.mark.parametrize(
    ("values", "weights", "message"),
    [
        ([1.0, np.nan], np.ones((2, 1)), r"eigenvalues are not finite at index \(1,\): nan"),
        ([1.0, 2.0], [[1.0, 1.0], [1.0, np.inf]], r"weights are not finite at index \(1, 1\): inf"),
        ([1.0, -2.0], np.ones((2, 1)), r"eigenvalue -2\.0 of mode 1; expected positive ones"),
        ([1.0, 2.0], [[1.0, -1.0], [1.0, 1.0]], r"weight -1\.0 at index \(0, 1\); expected none below 0"),
        ([1.0, 2.0], np.ones((3, 1)), r"weights have shape \(3, 1\), expected \(2, m\)"),
        ([1e-50, 1e50], np.ones((2, 1)), r"lie more than 60 decades apart"),
    ],
)
def test_a_spectrum_that_cannot_be_is_refused(values, weights, message):
    with pytest.raises(ValueError, match=message):
        Spectrum(np.array(values), np.array(weights), np.ones(2), 2)


@pytest.mark.parametrize(
    ("dampings", "message"),
    [
        ([0.1, -1.0], r"damping -1\.0; expected none below 0"),
        ([0.1, np.inf], r"dampings are not finite at index \(1,\): inf"),
        ([], r"dampings have shape \(0,\)"),
        ([[0.1]], r"dampings have shape \(1, 1\)"),
    ],
)
def test_dampings_that_cannot_be_are_refused(dampings, message):
    for function in (moments, indicators):
        with pytest.raises(ValueError, match=message):
            function(two_scales(), np.array(dampings))
    with pytest.raises(ValueError, match=message):
        curve([two_scales()], np.array(dampings))


@pytest.mark.parametrize("dampings", [[0.0, 1.0], [1.0, 0.1], [1.0, 1.0]])
def test_a_curve_takes_increasing_dampings_above_zero(dampings):
    with pytest.raises(ValueError, match="expected increasing ones above 0"):
        curve([two_scales()], np.array(dampings))


def test_no_members_or_members_of_different_test_examples_are_refused():
    rules = [
        select,
        lambda spectra: mean_eigenvalue(spectra, over="modes"),
        lambda spectra: dimension_damping(spectra, proj_dim=3, multiple=1.0),
    ]
    for rule in rules:
        with pytest.raises(ValueError, match="no members: expected the spectrum of at least one"):
            rule([])
        with pytest.raises(ValueError, match=r"members have \[4, 5\] test examples"):
            rule([random_spectrum(0), random_spectrum(0, m=5)])


def test_thresholds_and_indicators_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"threshold 1\.0; expected one strictly between 0 and 1"):
        select([two_scales()], threshold=1.0)
    with pytest.raises(ValueError, match="indicator 2; expected 0 or 1"):
        select([two_scales()], indicator=2)
    with pytest.raises(ValueError, match=r"proj_dim 0, multiple 1\.0; expected both above 0"):
        dimension_damping([two_scales()], proj_dim=0, multiple=1.0)
    with pytest.raises(ValueError, match=r"damping -1\.0"):
        effective_dimension([two_scales()], -1.0)
