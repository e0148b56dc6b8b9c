"""Members that change their model: masks against explicit sub-networks, streams, sharing, sizes from one pass."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import reference
import torch
import yaml
from conftest import ROOT, TINY, itself, toy_regression, trained_members
from test_scores import REGISTRY, options
from torch import nn

from attriflow import changes, prepared, study
from attriflow.config import ConfigError
from attriflow.ensembles import (
    Member,
    by_model,
    checkpoints,
    dropout,
    dropout_forward,
    dropout_kernel,
    gaussian,
    independent,
    one_setting,
    projection,
    whole,
)
from attriflow.evaluation import disjoint
from attriflow.flops import Spent
from attriflow.gradients import REST, per_example
from attriflow.ground_truth import subsets
from attriflow.io import save_arrays
from attriflow.models import Trained, mlp, transformer
from attriflow.scores import trak
from attriflow.scoring import scored
from attriflow.sizes import EnsembleSize

BUILD = partial(mlp.build, (1, 4, 4), 3, hidden=[6, 5], dropout=0.4)
METHODS = ["trak", "influence", "grad_dot", "grad_cos", "logra"]
FIXED, FRESH = ({"kind": "dropout", "number": 1, "rate": None, "fresh": fresh} for fresh in (False, True))


@pytest.fixture(scope="module")
def pair(split) -> list[Trained]:
    """Two trained members 16-6-5-3 with dropout 0.4."""
    return trained_members(split, BUILD, 2)


def members(pair: list[Trained], listed: list[Member]) -> list[Trained]:
    """The members of an ensemble of these models."""
    models = dict(zip(dict.fromkeys(each.name for each in listed), pair, strict=False))
    return [models[each.name].changed(each.change) for each in listed]


def close(found, expected, rtol=1e-9):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=rtol, atol=rtol * scale)


def scores(method: str, each: list[Trained], split, **given) -> list[np.ndarray]:
    """Of the first, the first two, ... members."""
    module = REGISTRY.load("scores", method)
    made = [module.prepare(member, split, **options(method, "prepare", **given)) for member in each]
    return [np.array(found) for found in module.score(made, **options(method, "score", **given))]


def masked(member: Trained) -> dict[str, np.ndarray]:
    """The factors of every site of a member of fixed masks, by one pass."""
    model, found = member.model(), {}
    for name, layer in model.named_modules():
        if isinstance(layer, changes._Fixed):
            layer.register_forward_hook(
                lambda _, given, result, name=name: found.update({name: (result / given[0])[0].numpy()})
            )
    for layer in model.modules():
        if isinstance(layer, nn.ReLU):
            layer.register_forward_hook(lambda _layer, _given, result: result.abs() + 1)
    with torch.no_grad():
        model(torch.ones(1, 1, 4, 4, dtype=torch.float64))
    return found


def test_a_fixed_mask_zeroes_whole_units_and_scales_the_others(pair, split):
    member = pair[0].changed(FIXED)
    factors, whole_model = masked(member), pair[0].model()
    assert [len(each) for each in factors.values()] == [6, 5]
    assert {round(float(value), 12) for each in factors.values() for value in each} <= {0.0, round(1 / 0.6, 12)}
    # the same sub-network, by the weights that leave the units
    for layer, factor in zip((whole_model[4], whole_model[7]), factors.values(), strict=True):
        layer.weight.data *= torch.from_numpy(factor)
    x = torch.from_numpy(split.test_x).double()
    close(member.model()(x).detach(), whole_model(x).detach())


def test_gradients_under_a_fixed_mask_are_those_of_the_pruned_network(pair, split):
    """By the chain rule: a weight that leaves a unit has its factor in its gradient, too."""
    member, pruned = pair[0].changed(FIXED), pair[0].model()
    factors = [torch.from_numpy(each) for each in masked(member).values()]
    for layer, factor in zip((pruned[4], pruned[7]), factors, strict=True):
        layer.weight.data *= factor
    found = reference.gradients(member.model(), split.train_x, split.train_y, "loss")
    expected = reference.gradients(pruned, split.train_x, split.train_y, "loss").clone()
    start = 0
    for name, value in pruned.named_parameters():
        if name in ("4.weight", "7.weight"):
            scale = factors[name == "7.weight"].expand_as(value).flatten()
            expected[:, start : start + value.numel()] *= scale
        start += value.numel()
    close(found, expected)


@pytest.mark.parametrize("change", [FIXED, FRESH, {"kind": "gaussian", "number": 0, "rate": 0.2}], ids=str)
def test_factored_gradients_are_those_of_one_backward_pass_an_example(pair, split, change):
    model = pair[0].changed(change).model()
    found = per_example(model, split.train_x, split.train_y, "margin", batch=7)
    order = found.order(dict(model.named_parameters()))
    rows = [torch.from_numpy(split.train_x[[i]]).double() for i in range(len(split.train_y))]
    for i, x in enumerate(rows):
        output = reference_margin(model(x), int(split.train_y[i]))
        expected = torch.cat([each.flatten() for each in torch.autograd.grad(output, list(model.parameters()))])
        close(found.dense()[i], expected[order])


def reference_margin(logits: torch.Tensor, label: int) -> torch.Tensor:
    others = torch.cat([logits[0, :label], logits[0, label + 1 :]])
    return logits[0, label] - torch.logsumexp(others, 0)


@pytest.mark.parametrize("change", [FIXED, FRESH], ids=["fixed", "fresh"])
def test_the_general_path_has_the_masks_of_the_factored_one(change):
    """A sequence model: positions' parameters have no rule and take vmap, all others are factored."""
    build = partial(transformer.build, (6,), 5, width=8, layers=1, dropout=0.3)
    torch.manual_seed(0)
    member = Trained("full-0", 0, build, {1: build().state_dict()}, {1: 0.1}).changed(change)
    x = np.random.default_rng(0).integers(0, 5, (9, 6))
    model = member.model()
    found = per_example(model, x, x, "loss", batch=4)
    assert {type(part).__name__ for part in found.parts} >= {"Rows"}
    assert any(part.name == REST for part in found.parts)
    order = found.order(dict(model.named_parameters()))
    for i in range(len(x)):
        output = -torch.log_softmax(model(torch.from_numpy(x[[i]])), -1).gather(-1, torch.from_numpy(x[[i]])[..., None])
        expected = torch.cat([g.flatten() for g in torch.autograd.grad(output.mean(), list(model.parameters()))])
        close(found.dense()[i], expected[order])


