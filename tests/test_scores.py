"""Scores: every method against its slow, obvious self, and the relations that must hold."""

from dataclasses import replace

import numpy as np
import pytest
import reference
import torch
from conftest import itself, toy_split, trained_members
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from attriflow import engine
from attriflow.data import Split
from attriflow.gradients import Gradients, Rows, per_example
from attriflow.models import Trained
from attriflow.registry import REQUIRED, Registry
from attriflow.runs import Run
from attriflow.scores import datamodel, grad_dot, influence, influence_arnoldi, random, running_mean, tracin, trak
from attriflow.selection import indicators, mean_eigenvalue, moments
from attriflow.spectrum import Spectrum

REGISTRY = Registry()
VALUES = {  # of hyperparameters without a default
    "damping": 0.1, "proj_dim": 6, "rank": 4, "iterations": 12, "scale": 2.0, "depth": 20, "batch": 40,
    "steps": 10, "learning_rate": 0.01,
}  # fmt: skip


def options(method: str, function: str, **given) -> dict:
    found = {}
    for name, hyperparameter in REGISTRY.hyperparameters("scores", method, function).items():
        found[name] = given.get(
            name, VALUES.get(name) if hyperparameter.default is REQUIRED else hyperparameter.default
        )
    return found


def scores(method: str, members, split, **given) -> list[np.ndarray]:
    """Of the first, the first two, ... members."""
    module = REGISTRY.load("scores", method)
    prepared = [module.prepare(member, split, **options(method, "prepare", **given)) for member in members]
    return [np.asarray(found) for found in module.score(prepared, **options(method, "score", **given))]


def reference_gradients(member, split, output="loss", epoch="last"):
    model = member.model(epoch)
    return (
        reference.gradients(model, split.train_x, split.train_y, output),
        reference.gradients(model, split.test_x, split.test_y, output),
    )


def close(found, expected, rtol=2e-4):
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


# --- contracts, over every file of the folder ----------------------------------------------------------------

METHODS = sorted(REGISTRY.kinds("scores"))
# look at the examples they are given; dvemb at those that the training saw, test_dvemb.py has its own such tests
EXAMPLES = [method for method in METHODS if method not in ("random", "datamodel", "dvemb")]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_yields_n_by_m_after_each_member(members, split, method):
    found = scores(method, members, split)
    assert [each.shape for each in found] == [(40, 7), (40, 7)]
    assert all(np.isfinite(each).all() for each in found)


@pytest.mark.parametrize("method", METHODS)
def test_the_ensemble_of_one_is_the_member_alone(members, split, method):
    assert np.array_equal(scores(method, members, split)[0], scores(method, members[:1], split)[0])


@pytest.mark.parametrize("method", METHODS)
def test_prepared_arrays_can_be_saved_and_read(members, split, method, tmp_path):
    from attriflow.io import load_arrays, save_arrays

    module = REGISTRY.load("scores", method)
    prepared = module.prepare(members[0], split, **options(method, "prepare"))
    save_arrays(tmp_path / "p.npz", prepared)
    (direct,) = module.score([prepared], **options(method, "score"))
    (read,) = module.score([load_arrays(tmp_path / "p.npz")], **options(method, "score"))
    close(read, direct, rtol=1e-5)


@pytest.mark.parametrize("method", EXAMPLES)
def test_scores_permute_with_the_training_examples(members, split, method):
    order = np.random.default_rng(1).permutation(40)
    moved = Split(**{**vars(split), "train_x": split.train_x[order], "train_y": split.train_y[order]})
    close(scores(method, members, moved)[-1], scores(method, members, split)[-1][order], rtol=1e-3)


OPTIONAL = {
    function: [method for method in METHODS if hasattr(REGISTRY.load("scores", method), function)]
    for function in ("spectrum", "self_influence")
}


@pytest.mark.parametrize("function", OPTIONAL)
def test_optional_functions_take_hyperparameters_that_score_takes(function):
    for method in OPTIONAL[function]:
        taken = REGISTRY.hyperparameters("scores", method, function)
        known = REGISTRY.hyperparameters("scores", method, "score")
        assert all(known[name] == hyperparameter for name, hyperparameter in taken.items()), method


