"""Models: what the models room hands on."""

from dataclasses import replace

import numpy as np
import pytest
import reference
import torch
from conftest import toy_regression, toy_split
from torch import nn

from attriflow.gradients import per_example
from attriflow.io import save_weights
from attriflow.models import Trained, builder, load_trained
from attriflow.models._remarks import guess, outputs_remark, quality_remark
from attriflow.registry import Registry


def test_the_builder_passes_hyperparameters(split):
    build = builder(Registry(), {"kind": "mlp", "hidden": [6, 4], "dropout": 0.2}, split.shape, 3)
    shapes = [tuple(parameter.shape) for parameter in build().parameters()]
    assert shapes == [(6, 16), (6,), (4, 6), (4,), (3, 4), (3,)]
    assert [layer.p for layer in build() if isinstance(layer, torch.nn.Dropout)] == [0.2, 0.2]


def test_the_papers_mlp_has_the_papers_size():
    build = builder(Registry(), {"kind": "mlp"}, (1, 28, 28), 10)
    assert sum(parameter.numel() for parameter in build().parameters()) == 109_386  # SOURCE: dattri's benchmark


def test_a_saved_model_is_the_same_after_loading(members, tmp_path, build, split):
    first = members[0]
    save_weights(tmp_path / "m.pt", {"checkpoints": first.checkpoints, "rates": first.rates, "device": "cpu"})
    loaded = load_trained(tmp_path / "m.pt", "full-0", 0, build)
    x = torch.from_numpy(split.test_x).double()
    for epoch in (1, "last"):
        assert torch.equal(loaded.model(epoch)(x), first.model(epoch)(x))
    assert not torch.equal(first.model(1)(x), first.model(3)(x))


def test_an_epoch_that_was_not_kept_is_refused(members):
    with pytest.raises(ValueError, match=r"epoch 2 was not kept; kept: \[1, 3\]"):
        members[0].model(2)


def test_weights_of_another_architecture_are_refused_by_name(members, split):
    other = builder(Registry(), {"kind": "mlp", "hidden": [6], "dropout": 0.0}, split.shape, 3)
    stranger = Trained("full-0", 0, other, members[0].checkpoints, {})
    with pytest.raises(
        ValueError, match=r"checkpoint full-0 is of another architecture: 1.bias: \(5,\), expected \(6,\)"
    ):
        stranger.model()


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "m.pt"
    save_weights(path, {"checkpoints": {1: {"w": torch.ones(1000)}}})
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ValueError, match=r"m.pt is damaged"):
        load_trained(path, "full-0", 0, None)


def test_a_checkpoint_runs_no_code(tmp_path):
    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"checkpoints": Attack()}, tmp_path / "m.pt")
    with pytest.raises(
        ValueError,
        match=r"m.pt is damaged, or holds code or objects that are not loaded \(Unsupported global: GLOBAL io.open was",
    ):
        load_trained(tmp_path / "m.pt", "full-0", 0, None)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("parameters", "chosen"),
    [
        ("all", ["1.weight", "1.bias", "3.weight", "3.bias"]),
        ("last", ["3.weight", "3.bias"]),
        ("1.*", ["1.weight", "1.bias"]),
        ("*.bias", ["1.bias", "3.bias"]),
    ],
)
def test_only_the_chosen_parameters_are_attributed(members, split, parameters, chosen):
    model = members[0].model("last", parameters)
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == chosen
    gradients = per_example(model, split.train_x, split.train_y, "loss")
    whole = dict(members[0].model().named_parameters())
    every = reference.gradients(members[0].model(), split.train_x, split.train_y, "loss")
    pieces = dict(zip(whole, every.split([parameter.numel() for parameter in whole.values()], 1), strict=True))
    expected = torch.cat([pieces[name] for name in chosen], 1)
    torch.testing.assert_close(gradients.gram(gradients), expected @ expected.T)


def test_a_pattern_that_matches_nothing_is_refused_with_the_names_there_are(members):
    with pytest.raises(ValueError, match=r"no parameter matches '2.*'; the model has \['1.weight', '1.bias'"):
        members[0].model("last", "2.*")


def test_the_constant_guess_is_the_best_of_the_training_labels():
    split = toy_split(n=8, m=4, classes=2)
    split = replace(split, train_y=np.array([0, 0, 0, 1, 0, 0, 0, 1]), test_y=np.array([0, 1, 1, 1]))
    found = guess(split)
    assert found["train_loss"] == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert found["test_loss"] == pytest.approx(-(0.25 * np.log(0.75) + 0.75 * np.log(0.25)))
    assert (found["train_accuracy"], found["test_accuracy"]) == (0.75, 0.25)
    numbers = toy_regression()
    assert guess(numbers)["train_loss"] == pytest.approx(numbers.train_y.var(), rel=1e-5)


GOOD = {"train_loss": 0.1, "train_accuracy": 0.95, "test_loss": 0.1, "test_accuracy": 0.95}


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({}, ""),
        ({"test_loss": 1.2}, "the test loss is above a constant guess's"),
        ({"train_accuracy": 0.4}, "the training accuracy is near chance"),
        (
            {"test_loss": np.inf, "test_accuracy": 0.0},
            "the test loss is above a constant guess's and the test accuracy",
        ),
    ],
)
def test_a_model_that_is_no_better_than_a_constant_guess_is_remarked(changes, remark):
    split = toy_split(classes=3)
    assert quality_remark(GOOD | changes, split).startswith(remark)
    assert bool(quality_remark(GOOD | changes, split)) == bool(remark)


@pytest.mark.parametrize(("last", "alike"), [([], False), ([nn.Softmax(-1)], True), ([nn.LogSoftmax(-1)], False)])
def test_a_model_that_ends_in_softmax_is_remarked(last, alike):
    split = toy_split()

    def build() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 3), *last)

    remark = outputs_remark(build, build().state_dict(), split)
    assert bool(remark) == alike
    assert not alike or "leave the Softmax out" in remark