def test_a_fresh_mask_belongs_to_the_example(pair, split):
    model = pair[0].changed(FRESH).model()
    x = torch.from_numpy(split.train_x).double()
    together = model(x)
    close(torch.cat([model(each[None]) for each in x]).detach(), together.detach())
    close(model(x.flip(0)).flip(0).detach(), together.detach())
    close(torch.func.vmap(lambda each: model(each[None])[0])(x).detach(), together.detach())
    others = pair[0].changed(FRESH | {"number": 2}).model()(x)
    assert (others != together).any(1).double().mean() > 0.8  # two masks of few units are the same now and then


def test_fresh_masks_drop_their_share_and_are_independent():
    """Of 400 examples and 50 units: rates within four standard errors, no correlation of units or of examples."""
    site = changes._Fresh(lambda *_: np.random.default_rng(1), "site", 0.3)
    site.see(torch.from_numpy(np.random.default_rng(0).standard_normal((400, 3))))
    factors = site(torch.ones(400, 50, dtype=torch.float64))
    assert set(factors.unique().tolist()) == {0.0, 1 / 0.7}
    kept = (factors > 0).double()
    assert abs(kept.mean() - 0.7) < 4 * (0.21 / kept.numel()) ** 0.5
    for table in (kept, kept.T):
        correlation = torch.corrcoef(table.T)
        correlation.fill_diagonal_(0)
        assert correlation.abs().max() < 5.5 / len(table) ** 0.5


def test_an_example_is_known_in_both_precisions_and_by_every_number_of_it():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((50, 2, 3)).astype(np.float32))
    found = changes.hashes(x)
    assert torch.equal(found, changes.hashes(x.double()))
    assert len(found.unique()) == 50
    for place in np.ndindex(2, 3):
        other = x.clone()
        other[(slice(None), *place)] += 1e-6
        assert (changes.hashes(other) != found).all()
    swapped = x.flip(1)
    assert (changes.hashes(swapped) != found).all()
    tokens = torch.tensor([[0, 1], [1, 0], [0, 0]])
    assert len(changes.hashes(tokens).unique()) == 3


