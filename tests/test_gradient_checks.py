"""Gradients of any model are those of plain backward passes, or the model is refused."""

import dataclasses
import logging
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from attriflow.data import Split
from attriflow.gradients import REST, Factors, LayersLeft, of_split, per_example
from attriflow.models import Trained
from attriflow.outputs import OUTPUTS
from attriflow.projection import project
from attriflow.scores import trak
from attriflow.streams import stream


def plain(model: nn.Module, x: np.ndarray, y: np.ndarray, output: str = "loss") -> Tensor:
    """One `backward` per example, (n, p) in the order of the trainable parameters."""
    rows = []
    parameters = [each for each in model.parameters() if each.requires_grad]
    dtype = parameters[0].dtype
    for one, label in zip(torch.from_numpy(x), torch.from_numpy(y), strict=True):
        model.zero_grad()
        one = (one.to(dtype) if one.is_floating_point() else one).clone()  # models may change it
        OUTPUTS[output](model(one[None]), label[None]).sum().backward()
        found = [torch.zeros_like(each) if each.grad is None else each.grad.to_dense() for each in parameters]
        rows.append(torch.cat([each.flatten() for each in found]).clone())
    model.zero_grad()
    return torch.stack(rows)


def dense(model: nn.Module, x: np.ndarray, y: np.ndarray, output: str = "loss", **options) -> Tensor:
    """What `per_example` gives, in the order of `plain`."""
    gradients = per_example(model, x, y, output, **options)
    order = gradients.order({name: p for name, p in model.named_parameters() if p.requires_grad})
    rows = gradients.dense()
    return torch.empty_like(rows).index_copy_(1, order, rows)


def member(build, dtype: torch.dtype = torch.float64) -> Trained:
    """A model of random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = {name: value.clone() for name, value in build().state_dict().items()}
    return Trained("m", 0, build, {0: state}, {}, dtype=dtype)


def vectors(count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, 6) and labels (n,) of three classes."""
    random = np.random.default_rng(0)
    return random.standard_normal((count, 6)).astype(np.float32), random.integers(0, 3, count)


def words(count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (n, 5) of seven tokens and labels (n,) of three classes."""
    random = np.random.default_rng(0)
    return random.integers(0, 7, (count, 5)), random.integers(0, 3, count)


def drawn_split(x: np.ndarray, y: np.ndarray, train: int = 8) -> Split:
    rest = np.arange(len(x) - train)
    return Split(x[:train], y[:train], x[train:], y[train:], y[:train], np.arange(train), rest, *np.float64([0, 1]))


class Body(nn.Module):
    """Three layers, which the models below use in their own ways."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.f = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.prepare()

    def prepare(self):
        pass

    def forward(self, x):
        return self.f(torch.tanh(self.b(torch.tanh(self.a(x)))))


class Residual(Body):
    def forward(self, x):
        h = self.a(x)
        h += torch.tanh(self.b(torch.tanh(h)))
        return self.f(h.mul_(2).tanh_())


class InPlace(Body):
    def forward(self, x):
        return self.f(functional.relu_(self.b(functional.relu(self.a(x), inplace=True))))


class ChangedInput(Body):
    def forward(self, x):
        x -= 0.5
        return super().forward(x.mul_(2))


class Hooks(Body):
    def prepare(self):
        self.a.register_forward_pre_hook(lambda _, given: (given[0] * 3,))
        self.b.register_forward_hook(lambda _, given, output: 2 * torch.tanh(output))
        self.b.register_full_backward_hook(lambda _, given, output: (given[0] / 2,))


class ByKeyword(Body):
    def forward(self, x):
        return self.f(input=torch.tanh(self.b(input=torch.tanh(self.a(input=x)))))


class TwiceNamed(Body):
    def prepare(self):
        self.c = self.b

    def forward(self, x):
        return self.f(torch.tanh(self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))))


class OneModuleOfTwoNames(Body):
    def prepare(self):
        self.c = self.b

    def forward(self, x):
        return self.f(torch.tanh(self.c(torch.tanh(self.a(x)))))


class UsedAgain(Body):
    def forward(self, x):
        h = torch.tanh(functional.linear(torch.tanh(self.a(x)), self.a.weight.T))
        return self.f(torch.tanh(self.b(torch.tanh(self.a.weight @ h.T).T))) / self.f.weight.norm()


class Once(Body):
    """A second use that few examples have."""

    def forward(self, x):
        h = torch.tanh(self.a(x))
        return self.f(torch.tanh(self.b(h))) + (x[:, :1] > 1) * (h @ self.b.weight[:3].T)


class Replaced(Body):
    def __init__(self, replace):
        super().__init__()
        replace(self.b)

    def forward(self, x):
        return InPlace.forward(self, x)


class Doubled(nn.Linear):
    def forward(self, input):
        return 2 * super().forward(input)


