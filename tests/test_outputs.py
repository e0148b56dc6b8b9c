"""Measured outputs: what a model may return, labels that do not count, labels that cannot be."""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_gradient_checks import Body, Returns, dense, drawn_split, member, plain, vectors
from torch import nn
from torch.nn import functional

from attriflow import engine
from attriflow.gradients import per_example
from attriflow.outputs import IGNORED, OUTPUTS, logits_only, loss, quality
from attriflow.scores import trak

Named = namedtuple("Named", "hidden logits")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda z: (z, "more"), lambda z: [z], lambda z: {"loss": 0, "logits": z}, lambda z: Named(None, z),
        lambda z: SimpleNamespace(logits=z), lambda z: z,
    ],
)  # fmt: skip
def test_logits_are_taken_from_what_a_model_returns(wrap):
    z = torch.randn(4, 3)
    assert logits_only(nn.Identity(), (), wrap(z)) is z


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"scores": torch.ones(2, 3)}, r"a dict with \['scores'\]; expected a tensor of logits"),
        ((), "a tuple; expected"),
        (("text", torch.ones(2)), "a tuple; expected"),
        (None, "a NoneType; expected"),
    ],
)
def test_what_has_no_logits_is_refused_in_one_line(output, message):
    with pytest.raises(TypeError, match=message) as error:
        logits_only(nn.Identity(), (), output)
    assert len(str(error.value).splitlines()) == 1


def test_training_and_measuring_take_the_logits_too():
    x, y = vectors(24)
    trained = member(lambda: Returns(lambda z: {"logits": z}))
    weights = {name: value[None] for name, value in trained.final.items()}
    found = engine.measure(trained.build, weights, x, y)["loss"][0]
    expected = engine.measure(Body, {name: value[None] for name, value in trained.final.items()}, x, y)["loss"][0]
    np.testing.assert_array_equal(found, expected)


class Tagger(nn.Module):
    """A label at every position."""

    def __init__(self):
        super().__init__()
        self.e, self.f = nn.Embedding(7, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.f(torch.tanh(self.e(x) + self.e(x).mean(1, keepdim=True)))


def tagged() -> tuple[np.ndarray, np.ndarray]:
    """Sequences (12, 5) and their labels, some of which do not count, the last one of many among them."""
    random = np.random.default_rng(0)
    y = random.integers(0, 3, (12, 5))
    y[random.random((12, 5)) < 0.4] = IGNORED
    y[:, 1] = 2
    return random.integers(0, 7, (12, 5)), y


def test_positions_that_do_not_count_are_in_no_output():
    x, y = (torch.from_numpy(each) for each in tagged())
    z = member(Tagger).model()(x)
    for row, labels, measured, margin, last in zip(
        z, y, loss(z, y), OUTPUTS["margin"](z, y), OUTPUTS["last_token_loss"](z, y), strict=True
    ):
        kept = labels != IGNORED
        torch.testing.assert_close(measured, functional.cross_entropy(row, labels))
        torch.testing.assert_close(margin, OUTPUTS["margin"](row[kept], labels[kept]).mean())
        torch.testing.assert_close(last, functional.cross_entropy(row[kept][-1], labels[kept][-1]))
    expected = (z.argmax(-1) == y)[y != IGNORED].double().mean()
    assert quality(z, y)["accuracy"] == pytest.approx(float(expected))


@pytest.mark.parametrize("output", ["loss", "margin", "last_token_loss"])
def test_gradients_leave_out_positions_that_do_not_count(output):
    x, y = tagged()
    model = member(Tagger).model()
    torch.testing.assert_close(dense(model, x, y, output), plain(model, x, y, output))


def test_residuals_of_trak_leave_out_positions_that_do_not_count():
    x, y = tagged()
    trained, split = member(Tagger), drawn_split(x, y)
    found = trak.residuals(trained, split)["residuals"]
    p = torch.softmax(trained.model()(torch.from_numpy(split.train_x)), -1)
    for row, labels, residual in zip(p, split.train_y, found, strict=True):
        kept = [1 - float(row[at, label]) for at, label in enumerate(labels) if label != IGNORED]
        assert residual == pytest.approx(np.mean(kept))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (7, 3, "labels: example 7 has the label 3, but the model has 3 outputs; expected 0 to 2$"),
        (11, -1, "labels: example 11 has the label -1, but"),
        (2, IGNORED, "labels: example 2 has the label -100, but"),
    ],
)
def test_labels_that_outputs_have_no_place_for_are_named(place, value, message):
    x, y = vectors()
    y[place] = value
    for batch in (500, 4):
        with pytest.raises(ValueError, match=message):
            per_example(member(Body).model(), x, y, "loss", batch=batch)


def test_labels_of_positions_are_checked_too():
    x, y = tagged()
    y[5, 2] = 9
    with pytest.raises(ValueError, match=r"example 5 has the label 9, .* 0 to 2, or -100 at positions that do not"):
        per_example(member(Tagger).model(), x, y, "margin", batch=3)
    y[3] = IGNORED
    with pytest.raises(ValueError, match="example 3 has -100 at all its positions"):
        per_example(member(Tagger).model(), x, y, "loss")


def test_labels_of_another_shape_are_refused():
    x, y = vectors()
    with pytest.raises(ValueError, match=r"labels are of shape \(12, 1\), outputs of shape \(12, 3\)"):
        per_example(member(Body).model(), x, y[:, None], "loss")