def test_gaussian_factors_have_the_mean_and_variance_of_dropout():
    change, rate = {"kind": "gaussian", "number": 0, "rate": None}, 0.3
    module = nn.Sequential(nn.Linear(1, 100_000), nn.Dropout(rate))
    changes.apply(module, change, "wide", lambda *_: np.random.default_rng(0))
    factors = module[1](torch.ones(1, 100_000, dtype=torch.float64))
    assert abs(factors.mean() - 1) < 4 * (rate / (1 - rate) / 100_000) ** 0.5
    assert factors.var() == pytest.approx(rate / (1 - rate), rel=0.02)


def test_units_are_features_of_sequences_and_channels_of_images():
    assert changes._units((9, 4)) == (4,)
    assert changes._units((9, 6, 4)) == (4,)
    assert changes._units((9, 3, 8, 8)) == (3, 1, 1)


def test_a_rate_serves_models_that_were_trained_without_dropout(split):
    build = partial(mlp.build, (1, 4, 4), 3, hidden=[6, 5], dropout=0.0)
    (member,) = trained_members(split, build, 1)
    x = torch.from_numpy(split.train_x).double()
    with pytest.raises(
        ValueError, match="full-0: its dropout layers have rate 0, so a mask drops nothing; give a `rate`"
    ):
        member.changed(FIXED).model()
    assert not torch.equal(member.changed(FIXED | {"rate": 0.5}).model()(x), member.model()(x))


def test_a_model_without_dropout_is_refused_with_how_to_add_it():
    member = Trained("full-0", 0, lambda: nn.Linear(2, 3), {1: nn.Linear(2, 3).state_dict()}, {})
    with pytest.raises(ValueError, match=r"full-0 has no nn.Dropout.*put nn.Dropout\(p\) where its model's `build`"):
        member.changed(FIXED).model()
    with pytest.raises(ValueError, match="unknown change 'droput'"):
        member.changed({"kind": "droput"}).model()
    with pytest.raises(ValueError, match="part 'kernel'; expected one of"):
        member.model(part="kernel")


# --- exact checks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [dropout, dropout_kernel, gaussian])
def test_one_mask_that_drops_nothing_is_the_naive_ensemble(pair, split, kind, method):
    changed = members(pair, kind.members(count=2, masks=1, rate=0.0, fraction=0.9))
    for found, expected in zip(scores(method, changed, split), scores(method, pair, split), strict=True):
        close(found, expected, rtol=1e-6)


def test_masks_that_drop_nothing_are_the_projections_alone(pair, split):
    expected = scores("trak", members(pair, projection.members(count=2, projections=3)), split)
    for kind in (dropout, dropout_kernel, gaussian):
        found = scores("trak", members(pair, kind.members(count=2, masks=3, rate=0.0)), split)
        close(found, expected, rtol=1e-6)
    assert not np.allclose(expected[0], expected[1])  # projections differ


@pytest.mark.parametrize("count", [1, 2])
def test_forward_only_masks_that_drop_nothing_are_trak_of_the_models(pair, split, count):
    found = scores("trak", members(pair, dropout_forward.members(count=count, masks=3, rate=0.0)), split)
    close(found[-1], scores("trak", pair[:count], split)[-1], rtol=1e-6)


def test_forward_only_masks_change_residuals_alone_and_kernel_only_masks_all_else(pair, split):
    plain = trak.prepare(pair[0], split, proj_dim=6)
    full, forward, kernel = (
        trak.prepare(members(pair, kind.members(masks=1))[0], split, proj_dim=6)
        for kind in (dropout, dropout_forward, dropout_kernel)
    )
    for name in ("train", "test", "kernel"):
        np.testing.assert_array_equal(forward[name], plain[name])
        np.testing.assert_array_equal(kernel[name], full[name])
        assert not np.array_equal(full[name], plain[name])
    np.testing.assert_array_equal(kernel["residuals"], plain["residuals"])
    np.testing.assert_array_equal(forward["residuals"], full["residuals"])
    assert not np.array_equal(full["residuals"], plain["residuals"])


def test_at_one_member_the_product_of_means_is_the_mean_of_products(pair, split):
    (member,) = members(pair, dropout.members(masks=1))
    made = trak.prepare(member, split, proj_dim=6)
    kernel = trak._kernel(made, 0.1, 6)
    (found,) = trak.score([made], damping=0.1, proj_dim=6)
    close(found, kernel * made["residuals"][:, None])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fresh", [False, True], ids=["fixed", "fresh"])