class Overridden(Body):
    def prepare(self):
        self.b = Doubled(5, 5)
        self.a.forward = lambda x: 3 * functional.linear(x, self.a.weight, self.a.bias)


class Unused(Body):
    def prepare(self):
        self.unused, self.a.bias.requires_grad = nn.Linear(2, 2), False

    def forward(self, x):
        with torch.no_grad():
            h = self.b(torch.tanh(self.a(x)))
        return self.f(h) + self.a(x)[:, :3]


class Scaled(Body):
    def prepare(self):
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.scale * super().forward(x)


class Checkpointed(Body):
    def __init__(self, reentrant):
        super().__init__()
        self.reentrant = reentrant

    def forward(self, x):
        return self.f(checkpoint(lambda h: torch.tanh(self.b(h)), torch.tanh(self.a(x)), use_reentrant=self.reentrant))


class OutOfSight(Body):
    """A parameter that is also kept where no one who swaps parameters finds it."""

    def prepare(self):
        self.w = nn.Parameter(torch.eye(5) / 2)
        self.kept = [self.w]

    def forward(self, x):
        return self.f(torch.tanh(torch.tanh(self.b(self.a(x))) @ self.kept[0]))


class ParameterHook(Body):
    def prepare(self):
        self.b.weight.register_hook(lambda gradient: gradient * 2)


