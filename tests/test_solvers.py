"""Iterative solvers: products with a curvature, Krylov spaces and LiSSA against explicit matrices."""

import re
from functools import partial

import numpy as np
import pytest
import reference
import torch
from conftest import toy_split
from test_scores import close, curvature_of, reference_gradients, scores
from torch import nn

from attriflow import curvature
from attriflow.data import Split
from attriflow.device import inputs
from attriflow.gradients import Factors, Gradients, Lookups, Rows, Sequences, parts, per_example
from attriflow.krylov import inverse, lanczos, ritz
from attriflow.models import Trained, cnn, mlp, transformer
from attriflow.scores import influence_arnoldi, influence_cg, influence_lissa

KINDS = ["fisher", "ggn", "hessian"]
MODELS = {
    "perceptron": partial(mlp.build, (1, 4, 4), 3, hidden=[5], dropout=0.1),
    "cnn": partial(cnn.build, (1, 4, 4), 3, channels=[3]),
    "transformer": partial(transformer.build, (6,), 5, width=4, heads=2, layers=1),
}


def with_model(name: str) -> tuple[Trained, Split]:
    """A member with random weights and its data, 11 training and 4 test examples; of a transformer sequences."""
    random = np.random.default_rng(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = {key: 2 * value.detach() for key, value in MODELS[name]().named_parameters()}
    split = toy_split(n=11, m=4)
    if "transformer" in name:
        drawn = {key: random.integers(0, 5, (len(getattr(split, key)), 6)) for key in vars(split) if key[-2:] in "_x_y"}
        split = Split(**{**vars(split), **drawn})
    return Trained("full-0", 0, MODELS[name], {1: state}, {1: 0.1}), split


def products_of(member: Trained, split: Split, kind: str):
    """The function that multiplies, the number of parameters, and their order."""
    model = member.model()
    gradients = per_example(model, split.train_x, split.train_y, "loss")
    product = curvature.products(kind, model, split.train_x, split.train_y, gradients)
    return product, gradients.size, gradients.order(dict(model.named_parameters()))


# --- products ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["perceptron", "cnn", "transformer"])
def test_products_are_those_with_the_explicit_matrix(name, kind):
    member, split = with_model(name)
    product, p, order = products_of(member, split, kind)
    v = torch.from_numpy(np.random.default_rng(1).standard_normal((5, p)))
    matrix = reference.curvature(kind, member.model(), split.train_x, split.train_y)[order][:, order]
    torch.testing.assert_close(product(v), v @ matrix, rtol=1e-9, atol=1e-11)
    rows = torch.tensor([7, 2, 3])
    matrix = reference.curvature(kind, member.model(), split.train_x[rows], split.train_y[rows])[order][:, order]
    torch.testing.assert_close(product(v, rows), v @ matrix, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["perceptron", "transformer"])
def test_products_do_not_depend_on_the_size_of_blocks(monkeypatch, name, kind):
    member, split = with_model(name)
    product, p, _ = products_of(member, split, kind)
    v = torch.from_numpy(np.random.default_rng(1).standard_normal((5, p)))
    whole = product(v)
    used = curvature.activations(member.model(), inputs(member.model(), split.train_x))
    monkeypatch.setattr(parts, "_PAIR_BYTES", 1)
    for pairs in (1, 2, 7):
        monkeypatch.setattr(curvature, "_CHUNK_BYTES", 8 * used * pairs)
        found = products_of(member, split, kind)[0](v)
        torch.testing.assert_close(found, whole, rtol=1e-10, atol=1e-12)


def test_blocks_hold_no_more_pairs_than_there_is_room_for_and_leave_none_out():
    for vectors, examples, room in ((5, 11, 7), (5, 600, 300), (1, 3, 1000), (600, 600, 1)):
        pairs = np.zeros((vectors, examples), int)
        for some, others in curvature._blocks(vectors, examples, room):
            pairs[some, others] += 1
            assert pairs[some, others].size <= room
        assert (pairs == 1).all()


@pytest.mark.parametrize("kind", ["ggn", "hessian"])
def test_exact_matrices_of_sequence_models_are_exact(kind):
    member, split = with_model("transformer")
    model, x, y = member.model(), split.train_x, split.train_y
    gradients = per_example(model, x, y, "loss")
    found = {"ggn": curvature.gauss_newton, "hessian": curvature.hessian}[kind](model, x, y, gradients)
    order = gradients.order(dict(model.named_parameters()))
    torch.testing.assert_close(found, reference.curvature(kind, model, x, y)[order][:, order], rtol=1e-9, atol=1e-11)


def test_a_sequence_of_logits_from_one_vector_has_its_gauss_newton_matrix(split):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.Unflatten(1, (2, 3))).double()
    y = np.stack([split.train_y, split.train_y[::-1]], 1)
    gradients = per_example(model, split.train_x, y, "loss")
    found = curvature.gauss_newton(model, split.train_x, y, gradients)
    order = gradients.order(dict(model.named_parameters()))
    torch.testing.assert_close(found, reference.curvature("ggn", model, split.train_x, y)[order][:, order])