@pytest.mark.parametrize("method", OPTIONAL["self_influence"])
def test_self_influence_is_the_diagonal_of_the_scores_of_the_training_examples_on_themselves(members, split, method):
    module = REGISTRY.load("scores", method)
    prepared = [module.prepare(member, itself(split), **options(method, "prepare")) for member in members]
    found = list(module.self_influence(prepared, **options(method, "self_influence")))
    scored = module.score(prepared, **options(method, "score"))
    assert len(found) == 2
    for each, expected in zip(found, scored, strict=True):
        assert each.shape == (40,)
        close(each, np.diag(expected))


@pytest.mark.parametrize("method", OPTIONAL["self_influence"])
def test_self_influence_refuses_what_score_refuses(members, split, method):
    refused = {"trak": {"proj_dim": 64, "damping": 0.0}, "ekfac": {"damping": 0.0}, "tracin": {"checkpoints": 3}}
    if method not in refused:
        return
    module, given = REGISTRY.load("scores", method), refused[method]
    prepared = module.prepare(members[0], split, **options(method, "prepare", **given))
    messages = []
    for function in ("score", "self_influence"):
        with pytest.raises(ValueError, match=r"singular|damping 0|asked for") as error:
            next(getattr(module, function)([prepared], **options(method, function, **given)))
        messages.append(str(error.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("proj_dim", [6, 64])
@pytest.mark.parametrize("method", OPTIONAL["spectrum"])
def test_the_mean_weight_of_the_training_examples_themselves_is_the_squared_eigenvalue(
    members, split, method, proj_dim
):
    """Of a curvature that is the second moment of the training gradients; with 64 projected TRAK's is singular."""
    module = REGISTRY.load("scores", method)
    given = {"proj_dim": proj_dim} | ({"curvature": "fisher"} if method == "influence_arnoldi" else {})
    prepared = module.prepare(members[0], itself(split), **options(method, "prepare", **given))
    found = module.spectrum(prepared, **options(method, "spectrum", proj_dim=proj_dim))
    expected = Spectrum(found.values, (found.counts * found.values**2)[:, None], found.counts, found.dimension)
    dampings = np.geomspace(1e-6, 10, 8)
    np.testing.assert_allclose(moments(found, dampings).mean(-1), moments(expected, dampings)[..., 0], rtol=1e-3)


@pytest.mark.parametrize("method", ["influence", "trak"])
@pytest.mark.parametrize("n", [40, 200])
def test_the_second_moment_of_a_spectrum_is_the_mean_squared_score(build, method, n):
    """t₂ is the variance of the scores over training examples, in the dual form and in the primal one."""
    split = toy_split(n=n)
    (member,) = trained_members(split, build, 1)
    module, given = REGISTRY.load("scores", method), {"damping": 0.01}
    prepared = module.prepare(member, split, **options(method, "prepare"))
    found = next(module.score([prepared], **options(method, "score", **given)))
    if method == "trak":  # its kernel, without 1 - p
        found = found / prepared["residuals"][:, None]
    spectrum = module.spectrum(prepared, **options(method, "spectrum"))
    np.testing.assert_allclose(moments(spectrum, [0.01])[2, 0], np.square(found).mean(0), rtol=1e-4)


@pytest.mark.parametrize("rank", [3, "all"])
def test_the_second_moment_of_ritz_pairs_is_the_mean_squared_score(members, split, rank):
    given = {"curvature": "fisher", "rank": rank, "damping": 0.01}
    found = scores("influence_arnoldi", members[:1], split, **given)[0]
    prepared = influence_arnoldi.prepare(members[0], split, **options("influence_arnoldi", "prepare", **given))
    spectrum = influence_arnoldi.spectrum(prepared, **options("influence_arnoldi", "spectrum", **given))
    assert len(spectrum.values) == (12 if rank == "all" else rank)
    np.testing.assert_allclose(moments(spectrum, [0.01])[2, 0], np.square(found).mean(0), rtol=1e-4)


@pytest.mark.parametrize("kind", ["fisher", "ggn", "hessian"])
def test_the_spectrum_of_influence_is_that_of_the_explicit_curvature(members, split, kind):
    _, test = reference_gradients(members[0], split)
    values, vectors = torch.linalg.eigh(curvature_of(members[0], split, kind))
    kept = values.abs() > 1e-12 * values.abs().max()
    squares = (vectors[:, kept].T @ test.T).square()
    expected = Spectrum.of(values[kept].abs().numpy(), squares.numpy(), dimension=103)
    found = influence.spectrum(influence.prepare(members[0], split, curvature=kind))
    dampings = np.geomspace(1e-6, 10, 8)
    np.testing.assert_allclose(moments(found, dampings), moments(expected, dampings), rtol=1e-5)
    assert found.dimension == 103
    assert mean_eigenvalue([found], over="parameters") == pytest.approx(0.1 * float(values.abs().mean()), rel=1e-6)


def test_trak_has_the_spectrum_of_its_first_dimensions(members, split):
    whole = trak.prepare(members[0], split, proj_dim=6)
    few = trak.prepare(members[0], split, proj_dim=3)
    first, second = (trak.spectrum(each, proj_dim=3) for each in (whole, few))
    dampings = np.geomspace(1e-4, 10, 6)
    np.testing.assert_allclose(indicators(first, dampings), indicators(second, dampings), rtol=1e-5)
    assert first.dimension == 3


@pytest.mark.parametrize("kind", ["fisher", "hessian"])
def test_powers_of_influence_are_explicit_powers_of_the_inverse(members, split, kind):
    train, test = reference_gradients(members[0], split)
    values, vectors = torch.linalg.eigh(curvature_of(members[0], split, kind))
    inverse = vectors @ torch.diag(1 / (values.abs() + 0.01)) @ vectors.T
    masks = np.random.default_rng(0).random((5, len(train))) < 0.5
    prepared = influence.prepare(members[0], split, curvature=kind)
    found = influence.powers(prepared, masks, damping=0.01)
    close(found[0], masks @ (train @ inverse @ test.T).numpy())
    close(found[1], masks @ (train @ inverse @ inverse @ test.T).numpy())
    unit = float(train.square().mean())
    relative = influence.powers(prepared, masks, damping=0.01 / unit, relative=True)
    close(relative[0], found[0])
    close(relative[1], unit * found[1])


# --- against the reference -----------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [1, "last"])
def test_grad_dot_is_the_mean_of_inner_products(members, split, epoch):
    products = []
    for member in members:
        train, test = reference_gradients(member, split, epoch=epoch)
        products.append((train @ test.T).numpy())
    close(scores("grad_dot", members, split, epoch=epoch)[1], np.mean(products, 0))


def test_grad_cos_is_the_mean_of_cosines(members, split):
    cosines = []
    for member in members:
        train, test = reference_gradients(member, split)
        cosines.append(torch.nn.functional.cosine_similarity(train[:, None], test[None], dim=-1).numpy())
    close(scores("grad_cos", members, split)[1], np.mean(cosines, 0))


def test_a_zero_gradient_has_cosine_zero():
    one = Gradients([Rows("rest", ("w",), torch.tensor([[3.0, 4.0], [0.0, 0.0], [3e-30, 4e-30]]).double())])
    assert one.cosines(one).tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 1]]


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("checkpoints", [1, 2, "all"])
def test_tracin_sums_over_the_last_checkpoints(members, split, normalise, checkpoints):
    epochs = {1: [3], 2: [1, 3], "all": [1, 3]}[checkpoints]
    total = 0
    for epoch in epochs:
        train, test = reference_gradients(members[0], split, epoch=epoch)
        if normalise:
            train, test = torch.nn.functional.normalize(train), torch.nn.functional.normalize(test)
        total = total + 0.05 * (train @ test.T).numpy()
    close(scores("tracin", members[:1], split, normalise=normalise, checkpoints=checkpoints)[0], total)