class OneByOne(Body):
    """Control flow that looks into the data, example by example."""

    def forward(self, x):
        rows = []
        for row in x:
            h = torch.tanh(self.a(row[None]))
            rows.append(torch.tanh(self.b(h)) if row[0] > 0 else h)
        return self.f(torch.cat(rows))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.r, self.f = kind(3, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.f(self.r(x.view(-1, 2, 3))[0][:, -1])


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.t, self.f = nn.TransformerEncoderLayer(3, 1, 5, 0.1, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.f(self.t(x.view(-1, 2, 3)).mean(1))


class Looked(nn.Module):
    """An embedding, tied by a linear product, a padding mask that looks into the data."""

    def __init__(self, tied=False, mask=False, **options):
        super().__init__()
        self.e, self.l = nn.Embedding(7, 4, **options), nn.Linear(4, 4)
        self.w, self.tied, self.mask = nn.Parameter(torch.ones(4)), tied, mask

    def forward(self, x):
        h = torch.tanh(self.l(self.e(x)) * self.w)
        if self.mask and (x == 0).any():
            h = h.masked_fill((x == 0)[..., None], 0.0)
        return functional.linear(h.mean(1), self.e.weight[:3] if self.tied else self.l.weight[:3])


@dataclasses.dataclass
class Output:
    logits: Tensor
    hidden: Tensor


class Returns(Body):
    def __init__(self, wrap):
        super().__init__()
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(super().forward(x))


VECTORS = {
    "residual": Residual, "in place": InPlace, "input changed": ChangedInput, "hooks": Hooks, "keyword": ByKeyword,
    "module used twice": TwiceNamed, "module of two names": OneModuleOfTwoNames, "weight used again": UsedAgain,
    "weight used again by few": Once, "overridden": Overridden, "unused and frozen": Unused, "0-d": Scaled,
    "weight_norm": partial(Replaced, parametrizations.weight_norm),
    "old weight_norm": partial(Replaced, nn.utils.weight_norm),
    "spectral_norm": partial(Replaced, parametrizations.spectral_norm),
    "old spectral_norm": partial(Replaced, nn.utils.spectral_norm),
    "pruned": partial(Replaced, partial(prune.random_unstructured, name="weight", amount=0.4)),
    "checkpoint": partial(Checkpointed, False), "reentrant checkpoint": partial(Checkpointed, True),
    "out of sight": OutOfSight, "parameter hook": ParameterHook, "control flow": OneByOne,
    "lstm": partial(Recurrent, nn.LSTM), "gru": partial(Recurrent, nn.GRU), "encoder": Encoder,
    "tuple": partial(Returns, lambda z: (z, z * 2)), "dict": partial(Returns, lambda z: {"loss": z.sum(), "logits": z}),
    "dataclass": partial(Returns, lambda z: Output(z, z)),
}  # fmt: skip
WORDS = {
    "tied by a product": partial(Looked, tied=True), "mask": partial(Looked, mask=True),
    "padding_idx": partial(Looked, padding_idx=2), "max_norm": partial(Looked, max_norm=0.5),
    "scale_grad_by_freq": partial(Looked, scale_grad_by_freq=True), "sparse": partial(Looked, sparse=True),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", [*VECTORS, *WORDS])
def test_gradients_are_those_of_plain_backward_passes_whatever_the_model_does(name, dtype):
    x, y = words() if name in WORDS else vectors()
    trained = member((VECTORS | WORDS)[name], dtype)
    found = {output: dense(trained.model(), x, y, output) for output in ("loss", "margin")}
    for output, gradients in found.items():
        expected = plain(trained.model(), x, y, output)
        close = 1e-9 if dtype == torch.float64 else 1e-4
        assert (gradients - expected).norm() <= close * expected.norm()


def test_a_module_is_the_same_after_its_gradients_were_taken():
    x, y = vectors()
    for build in (Overridden, TwiceNamed, Hooks):
        model = member(build).model()
        before = {name: dict(vars(each)) for name, each in model.named_modules()}
        per_example(model, x, y, "loss")
        assert {name: vars(each).keys() for name, each in model.named_modules()} == {
            name: each.keys() for name, each in before.items()
        }
        assert all(each.grad is None for each in model.parameters())


def test_a_layer_that_is_right_stays_in_factors_and_one_that_is_not_is_named(caplog):
    x, y = vectors()
    parts = per_example(member(Residual).model(), x, y, "loss").parts
    assert [(part.name, type(part)) for part in parts] == [("a", Factors), ("b", Factors), ("f", Factors)]
    with caplog.at_level(logging.WARNING):
        parts = per_example(member(UsedAgain).model(), x, y, "loss").parts
    assert [part.name for part in parts] == ["b", REST]
    assert "layer 'a' takes the general path: its gradient differs by" in caplog.text


@pytest.mark.parametrize("odd", [57, 157])
def test_a_use_that_no_checked_example_has_is_found_in_any_batch(caplog, odd):
    x, y = vectors(200)
    x[:, 0] = -1
    x[odd, 0] = 2  # the only one with a second use
    model = member(Once).model()
    torch.testing.assert_close(dense(model, x, y, batch=50), plain(model, x, y))
    assert "its parameters are used outside of its own call" in caplog.text


class Sometimes(Body):
    """A layer that works twice where any example of the batch is large."""

    def forward(self, x):
        h = torch.tanh(self.b(torch.tanh(self.a(x))))
        if bool((x[:, 0] > 1).any()):
            h = torch.where(x[:, :1] > 1, torch.tanh(self.b(h)), h)
        return self.f(h)


def test_a_layer_that_later_batches_use_otherwise_is_not_factored_in_any(caplog):
    x, y = vectors(40)
    x[:, 0] = -1
    x[33, 0] = 2
    model = member(Sometimes).model()
    torch.testing.assert_close(dense(model, x, y), plain(model, x, y))
    assert "layer 'b' takes the general path: it is used 2 times" in caplog.text


def test_gradients_of_training_and_test_examples_have_the_same_parts_or_are_refused():
    x, y = vectors()
    x[:, 0] = -1
    x[8:, 0] = 2  # test examples use a layer otherwise
    trained, split = member(Sometimes), drawn_split(x, y)
    train, test = of_split(trained.model(), split)
    torch.testing.assert_close(
        train.gram(test), plain(trained.model(), x[:8], y[:8]) @ plain(trained.model(), x[8:], y[8:]).T
    )
    trak.prepare(trained, split, proj_dim=8)
    model = trained.model()
    per_example(model, x[:8], y[:8], "loss")
    with pytest.raises(LayersLeft, match=r"layer 'b': it is used 2 times .* `factored` to False"):
        per_example(model, x[8:], y[8:], "loss")


def test_a_layer_takes_the_general_path_where_its_author_says_so():
    class Told(Body):
        def prepare(self):
            self.b.factored = False

    x, y = vectors()
    assert [part.name for part in per_example(member(Told).model(), x, y, "loss").parts] == ["a", "f", REST]


def test_one_pass_per_example_is_said_with_its_reason_and_cost(caplog):
    x, y = vectors()
    per_example(member(partial(Recurrent, nn.LSTM)).model(), x, y, "loss")
    (record,) = [each for each in caplog.records if "one backward pass per example" in each.getMessage()]
    assert "r.weight_ih_l0" in record.getMessage()
    assert record.getMessage().endswith("s for 12 examples")


# --- what has no gradients of single examples ----------------------------------------------------------------


class Mixes(Body):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x):
        return self.f(self.how(torch.tanh(self.b(torch.tanh(self.a(x))))))


def normalised(h: Tensor) -> Tensor:
    return (h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt()


MIXED = {
    "mean": lambda h: h - h.mean(0), "normalisation": normalised, "softmax": lambda h: torch.softmax(h, 0),
    "attention": lambda h: torch.softmax(h @ h.T, -1) @ h, "maximum": lambda h: h / h.abs().max(),
    "order": lambda h: h * torch.arange(len(h))[:, None], "slightly": lambda h: h - 0.01 * h.mean(0),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("how", MIXED)
def test_outputs_that_depend_on_the_batch_are_refused(how, dtype):
    x, y = vectors()
    model = member(partial(Mixes, MIXED[how]), dtype).model()
    for _ in range(2):  # the second time, too
        with pytest.raises(
            ValueError, match=r"outputs of the model for example \d+ alone differ from those in a batch"
        ):
            per_example(model, x, y, "loss")


def test_outputs_that_depend_on_a_batch_larger_than_the_checked_one_are_refused():
    x, y = vectors(100)
    model = member(partial(Mixes, lambda h: h if len(h) < 50 else 2 * h)).model()
    for _ in range(2):
        with pytest.raises(ValueError, match="example 0 alone differ from those in a batch"):
            per_example(model, x, y, "loss")


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
def test_the_size_of_outputs_makes_no_model_wrong_or_right(scale):
    x, y = vectors()
    right, wrong = (member(partial(Mixes, how)) for how in (lambda h: scale * h, lambda h: scale * (h - h.mean(0))))
    model = right.model()
    with torch.no_grad():
        model.f.bias.zero_()
    expected = plain(model, x, y)
    assert (dense(model, x, y) - expected).norm() <= 1e-9 * expected.norm()
    model = wrong.model()
    with torch.no_grad():
        model.f.bias.zero_()
    with pytest.raises(ValueError, match="alone differ from those in a batch"):
        per_example(model, x, y, "loss")


REFUSED = {
    "random": (partial(Mixes, lambda h: functional.dropout(h, 0.5, True)), "differ from call to call"),
    "without statistics": (
        lambda: nn.Sequential(Body(), nn.BatchNorm1d(3, track_running_stats=False)), "fails for one example alone",
    ),
    "squeezed": (lambda: nn.Sequential(Body(), Squeeze()), r"of shape \(3,\), expected \(1, 3\)"),
    "no gradient": (partial(Mixes, torch.detach), None),
    "nothing": (lambda: nn.Sequential(Body(), Detach()), "depend on none of the parameters"),
}  # fmt: skip


class Squeeze(nn.Module):
    def forward(self, x):
        return x.squeeze()


class Detach(nn.Module):
    def forward(self, x):
        return x.detach()


@pytest.mark.parametrize("name", REFUSED)
def test_models_without_gradients_of_single_examples_are_refused_in_one_line(name):
    build, message = REFUSED[name]
    x, y = vectors()
    if message is None:  # layers whose gradients are zero are none of these
        found = dense(member(build).model(), x, y)
        assert found[:, :-18].abs().max() == 0 < found[:, -18:].abs().max()
        return
    with pytest.raises(ValueError, match=message) as error:
        per_example(member(build).model(), x, y, "loss")
    assert len(str(error.value).splitlines()) == 1


def test_batch_normalisation_in_evaluation_and_vanished_losses_are_no_reason_to_refuse():
    x, _ = vectors()
    for dtype in (torch.float64, torch.float32):
        model = member(
            lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3)), dtype
        ).model()
        with torch.no_grad():
            model[3].weight.mul_(200)
        labels = model(torch.from_numpy(x).to(dtype)).argmax(1).numpy()  # all right, by far: gradients are rounding
        assert [type(part).__name__ for part in per_example(model, x, labels, "loss").parts] == [
            "Factors",
            "Rows",
            "Factors",
        ]


def test_the_data_of_a_model_are_looked_at_once_and_then_ever_more_rarely(monkeypatch):
    from attriflow.gradients import paths

    looks, look = [], paths._look
    monkeypatch.setattr(paths, "_look", lambda model, x, known: looks.append(len(x)) or look(model, x, known))
    model, (x, y) = member(Body).model(), vectors(400)
    for _ in range(3):
        per_example(model, x, y, "loss")
    assert looks == [3]
    for start in range(0, 400, 4):  # as the steps of a training
        per_example(model, x[start : start + 4], y[start : start + 4], "loss")
    assert len(looks) == 8 + 3  # 16, 32 and 64 data


def test_a_layer_called_rest_shares_no_projection_with_parameters_outside_of_layers():
    class Named(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.add_module(name, nn.Linear(6, 6))
            self.w, self.name = nn.Parameter(torch.randn(6, 6) / 2), name

        def forward(self, x):
            return torch.tanh(self.get_submodule(self.name)(x)) @ self.w

    model, (x, y) = member(partial(Named, "rest")).model(), vectors(3)
    y = np.minimum(y, 2)
    gradients = per_example(model, x, y, "loss")
    exact, estimates = gradients.gram(gradients), []
    for seed in range(150):
        (rows,) = project([gradients], partial(stream, seed), dimension=64, kind="gaussian")
        estimates.append((rows @ rows.T).double() / 64)
    error = (torch.stack(estimates).mean(0) - exact).abs() / torch.outer(gradients.lengths(), gradients.lengths())
    assert error.max() < 4 * 2**0.5 / (64 * 150) ** 0.5  # four standard errors