@pytest.mark.parametrize("kind", [Factors, Sequences, Lookups, Rows])
def test_times_combine_and_take_are_those_of_the_dense_gradients(monkeypatch, kind):
    random = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=random, dtype=torch.float64)
    part = {
        Factors: lambda: Factors("a", ("w",), draw(9, 4), draw(9, 3)),
        Sequences: lambda: Sequences("a", ("w",), draw(9, 5, 4), draw(9, 5, 3)),
        Lookups: lambda: Lookups("a", ("w",), 6, torch.randint(6, (9, 5), generator=random), draw(9, 5, 3)),
        Rows: lambda: Rows("a", ("w",), draw(9, 12)),
    }[kind]()
    v, w, rows = draw(2, part.size), draw(9, 2), torch.tensor([8, 0, 3])
    for most in (parts._PAIR_BYTES, 300):
        monkeypatch.setattr(parts, "_PAIR_BYTES", most)
        torch.testing.assert_close(part.times(v), part.dense() @ v.T)
        torch.testing.assert_close(part.combine(w), w.T @ part.dense())
    torch.testing.assert_close(part.take(rows).dense(), part.dense()[rows])
    torch.testing.assert_close(Gradients([part]).take(slice(2, 5)).dense(), part.dense()[2:5])


# --- Krylov spaces -------------------------------------------------------------------------------------------


def symmetric(size: int, rank: int, seed: int = 0) -> torch.Tensor:
    """An indefinite matrix of a given rank."""
    random = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(size, rank, generator=random, dtype=torch.float64))
    return basis @ torch.diag(torch.linspace(-1, 3, rank, dtype=torch.float64)) @ basis.T