def test_trak_without_projection_is_the_reference_on_whole_gradients(members, split):
    sides, p = [], 103
    for member in members:
        model = member.model()
        train, test = (reference.gradients(model, x, y, "margin") for x, y in both_sides(split))
        probabilities = torch.softmax(model(torch.from_numpy(split.train_x).double()), -1).detach()
        right = probabilities[torch.arange(len(train)), torch.from_numpy(split.train_y)]
        sides.append({"train": train, "test": test, "probabilities": right})
    found = scores("trak", members, split, projection="none", proj_dim=p, damping=0.1)[1]
    close(found, reference.trak(sides, 0.1).numpy())


def test_whole_gradients_have_no_smaller_dimension(members, split):
    with pytest.raises(ValueError, match="proj_dim 50: without a projection it must be p = 103"):
        trak.prepare(members[0], split, projection="none", proj_dim=50)
    prepared = trak.prepare(members[0], split, projection="none", proj_dim=103)
    with pytest.raises(ValueError, match="proj_dim 50: gradients that are not projected have no smaller dimension"):
        next(trak.score([prepared], damping=0.1, proj_dim=50))


def both_sides(split):
    return ((split.train_x, split.train_y), (split.test_x, split.test_y))


@pytest.mark.parametrize("method", ["grad_dot", "influence", "ekfac"])
def test_scores_explain_the_margin_where_it_is_the_target(members, split, method):
    options = {} if method == "grad_dot" else {"damping": 0.1}
    margin, loss = (scores(method, members[:1], split, target=target, **options)[0] for target in ("margin", "loss"))
    with torch.no_grad():
        logits = members[0].model()(torch.from_numpy(split.test_x).double())
    p = torch.softmax(logits, -1)[torch.arange(len(logits)), torch.from_numpy(split.test_y)].numpy()
    close(loss, margin * (1 - p))  # the loss falls by 1 - p for each unit that the margin rises


