"""'parameters: last' is the layer that makes the output, wherever it is registered."""

from functools import partial

import pytest
import torch
from test_gradient_checks import Body, Recurrent, Returns, member
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from attriflow.models import cnn, mlp, transformer


class HeadFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.unused, self.body = nn.Linear(5, 3), nn.Linear(2, 2), nn.Linear(6, 5)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)))


class Auxiliary(HeadFirst):
    """What runs last makes no output."""

    def forward(self, x):
        outputs = super().forward(x)
        return outputs, self.unused(outputs[:, :2])


class TwoHeads(HeadFirst):
    def __init__(self):
        super().__init__()
        self.skip = nn.Linear(6, 3)

    def forward(self, x):
        return super().forward(x) + self.skip(x)


class Normed(HeadFirst):
    def __init__(self):
        super().__init__()
        parametrizations.weight_norm(self.head)


class Bare(nn.Module):
    """Parameters outside of any layer, and a temperature."""

    def __init__(self):
        super().__init__()
        self.w2, self.b2 = nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(3))
        self.w1, self.t = nn.Parameter(torch.randn(6, 5)), nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return (torch.tanh(x @ self.w1) @ self.w2 + self.b2) / self.t


class Tied(nn.Module):
    def __init__(self, functionally: bool):
        super().__init__()
        self.e, self.l = nn.Embedding(7, 4), nn.Linear(4, 4)
        if not functionally:
            self.head = nn.Linear(4, 7, bias=False)
            self.head.weight = self.e.weight
        self.functionally = functionally

    def forward(self, x):
        h = torch.tanh(self.l(self.e(x))).mean(1)
        return functional.linear(h, self.e.weight) if self.functionally else self.head(h)


class Images(nn.Module):
    """A fixed size of images, the head first."""

    def __init__(self):
        super().__init__()
        self.head, self.c = nn.Linear(2 * 8 * 8, 3), nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x):
        return self.head(functional.relu_(self.c(x)).flatten(1))


class OnlyRecurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.r, self.before = nn.GRU(3, 4, batch_first=True), nn.Linear(2, 3)

    def forward(self, x):
        return self.r(self.before(x))[0][:, -1]


LAST = {
    "registered first": (HeadFirst, ["head.weight", "head.bias"]),
    "an auxiliary head": (Auxiliary, ["head.weight", "head.bias"]),
    "two heads": (TwoHeads, ["head.weight", "head.bias", "skip.weight", "skip.bias"]),
    "weight_norm": (Normed, ["head.bias", *(f"head.parametrizations.weight.original{place}" for place in (0, 1))]),
    "outside of layers": (Bare, ["w2", "b2", "t"]),
    "tied by a product": (partial(Tied, True), ["e.weight"]),
    "tied": (partial(Tied, False), ["e.weight"]),
    "images": (Images, ["head.weight", "head.bias"]),
    "recurrent": (OnlyRecurrent, ["r.weight_ih_l0", "r.weight_hh_l0", "r.bias_ih_l0", "r.bias_hh_l0"]),
    "behind a recurrent layer": (partial(Recurrent, nn.LSTM), ["f.weight", "f.bias"]),
    "mapping": (partial(Returns, lambda z: {"logits": z}), ["f.weight", "f.bias"]),
    "a linear model": (lambda: nn.Linear(6, 3), ["weight", "bias"]),
    "mlp": (partial(mlp.build, (1, 4, 4), 3, hidden=[5, 4]), ["7.weight", "7.bias"]),
    "cnn": (partial(cnn.build, (1, 4, 4), 3, channels=[3]), ["1.weight", "1.bias"]),
    "transformer": (partial(transformer.build, (6,), 5, width=8), ["head.weight"]),
    "classifier": (partial(transformer.build, (6,), 2, 9, width=8, pool="last"), ["head.weight"]),
}  # fmt: skip


def chosen(trained, parameters: str) -> list[str]:
    model = trained.model("last", parameters)
    return [name for name, each in model.named_parameters() if each.requires_grad]


@pytest.mark.parametrize("name", LAST)
def test_the_last_layer_makes_the_output(name):
    build, expected = LAST[name]
    assert chosen(member(build), "last") == expected


def test_a_frozen_head_leaves_the_layer_before_it():
    def build():
        model = Body()
        model.f.requires_grad_(False)
        return model

    assert chosen(member(build), "last") == ["b.weight", "b.bias"]


def test_finding_the_last_layer_changes_nothing():
    build = HeadFirst
    trained = member(build)
    model = trained.model("last", "last")
    for name, value in trained.final.items():
        assert torch.equal(model.state_dict()[name], value.double())
    assert all(each.grad is None for each in model.parameters())


def test_a_pattern_names_a_tied_weight_by_any_of_its_names():
    assert chosen(member(partial(Tied, False)), "head.*") == ["e.weight"]


def test_a_last_layer_that_no_forward_pass_shows_is_refused():
    with pytest.raises(ValueError, match=r"'last': no forward pass shows .*; the model has \['weight', 'bias'\]"):
        chosen(member(lambda: nn.Bilinear(3, 4, 5)), "last")