def test_lanczos_vectors_are_orthonormal_and_make_the_matrix_tridiagonal():
    matrix, starts = symmetric(40, 40), torch.randn(3, 40, dtype=torch.float64, generator=torch.Generator())
    space = lanczos(lambda v: v @ matrix, starts, 30)
    for row in range(3):
        basis = space.basis[row]
        expected = torch.diag(space.diagonal[row]) + sum(torch.diag(space.beside[row], each) for each in (-1, 1))
        torch.testing.assert_close(basis @ basis.T, torch.eye(30, dtype=torch.float64), rtol=0, atol=1e-12)
        torch.testing.assert_close(basis @ matrix @ basis.T, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(space.norms, starts.norm(dim=1))


def test_an_exhausted_space_has_no_further_vectors():
    matrix = symmetric(20, 4)
    within = torch.randn(1, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) @ matrix
    starts = torch.cat([within, torch.zeros(1, 20, dtype=torch.float64), within + 1])
    space = lanczos(lambda v: v @ matrix, starts, 10)
    assert [(each != 0).any(1).sum().item() for each in space.basis] == [4, 0, 5]
    values, vectors = ritz(space.diagonal.numpy(), space.beside.numpy(), 10)
    assert np.isfinite(values).all() and np.isfinite(vectors).all()
    np.testing.assert_allclose(np.sort(values[0])[[0, -1]], [-1, 3], atol=1e-12)


def test_ritz_values_that_are_rounding_error_have_no_inverse():
    found = inverse(np.array([[-2.0, 1e-15, 0.5], [0.0, 0.0, 0.0]]), 0.0, 100)
    np.testing.assert_array_equal(found, [[0.5, 0, 2], [0, 0, 0]])


# --- conjugate gradients -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(members, split) -> dict:
    """Of the first member: what influence_cg prepares at 110 iterations, more than its 103 parameters."""
    return {kind: influence_cg.prepare(members[0], split, iterations=110, curvature=kind) for kind in KINDS}


def solved(prepared, damping: float, iterations: int) -> np.ndarray:
    return next(influence_cg.score([prepared], damping=damping, iterations=iterations))


@pytest.mark.parametrize("damping", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("kind", ["fisher", "ggn"])
def test_every_number_of_steps_is_that_of_textbook_conjugate_gradients(members, split, prepared, kind, damping):
    train, test = reference_gradients(members[0], split)
    matrix = curvature_of(members[0], split, kind)
    for steps in range(1, 13):
        expected = train @ reference.conjugate_gradients(matrix, test, damping, steps).T
        close(solved(prepared[kind], damping, steps), expected)


@pytest.mark.parametrize("damping", [0.0, 1e-3, 0.1, 10.0])
@pytest.mark.parametrize("kind", KINDS)
def test_conjugate_gradients_converge_to_the_exact_influence(members, split, prepared, kind, damping):
    exact = scores("influence", members[:1], split, curvature=kind, damping=damping)[0]
    errors = [np.abs(solved(prepared[kind], damping, steps) - exact).max() for steps in (1, 8, 110)]
    assert errors[2] < (1e-2 if damping == 0 else 2e-4) * np.abs(exact).max()
    rounding = 1e-6 * np.abs(exact).max()  # of arrays in float32
    if kind != "hessian" and damping:
        assert errors[1] < max(errors[0], rounding)
        assert errors[2] < max(errors[1], rounding)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_an_indefinite_hessian_is_taken_by_absolute_ritz_values(members, split, prepared, steps):
    train, test = reference_gradients(members[0], split)
    matrix = curvature_of(members[0], split, "hessian")
    assert torch.linalg.eigvalsh(matrix)[0] < -0.1
    expected = train @ reference.galerkin(matrix, test, test, 0.1, steps).T
    close(solved(prepared["hessian"], 0.1, steps), expected)
    assert all(np.isfinite(solved(prepared["hessian"], 0.0, steps)).all() for steps in range(1, 111))


def test_more_iterations_are_prepared_as_a_prefix(members, split, prepared):
    few = influence_cg.prepare(members[0], split, iterations=4, curvature="ggn")
    close(solved(few, 0.1, 4), solved(prepared["ggn"], 0.1, 4), rtol=1e-6)
    with pytest.raises(ValueError, match="iterations: 5 asked for, 4 were prepared"):
        solved(few, 0.1, 5)


def test_conjugate_gradients_do_not_depend_on_the_block_of_test_examples(monkeypatch, members, split, prepared):
    monkeypatch.setattr(influence_cg, "_BASIS_BYTES", 8 * 103 * 110 * 2)
    found = influence_cg.prepare(members[0], split, iterations=110)
    close(solved(found, 0.01, 30), solved(prepared["hessian"], 0.01, 30), rtol=1e-5)


def test_a_test_example_without_gradient_scores_zero(members, split):
    x = split.test_x.copy()
    model = members[0].model()
    x[2] *= 1e6  # so certain that the loss is exactly zero
    y = split.test_y.copy()
    y[2] = model(torch.from_numpy(x[2:3]).double()).argmax()
    certain = Split(**{**vars(split), "test_x": x, "test_y": y})
    found = scores("influence_cg", members[:1], certain, iterations=6)[0]
    assert (found[:, 2] == 0).all() and (found[:, 3] != 0).any()


@pytest.mark.parametrize("method", ["influence_cg", "influence_arnoldi"])
@pytest.mark.parametrize("name", ["cnn", "transformer"])
def test_as_many_steps_as_the_rank_of_the_fisher_solve_exactly(name, method):
    member, split = with_model(name)
    exact = scores("influence", [member], split, curvature="fisher", damping=0.01)[0]
    close(scores(method, [member], split, curvature="fisher", damping=0.01, iterations=20, rank="all")[0], exact)


def test_scores_too_large_to_hold_are_refused_before_any_work():
    with pytest.raises(MemoryError, match=r"1000 iterations for 50000 training and 1000 test examples take 186.3 GiB"):
        influence_cg._empty(1000, 50_000, 1000)


# --- Arnoldi -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_arnoldi_at_full_rank_is_the_exact_influence(members, split, kind):
    for damping in (1e-3, 0.1):
        exact = scores("influence", members, split, curvature=kind, damping=damping)[-1]
        given = {"curvature": kind, "damping": damping, "iterations": 110, "rank": "all"}
        close(scores("influence_arnoldi", members, split, **given)[-1], exact)


@pytest.mark.parametrize("kind", KINDS)
def test_arnoldi_keeps_the_dominant_eigenpairs(members, split, kind):
    train, test = reference_gradients(members[0], split)
    # of the Hessian the fifth in absolute value is negative
    expected = reference.dominant(curvature_of(members[0], split, kind), train, test, 0.01, 6)
    given = {"curvature": kind, "damping": 0.01, "iterations": 60, "rank": 6}
    close(scores("influence_arnoldi", members[:1], split, **given)[0], expected)


def test_arnoldi_after_few_iterations_is_the_galerkin_solution_of_its_start(members, split):
    train, test = reference_gradients(members[0], split)
    gradients = per_example(members[0].model(), split.train_x, split.train_y, "loss")
    order = gradients.order(dict(members[0].model().named_parameters()))
    drawn = torch.from_numpy(members[0].stream("arnoldi").standard_normal(103))
    start = torch.empty(103, dtype=torch.float64).index_copy_(0, order, drawn)
    solutions = reference.galerkin(curvature_of(members[0], split, "hessian"), start.expand(7, -1), test, 0.1, 5)
    prepared = influence_arnoldi.prepare(members[0], split, iterations=9)  # the larger serves the smaller
    close(next(influence_arnoldi.score([prepared], damping=0.1, iterations=5)), train @ solutions.T)


def test_arnoldi_refuses_a_rank_above_its_iterations(members, split):
    with pytest.raises(ValueError, match="rank: 13 asked for, 12 iterations have no more than 12"):
        scores("influence_arnoldi", members, split, iterations=12, rank=13)


def test_members_start_arnoldi_from_their_own_vectors(members, split):
    renamed = Trained("full-9", 0, members[0].build, members[0].checkpoints, members[0].rates)
    first, second = (influence_arnoldi.prepare(each, split, iterations=2)["test"] for each in (members[0], renamed))
    assert not np.allclose(first, second)


@pytest.mark.parametrize("method", ["influence_cg", "influence_arnoldi", "influence_lissa"])
def test_a_relative_damping_counts_mean_squared_gradients(members, split, method):
    train, _ = reference_gradients(members[0], split)
    unit, given = float(train.square().mean()), {"curvature": "ggn", "iterations": 12, "scale": 2.0, "rank": "all"}
    relative = scores(method, members[:1], split, damping=3.0, relative=True, **given)[0]
    close(relative, scores(method, members[:1], split, damping=3.0 * unit, **given)[0], rtol=1e-5)


def test_the_spectrum_of_arnoldi_is_in_units_of_mean_squared_gradients_where_relative(members, split):
    train, _ = reference_gradients(members[0], split)
    prepared = influence_arnoldi.prepare(members[0], split, iterations=9)
    given = {"iterations": 9, "rank": "all"}
    relative, absolute = (influence_arnoldi.spectrum(prepared, relative=each, **given) for each in (True, False))
    np.testing.assert_allclose(relative.values * float(train.square().mean()), absolute.values, rtol=1e-6)


# --- LiSSA ---------------------------------------------------------------------------------------------------

FULL = {"batch": 40, "scale": 1.2, "depth": 200}


@pytest.mark.parametrize("kind", KINDS)
def test_lissa_on_all_examples_converges_to_the_damped_inverse(members, split, kind):
    train, test = reference_gradients(members[0], split)
    matrix = curvature_of(members[0], split, kind)
    damping = 0.1 if kind != "hessian" else 0.1 - torch.linalg.eigvalsh(matrix)[0].item()
    expected = train @ torch.linalg.inv(matrix + damping * torch.eye(103)) @ test.T
    close(scores("influence_lissa", members[:1], split, curvature=kind, damping=damping, **FULL)[0], expected)


@pytest.mark.parametrize("kind", ["fisher", "ggn"])
def test_lissa_on_minibatches_is_the_mean_of_explicit_recursions(members, split, kind):
    train, test = reference_gradients(members[0], split)
    single = [
        reference.curvature(kind, members[0].model(), split.train_x[i : i + 1], split.train_y[i : i + 1])
        for i in range(40)
    ]
    solutions = []
    for repeat in range(2):
        random = members[0].stream("lissa", repeat)
        drawn = [random.choice(40, 6, replace=False, shuffle=False) for _ in range(9)]
        solutions.append(reference.lissa(single, drawn, test, 0.1, 3.0))
    given = {"curvature": kind, "damping": 0.1, "scale": 3.0, "depth": 9, "batch": 6, "repeats": 2}
    close(scores("influence_lissa", members[:1], split, **given)[0], train @ torch.stack(solutions).mean(0).T)


def test_lissa_on_minibatches_comes_close_to_the_exact_influence(members, split):
    exact = scores("influence", members[:1], split, curvature="ggn", damping=0.1)[0]
    given = {"curvature": "ggn", "damping": 0.1, "scale": 10.0, "depth": 500, "batch": 8, "repeats": 2}
    found = scores("influence_lissa", members[:1], split, **given)[0]
    assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.98


def test_lissa_does_not_depend_on_the_block_of_test_examples(monkeypatch, members, split):
    given = {"batch": 5, "scale": 5.0, "depth": 10, "repeats": 2}
    whole = scores("influence_lissa", members[:1], split, **given)[0]
    monkeypatch.setattr(influence_lissa, "_BLOCK_BYTES", 8 * 103 * 3)
    close(scores("influence_lissa", members[:1], split, **given)[0], whole, rtol=1e-6)


@pytest.mark.parametrize("batch", [40, 4])
def test_a_scale_that_makes_lissa_diverge_is_refused_and_the_one_it_names_does(members, split, batch):
    given = {"curvature": "ggn", "damping": 0.1, "depth": 150, "batch": batch}
    with pytest.raises(ValueError, match=r"scale 0.4: the recursion diverges from step 1 on") as raised:
        scores("influence_lissa", members[:1], split, **given, scale=0.4)
    named = float(re.search(r"use a scale of (\S+)$", str(raised.value))[1])
    if batch == 4:  # a minibatch may have more curvature than all examples
        with pytest.raises(ValueError, match=r"diverges at step \d+: the curvature of its minibatch") as raised:
            scores("influence_lissa", members[:1], split, **given, scale=0.72)
        named = float(re.search(r"use a scale of (\S+)$", str(raised.value))[1])
    assert np.isfinite(scores("influence_lissa", members[:1], split, **given, scale=named)[0]).all()


def test_lissa_on_an_indefinite_hessian_is_finite_or_names_the_damping_that_would_do(members, split):
    found = scores("influence_lissa", members[:1], split, batch=40, scale=2.0, depth=10, damping=0.0)[0]
    assert np.isfinite(found).all()
    with pytest.raises(ValueError, match=r"diverges at step \d+: .* use a damping above 0.77") as raised:
        scores("influence_lissa", members[:1], split, batch=40, scale=2.0, depth=1000, damping=0.0)
    assert "curvature 'ggn' or 'fisher'" in str(raised.value)


def test_lissa_refuses_a_batch_larger_than_the_training_set(members, split):
    with pytest.raises(ValueError, match="batch: 41 asked for, there are 40 training examples"):
        scores("influence_lissa", members[:1], split, batch=41)