def test_the_last_token_is_a_target_of_sequences_alone(members, split):
    with pytest.raises(ValueError, match="last_token_loss: the model gives one vector of logits an example"):
        scores("grad_dot", members, split, target="last_token_loss")


def test_tracin_refuses_more_checkpoints_than_there_are(members, split):
    with pytest.raises(ValueError, match="checkpoints: 3 asked for, the setting keeps 2"):
        scores("tracin", members, split, checkpoints=3)


def curvature_of(member, split, kind):
    model = member.model()
    if kind == "fisher":
        train, _ = reference_gradients(member, split)
        return train.T @ train / len(train)
    return {"hessian": reference.hessian, "ggn": reference.gauss_newton}[kind](model, split.train_x, split.train_y)


@pytest.mark.parametrize("damping", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("kind", ["fisher", "ggn", "hessian"])
def test_influence_is_the_explicit_inverse(members, split, kind, damping):
    expected = []
    for member in members:
        train, test = reference_gradients(member, split)
        expected.append(reference.influence(curvature_of(member, split, kind), train, test, damping).numpy())
    close(scores("influence", members, split, curvature=kind, damping=damping)[1], np.mean(expected, 0))


def test_the_dual_and_the_primal_form_of_the_fisher_agree(split, build):
    # 200 examples of 103 parameters take the primal form, their first 40 the dual one
    many = toy_split(n=200)
    (member,) = trained_members(many, build, 1)
    few = Split(**{**vars(many), "train_x": many.train_x[:40], "train_y": many.train_y[:40]})
    for data, modes in ((many, 103), (few, 40)):
        prepared = influence.prepare(member, data)
        assert len(prepared["values"]) <= modes
        train, test = reference_gradients(member, data)
        expected = reference.influence(train.T @ train / len(train), train, test, 0.01)
        close(next(influence.score([prepared], damping=0.01)), expected)


@pytest.mark.parametrize("kind", ["fisher", "hessian"])
@pytest.mark.parametrize("relatif", ["loss", "parameters"])
def test_relative_influence_is_divided_by_what_an_example_does_globally(members, split, kind, relatif):
    train, test = reference_gradients(members[0], split)
    values, vectors = torch.linalg.eigh(curvature_of(members[0], split, kind))
    solved = train @ vectors @ torch.diag(1 / (values.abs() + 0.01)) @ vectors.T  # (n, p)
    sizes = (solved * train).sum(1).sqrt() if relatif == "loss" else solved.norm(dim=1)
    expected = solved @ test.T / sizes[:, None]
    (found,) = scores("influence", members[:1], split, curvature=kind, damping=0.01, relatif=relatif)
    close(found, expected)


def test_relative_influence_of_an_example_without_a_gradient_is_zero():
    member = {"values": np.ones(2), "left": np.eye(3, 2, dtype=np.float32), "right": np.ones((2, 4), np.float32)}
    (found,) = influence.score([member | {"squares": np.ones(2)}], damping=0.0, relatif="loss")
    assert np.array_equal(found, [[1] * 4, [1] * 4, [0] * 4])


def test_influence_without_damping_is_the_pseudo_inverse(members, split):
    train, test = reference_gradients(members[0], split)
    expected = train @ torch.linalg.pinv(train.T @ train / len(train), hermitian=True) @ test.T
    close(scores("influence", members[:1], split, damping=0.0)[0], expected, rtol=1e-2)


def test_an_all_zero_curvature_is_refused(split, build, members):
    flat = {name: torch.zeros_like(value) for name, value in members[0].checkpoints[3].items()}
    flat["3.bias"] = torch.tensor([1e4, 0.0, 0.0])
    certain = Split(**{**vars(split), "train_y": np.zeros_like(split.train_y)})
    with pytest.raises(ValueError, match="every training gradient vanishes"):
        influence.prepare(Trained("full-0", 0, build, {3: flat}, {}), certain)


def test_heavily_damped_influence_ranks_like_grad_dot(members, split):
    damped = scores("influence", members, split, damping=1e6)[-1] * 1e6
    close(damped, scores("grad_dot", members, split)[-1], rtol=1e-4)


@pytest.mark.parametrize("proj_dim", [3, 6])
def test_trak_is_the_product_of_two_means_of_explicit_projections(members, split, proj_dim):
    described = []
    for member in members:
        model = member.model()
        train, test = (
            per_example(model, x, y, "margin")
            for x, y in ((split.train_x, split.train_y), (split.test_x, split.test_y))
        )
        matrix = reference.projection(train, member.stream, proj_dim) / np.sqrt(proj_dim)
        p = torch.softmax(model(torch.from_numpy(split.train_x).double()), -1).detach()
        right = p[torch.arange(40), torch.from_numpy(split.train_y)]
        described.append({"train": train.dense() @ matrix, "test": test.dense() @ matrix, "probabilities": right})
    prepared = [trak.prepare(member, split, proj_dim=6) for member in members]  # the larger serves the smaller
    found = list(trak.score(prepared, damping=0.1, proj_dim=proj_dim))
    close(found[0], reference.trak(described[:1], 0.1))
    close(found[1], reference.trak(described, 0.1))


def test_heavily_damped_trak_ranks_like_grad_dot_on_the_same_projection(members, split):
    (member,) = members[:1]
    prepared = trak.prepare(member, split, proj_dim=6)
    found = next(trak.score([prepared], damping=1e8, proj_dim=6)) * 1e8
    products = prepared["train"] @ prepared["test"].T / 6 * prepared["residuals"][:, None]
    close(found, products, rtol=1e-4)


def test_trak_on_a_singular_kernel_needs_damping(members, split):
    with pytest.raises(
        ValueError, match=r"damping 0.0: the kernel of 40 training examples in 64 dimensions is singular"
    ):
        scores("trak", members[:1], split, proj_dim=64, damping=0.0)
    assert np.isfinite(scores("trak", members[:1], split, proj_dim=64, damping=1e-3)[0]).all()


def test_members_have_their_own_projections_and_random_scores(members, split):
    for method, name in ((trak, "train"), (random, "scores")):
        given = {"proj_dim": 6} if method is trak else {}
        first, second = (method.prepare(member, split, **given)[name] for member in members)
        assert not np.allclose(first, second)


@settings(deadline=None, max_examples=20)
@given(arrays.arrays(np.float64, (4, 3), elements=st.floats(-1e3, 1e3)))
def test_running_means_are_means_of_prefixes(values):
    for count, mean in enumerate(running_mean(iter(values)), 1):
        np.testing.assert_allclose(mean, values[:count].mean(0), atol=1e-9)


# --- against retraining --------------------------------------------------------------------------------------


def test_hessian_influence_of_a_converged_logistic_regression_predicts_leaving_one_out():
    from attriflow.models import logistic

    split, left_out = toy_split(n=2000), range(0, 2000, 70)
    build = lambda: logistic.build((1, 4, 4), 3)  # noqa: E731
    recipe = {
        "optimiser": "sgd", "learning_rate": 0.3, "momentum": 0.9, "weight_decay": 0.03, "schedule": "cosine",
        "batch_size": 2000, "epochs": 300,
    }  # fmt: skip
    runs = [Run("a"), *(Run("a", left_out=(index,)) for index in left_out)]
    stacks = list(engine.train(build, split.train_x, split.train_y, runs, recipe, 0))
    losses = np.concatenate(
        [engine.measure(build, stack.weights[300], split.test_x, split.test_y)["loss"] for stack in stacks]
    )
    member = Trained("a", 0, build, {300: stacks[0].state(0, 300)}, {300: 0.0})
    # the L2 penalty of the recipe is the curvature's damping; without the example the loss is the mean of the others,
    # so what leaves the mean is its gradient minus the mean gradient, which the penalty balances
    found = scores("influence", [member], split, curvature="hessian", damping=0.03)[0]
    found = (found - found.mean(0))[left_out]
    change = losses[1:] - losses[0]
    assert min(np.corrcoef(found[:, test], change[:, test])[0, 1] for test in range(7)) > 0.99
    # and in size
    assert 0.95 < np.sum(found * change) / np.sum(found * found) * 1999 < 1.05


def test_positive_scores_are_helpful(members, split):
    """Of every method that looks at examples: a copy of the test example among the training examples helps it."""
    copied = Split(**{
        **vars(split),
        "train_x": np.concatenate([split.train_x, split.test_x]),
        "train_y": np.concatenate([split.train_y, split.test_y]),
    })  # fmt: skip
    for method in EXAMPLES:
        # what is right once, after much further training, is too much twice: the corrected formula knows
        damping = 10.0 if method == "influence_corrected" else 0.1
        found = scores(method, members, copied, proj_dim=64, damping=damping)[-1]
        assert (np.diag(found[40:]) > 0).all(), method
        assert np.mean(np.diag(found[40:]) > np.median(found, axis=0)) == 1, method


def test_grad_dot_and_tracin_agree_at_the_last_checkpoint(members, split):
    one = next(tracin.score([tracin.prepare(members[0], split)], checkpoints=1)) / 0.05
    close(one, next(grad_dot.score([grad_dot.prepare(members[0], split)])), rtol=1e-5)


# --- datamodels ----------------------------------------------------------------------------------------------


def observations(count: int, effects: np.ndarray) -> list[dict[str, np.ndarray]]:
    """What datamodel prepares of members whose losses are exactly linear in who they saw."""
    random = np.random.default_rng(0)
    masks = np.stack([np.isin(np.arange(20), random.permutation(20)[:10]) for _ in range(count)])
    return [{"mask": mask, "losses": 3 - mask @ effects} for mask in masks]


def test_a_datamodel_finds_the_few_examples_that_matter():
    effects = np.zeros((20, 2))
    effects[[3, 7], 0], effects[11, 1] = [2.0, -1.0], 0.5
    found = [np.asarray(each) for each in datamodel.score(observations(200, effects), penalty=0.001)]
    assert not found[0].any(), "a single member says nothing"
    np.testing.assert_allclose(found[-1], effects, atol=0.01)


def test_a_datamodel_is_the_minimum_of_its_objective():
    """Every derivative of the squared error is at most the penalty, and equal to it where a coefficient is not 0."""
    members = observations(30, np.random.default_rng(1).standard_normal((20, 1)))
    *_, found = datamodel.score(members, penalty=0.2)
    w = np.asarray(found)[:, 0]
    x = np.stack([member["mask"] for member in members]) - np.mean([member["mask"] for member in members], 0)
    y = np.mean([member["losses"] for member in members]) - np.stack([member["losses"][0] for member in members])
    largest = np.abs(x.T @ y).max() / 30
    slopes = x.T @ (y - x @ w) / 30
    assert (np.abs(slopes) <= 0.2 * largest * 1.01).all()
    assert 0 < np.count_nonzero(w) < 20
    np.testing.assert_allclose(slopes[w != 0], 0.2 * largest * np.sign(w[w != 0]), rtol=0.01)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_a_datamodel_is_converged_at_any_scale_of_losses(scale):
    """Coefficients solve the equations of those that are not 0, Lasso's closed form once one knows which these are."""
    members = observations(300, np.random.default_rng(1).standard_normal((20, 1)))
    members = [member | {"losses": scale * member["losses"]} for member in members]
    *_, found = datamodel.score(members, penalty=0.1)
    w = np.asarray(found)[:, 0]
    masks, losses = (np.stack([member[name] for member in members]) for name in ("mask", "losses"))
    x, y = masks - masks.mean(0), losses.mean(0)[0] - losses[:, 0]
    penalty = 0.1 * np.abs(x.T @ y).max() / len(x)
    some = x[:, w != 0]
    assert 0 < some.shape[1] < 20
    exact = np.linalg.solve(some.T @ some / len(x), some.T @ y / len(x) - penalty * np.sign(w[w != 0]))
    np.testing.assert_allclose(w[w != 0], exact, rtol=0, atol=1e-5 * np.abs(exact).max())


def test_a_datamodel_of_members_that_saw_everything_is_refused(members, split):
    member = replace(members[0], run=Run("models/full-0"))
    with pytest.raises(
        ValueError, match=r"member full-0 was trained on all 40 examples; use an ensemble with a `fraction`"
    ):
        datamodel.prepare(member, split)