def test_every_method_follows_masks_and_no_batch_changes_them(pair, split, method, fresh, monkeypatch):
    each = members(pair, dropout.members(count=2, masks=2, fresh=fresh))
    expected = scores(method, each, split)
    assert all(np.isfinite(found).all() for found in expected)
    assert not np.allclose(expected[-1], scores(method, pair, split)[-1])
    names = {name: REGISTRY.load("scores", method).__dict__.get(name) for name in ("per_example", "of_split")}
    monkeypatch.setattr("attriflow.gradients.per_example", partial(per_example, batch=7))
    if names["per_example"]:
        monkeypatch.setattr(REGISTRY.load("scores", method), "per_example", partial(per_example, batch=7))
    close(scores(method, each, split)[-1], expected[-1], rtol=1e-5)


def test_masks_of_a_regression(pair):
    numbers = toy_regression()
    pair = trained_members(numbers, partial(mlp.build, (6,), 1, hidden=[5], dropout=0.3), 2)
    for kind in (dropout, dropout_forward, dropout_kernel):
        found = scores("trak", members(pair, kind.members(count=2, masks=2)), numbers)[-1]
        assert np.isfinite(found).all()
    found = scores("trak", members(pair, dropout_forward.members(masks=2, rate=0.0)), numbers)[-1]
    close(found, scores("trak", pair[:1], numbers)[-1], rtol=1e-6)


@pytest.mark.parametrize("fresh", [False, True], ids=["fixed", "fresh"])
def test_self_influence_is_the_score_of_an_example_on_itself_under_masks(pair, split, fresh):
    same = itself(split)
    made = [trak.prepare(each, same, proj_dim=6) for each in members(pair, dropout.members(masks=2, fresh=fresh))]
    own = list(trak.self_influence(made, damping=0.1, proj_dim=6))[-1]
    close(own, np.diag(list(trak.score(made, damping=0.1, proj_dim=6))[-1]), rtol=1e-5)


# --- streams, checkpoints, agreement --------------------------------------------------------------------------


def test_members_of_one_number_share_a_projection_whatever_their_masks(pair):
    def drawn(change):
        return pair[0].changed(change).stream("projection", "1").random()

    assert drawn({}) == drawn(FIXED | {"number": 0}) == drawn(FIXED | {"parts": ["residuals"]})
    assert drawn(FIXED) == drawn(FRESH) == drawn({"kind": "projection", "number": 1})
    assert len({drawn(FIXED | {"number": number}) for number in range(4)}) == 4


def test_a_higher_rate_drops_the_same_units_and_more(pair):
    low, high = (
        np.concatenate(list(masked(pair[0].changed(FIXED | {"rate": rate})).values())) == 0 for rate in (0.2, 0.6)
    )
    assert (high | ~low).all()
    assert high.sum() > low.sum()


def test_a_checkpoint_is_a_model_that_ended_there(pair, split):
    early, late = members(pair, checkpoints.members(epochs=[1, "last"]))
    assert (list(early.checkpoints), list(early.rates), list(late.checkpoints)) == ([1], [1], [1, 3])
    x = torch.from_numpy(split.test_x).double()
    assert torch.equal(early.model()(x), pair[0].model(1)(x))
    assert torch.equal(late.model()(x), pair[0].model(3)(x))
    with pytest.raises(ValueError, match=r"full-0: epoch 3 was not kept; kept: \[1\]"):
        early.model(3)
    with pytest.raises(ValueError, match=r"full-0: epoch 2 was not kept; kept: \[1, 3\]"):
        pair[0].changed({"kind": "checkpoint", "number": 0, "epoch": 2})


@pytest.mark.parametrize("fraction", [None, 0.5])
def test_members_share_no_stream_and_no_subset_with_the_ground_truth(fraction):
    kinds = [
        *(
            kind.members(count=5, masks=2, fraction=fraction)
            for kind in (dropout, dropout_forward, dropout_kernel, gaussian)
        ),
        projection.members(count=5, projections=2, fraction=fraction),
        checkpoints.members(count=5, epochs=[1, 2], fraction=fraction),
        independent.members(count=5, fraction=fraction),
    ]
    truth = [
        run
        for every in subsets.runs(60, "ground_truth/subsets", 0, count=50, repeats=2, fraction=0.5).values()
        for run in every
    ]
    for listed in kinds:
        assert [each.run for each in listed[:: len(listed) // 5]] == [each.run for each in kinds[-1]]
        disjoint([each.run for each in listed], truth, 60, 0)
        with pytest.raises(ValueError, match="is also a model of the ground truth"):
            disjoint([each.run for each in listed], [*truth, listed[0].run], 60, 0)


def test_members_come_model_by_model():
    listed = dropout.members(count=3, masks=2)
    assert whole(listed) == EnsembleSize(3, 2)
    assert {name: len(each) for name, each in by_model(listed).items()} == {f"full-{model}": 2 for model in range(3)}
    with pytest.raises(ValueError, match="members of model full-0 must follow each other"):
        by_model([listed[0], listed[2], listed[1]])
    with pytest.raises(ValueError, match="equally many members"):
        by_model(listed[:3])


def test_an_ensemble_is_of_one_setting():
    def made(job, data="results/data/a.npz", **settings):
        recorded = {"model": {"kind": "mlp"}, "recipe": {"epochs": 3}, "run": {"stream": job}}
        return {"job": job, "settings": recorded | settings, "inputs": {"data": [{"path": data, "spec": "1"}]}}

    one_setting([made("models/a/full-0"), made("models/a/full-1")])
    with pytest.raises(ValueError, match=r"models/a/full-0 has recipe .*3.*, models/b/full-1 has .*4.*one"):
        one_setting([made("models/a/full-0"), made("models/b/full-1", recipe={"epochs": 4})])
    with pytest.raises(ValueError, match="has model"):
        one_setting([made("models/a/full-0"), made("models/b/full-1", model={"kind": "cnn"})])
    with pytest.raises(
        ValueError, match=r"full-0 was made from results/data/a.npz, models/b/full-1 from results/data/b"
    ):
        one_setting([made("models/a/full-0"), made("models/b/full-1", "results/data/b.npz")])


# --- sizes and sharing ----------------------------------------------------------------------------------------


def test_sizes_are_read_written_and_refused():
    assert [EnsembleSize.read(each, 4).written for each in (1, "2x1", "3x4")] == ["1x4", 2, "3x4"]
    assert EnsembleSize(5, 3).columns == {"ensemble_size": 15, "models": 5, "per_model": 3}
    assert EnsembleSize(5, 3).within(1) == EnsembleSize(1, 1)
    assert EnsembleSize(5, 3).within(7) == EnsembleSize(2, 3)
    for wrong in (0, -1, "5x", "x3", "5x0", "0x3", "5 x 3", "5X3", 1.5):
        with pytest.raises(ValueError, match="must be a whole number of at least 1"):
            EnsembleSize.read(wrong)


def block(path, listed: list[Trained], split, per_model: int, method=trak, **given):
    """A block of prepared members, as the script makes it, of which the later ones of a model share gradients."""
    found = {name: np.ones(len(listed)) for name in ("seconds", "cpu_seconds", "flops")}
    shared = [
        place % per_model > 0 and not changes.acts_on(each.change, "gradients") for place, each in enumerate(listed)
    ]
    for place, (member, one) in enumerate(zip(listed, shared, strict=True)):
        made = method.residuals(member, split) if one else method.prepare(member, split, **given)
        found |= {f"{place}/{key}": array for key, array in made.items()}
    places = np.arange(len(listed))
    found |= {"models": places // per_model, "numbers": places % per_model, "shared": np.array(shared)}
    save_arrays(path, found)
    return [path]


@pytest.mark.parametrize("kind", [dropout, dropout_forward])
def test_sizes_of_one_pass_are_those_of_ensembles_by_themselves(pair, split, kind, tmp_path):
    blocks = block(tmp_path / "0.npz", members(pair, kind.members(count=2, masks=3)), split, 3, proj_dim=6)
    sizes = [EnsembleSize(1), EnsembleSize(2), EnsembleSize(1, 3), EnsembleSize(2, 3)]
    point = {"damping": 0.1, "proj_dim": 6}
    found = {
        size: np.array(each)
        for size, each, _ in scored(trak.score, partial(prepared.members, blocks), point, sizes, {})
    }
    assert list(found) == sizes
    for size, each in found.items():
        alone = members(pair, kind.members(count=size.models, masks=size.per_model))
        close(each, scores("trak", alone, split, proj_dim=6, damping=0.1)[-1], rtol=1e-6)
        assert prepared.spent(blocks, size) == Spent(size.members, size.members, size.members)
        # what members of a model share is kept once
        every, own = (list(prepared.members(blocks, each)) for each in (size, EnsembleSize(1)))
        one = sum(array.nbytes for array in own[0].values())
        shares = size.per_model > 1 and every[1]["train"] is every[0]["train"]
        more = own[0]["residuals"].nbytes if shares else one
        assert prepared.kept(blocks, size) == size.models * (one + (size.per_model - 1) * more)


def test_forward_only_makes_gradients_and_kernels_once_for_each_model(pair, split, tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(
        trak, "project", lambda *given, _of=trak.project, **more: taken.append(1) or _of(*given, **more)
    )
    listed = members(pair, dropout_forward.members(count=2, masks=5))
    blocks = block(tmp_path / "0.npz", listed, split, 5, proj_dim=6)
    assert len(taken) == 2
    solved = []
    factor = trak._factor
    monkeypatch.setattr(trak, "_factor", lambda *given: solved.append(1) or factor(*given))
    every = list(trak.score(prepared.members(blocks, EnsembleSize(2, 5)), damping=0.1, proj_dim=6))
    assert (len(every), len(solved)) == (10, 2)
    spectra = []
    of_size = prepared.spectra(
        blocks, lambda arrays: spectra.append(1) or trak.spectrum(arrays, proj_dim=6), lambda: None
    )
    assert (len(of_size(EnsembleSize(2, 5))), len(of_size(EnsembleSize(1, 2))), len(spectra)) == (10, 2, 2)
    full = block(tmp_path / "1.npz", members(pair, dropout.members(count=2, masks=5)), split, 5, proj_dim=6)
    assert (tmp_path / "0.npz").stat().st_size < (tmp_path / "1.npz").stat().st_size
    assert len(list(prepared.members(full, EnsembleSize(2, 5)))) == 10


def test_members_that_share_nothing_share_nothing(pair, split, tmp_path):
    blocks = block(tmp_path / "0.npz", members(pair, dropout.members(count=1, masks=2)), split, 2, proj_dim=6)
    first, second = prepared.members(blocks, EnsembleSize(1, 2))
    assert not np.array_equal(first["train"], second["train"])
    renamed = replace(pair[0], name="full-9")
    assert not np.array_equal(trak.prepare(renamed, split, proj_dim=6)["train"], first["train"])


def test_a_plan_trains_each_model_once_and_prepares_the_members_that_sizes_take():
    config = yaml.safe_load(TINY)
    config["ensembles"]["masked"] = {"kind": "dropout", "count": 2, "masks": 3, "sizes": [1, "2x2"]}
    config["methods"]["influence"]["only"] = {"members": 1}
    jobs = study.plan(ROOT, config).jobs
    assert [job.stem for job in jobs.values() if job.rule == "train"] == [f"models/digits_mlp/full-{i}" for i in (0, 1)]
    made = [job for job in jobs.values() if job.rule == "prepare" and job.settings["ensemble"] == "masked"]
    counts = {(job.settings["method"], job.settings["first"]): job.settings["members"] for job in made}
    assert {at: [len(each["changes"]) for each in found] for at, found in counts.items()} == {
        ("grad_dot", 0): [3], ("grad_dot", 1): [2], ("influence", 0): [1], ("trak", 0): [3], ("trak", 1): [2],
    }  # fmt: skip
    sizes = {
        job.settings["method"]: job.settings["sizes"]
        for job in jobs.values()
        if job.rule == "score" and job.settings["ensemble"] == "masked"
    }
    assert sizes == {"grad_dot": ["1x3", "2x2"], "influence": [1], "trak": ["1x3", "2x2"]}
    members = jobs["ensembles/digits_mlp/masked"].settings["members"]
    assert [(each["name"], each["change"]["number"]) for each in members] == [
        (f"full-{model}", number) for model in range(2) for number in range(3)
    ]


def test_a_final_model_alone_may_be_masked_and_two_may_not():
    config = yaml.safe_load(TINY)
    config["settings"]["digits_mlp"] |= {"access": "final_model", "checkpoints": []}
    config["ensembles"] = {"masked": {"kind": "dropout", "count": 1, "masks": 3}}
    jobs = study.plan(ROOT, config).jobs
    (first, *_) = [job for job in jobs.values() if job.rule == "prepare"]
    assert first.settings["members"][0]["run"] is None
    config["ensembles"]["masked"]["count"] = 2
    with pytest.raises(ConfigError, match=r"ensembles.masked: it has 2 models, and settings.digits_mlp gives"):
        study.plan(ROOT, config)
