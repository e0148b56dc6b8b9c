r"""EK-FAC: influence with a Fisher of one block a layer, diagonal in a Kronecker product of two small eigenbases.

Grosse et al. 2023, arXiv:2308.03296, after George et al. 2018, arXiv:1806.03884; positive = helpful. A linear layer
with input a (the last entry 1 for the bias) and output gradient b has the gradient $b a^\top$. With the eigenbases
$Q_A$ of the mean $a a^\top$ and $Q_S$ of the mean $b b^\top$ (means over examples and, where a layer is used at
several, positions), and $\Lambda$ the mean over examples of the squared entries of $Q_S^\top b a^\top Q_A$, the score
is a sum over layers of
$$\sum_{oi} \frac{(Q_S^\top V Q_A)_{oi} \, (Q_S^\top G Q_A)_{oi}}{\Lambda_{oi} + \lambda}$$
for gradients V (test) and G (training) of the loss, each (out, in).

Layers without factors: convolutions and sequences whose gradients take less memory than their factors (`gradients`),
scales and shifts, and parameters outside of any layer are whitened by the eigenvectors of their own Fisher, which is
exact, up to 2048 parameters, and by its diagonal above; embeddings by the diagonal.

Damping is absolute and in units of a mean squared gradient, as in `influence`, or relative to each layer's mean
$\Lambda$ (kronfluence's rule is 0.1 of it).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from attriflow.curvature import decompose
from attriflow.data import Split
from attriflow.device import inputs, labels
from attriflow.gradients import Factors, Gradients, Lookups, Part, Rows, Sequences, of_split, per_example
from attriflow.hyperparameters import Epoch, NonNegative, Parameters, Target
from attriflow.layerwise import absolute, pack, places, unpack
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.outputs import only
from attriflow.precision import near_one, stored, widened
from attriflow.products import shares
from attriflow.scores import running_mean
from attriflow.spectrum import Spectrum, condensed

# ASSUME: papers of EK-FAC treat layers with factors alone; others are whitened by their own Fisher, exactly up to 2048
# parameters (a decomposition of seconds) and by its diagonal above.
_EXACT = 2048
_BLOCK_BYTES = 64 * 2**20  # of the gradients that are held at once
_DROPPED = 1e-5  # of an example's own score, in the mean, may come from curvature that is taken as zero
_WRONG = 1e-3  # of a test example's largest score, which no score may change by that
_MOST_CURVED = 0.5  # of a layer's directions: from there on all of them together are faster
_MOST_CANCELLED = 100  # times the score may be the larger of two terms that cancel, 2⁻²³ each
_DIRECTIONS = 2048  # that meet in one product

Columns = Callable[[], Iterable[Gradients]]


def prepare(
    member: Trained,
    split: Split,
    *,
    curvature: Literal["empirical", "true"] = "empirical",
    epoch: Epoch = "last",
    parameters: Parameters = "all",
    target: Target = "loss",
) -> dict[str, np.ndarray]:
    r"""For each layer: training and test gradients in the basis of its block, and the block's spectrum $\Lambda$.

    empirical: the Fisher of the training labels. true: its exact expectation over labels drawn from the model, by one
    backward pass for each class and position, twice (once for the bases, once for the spectrum). Of a regression the
    squared error is, up to a constant, the negative log-likelihood of a Gaussian of variance 1/2, whose Fisher is the
    Gauss-Newton matrix $2 \nabla f \nabla f^\top$, by one backward pass.

    Rotated gradients stay factored, $Q_A^\top a$ and $Q_S^\top b$, without the directions of zero activation. Computed
    in float64. Stored in float32: 4 t (n + m)(in + out) bytes for a layer used at t positions (for an embedding with
    2 in place of in), 4 (n + m) s for one of s parameters without factors; and 8 s for the spectrum. At work twice
    that, and 8 (in² + out²), or 8 s² where a Fisher of its own is decomposed.
    """
    model = member.model(epoch, parameters)
    train, test = widened(*of_split(model, split, target))
    columns = {
        "empirical": lambda: [train],
        "true": lambda: (column.to(train.parts[0].dtype) for column in _columns(model, split)),
    }[curvature]
    layers = places(train)
    bases = _bases(train, columns, layers)
    mine = {name: _rotate(train.parts[at], bases[name]) for name, at in layers.items()}
    theirs = {name: _rotate(test.parts[at], bases[name]) for name, at in layers.items()}
    spectra = _spectra(mine, columns, bases, layers)
    sizes = {name: train.parts[at].size for name, at in layers.items()}
    return pack({name: _arrays(mine[name], theirs[name], spectra[name], sizes[name]) for name in layers})


def _columns(model: nn.Module, split: Split) -> Iterator[Gradients]:
    """Gradients whose outer products sum to the expectation over labels drawn from the model, class by class.

    Column c of R = diag(sqrt p) - p sqrt(p)ᵀ, for which R Rᵀ = diag(p) - p pᵀ, goes back from the logits; of a
    regression √2 from its only output.
    """
    x = split.train_x
    if split.regression:
        yield per_example(model, x, split.train_y, lambda outputs, _: 2**0.5 * only(outputs))
        return
    # ASSUME: the labels of a sequence's positions are drawn independently given its inputs, and the gradient is that of
    # their mean loss, as everywhere here; papers that sum the loss over t positions have a Fisher t² times as large.
    with torch.no_grad():
        logits = model(inputs(model, x))
    p = torch.softmax(logits.reshape(len(x), -1, logits.shape[-1]), -1)  # (n, t, c)
    share = shares(labels(model, split.train_y)).reshape(len(x), -1, 1).to(p.dtype)  # 0 where no label is: -100
    _, positions, classes = p.shape
    for position in range(positions):
        for each in range(classes):
            one = torch.eye(classes, dtype=p.dtype, device=p.device)[each]
            root = p[:, position, each, None].sqrt() * (one - p[:, position]) * share[:, position]  # (n, c)

            def output(logits: Tensor, rows: Tensor, root=root, position=position) -> Tensor:
                return (logits.reshape(len(logits), positions, classes)[:, position] * root[rows]).sum(-1)

            yield per_example(model, x, np.arange(len(x)), output)


def _bases(train: Gradients, columns: Columns, layers: dict[str, int]) -> dict[str, tuple[Tensor, ...]]:
    moments = dict.fromkeys(layers, 0.0)
    for column in columns():
        for name, at in layers.items():
            moments[name] = moments[name] + _moment(column.parts[at])
    return {name: _basis(train.parts[at], moments[name]) for name, at in layers.items()}


def _moment(part: Part) -> Tensor | float:
    """What the basis of a layer needs of a column: the sum of b bᵀ, or of the outer products of its gradients."""
    match part:
        case Factors() | Sequences():
            b = part.b.flatten(0, -2).double()
            return b.T @ b
        case Rows() if part.size <= _EXACT:
            return part.values.double().T @ part.values.double()
    return 0.0


def _basis(part: Part, moment: Tensor | float) -> tuple[Tensor, ...]:
    """Q_A (in, directions) and Q_S (out, out) of factors, Q (s, s) of an exact block, nothing for a diagonal one."""
    match part:
        case Factors() | Sequences():
            a = part.a.flatten(0, -2).double()
            values, vectors = decompose(a.T @ a)
            # no training gradient leaves the range of A
            return vectors[:, values > 0].to(part.dtype), decompose(moment)[1].to(part.dtype)
        case Rows() if part.size <= _EXACT:
            return (decompose(moment)[1].to(part.dtype),)
    return ()


def _rotate(part: Part, basis: tuple[Tensor, ...]) -> Part:
    match basis:
        case (left, right):
            return replace(part, a=part.a @ left, b=part.b @ right)
        case (whole,):
            return replace(part, values=part.values @ whole)
    return part


def _spectra(rotated: dict[str, Part], columns: Columns, bases: dict, layers: dict[str, int]) -> dict[str, Tensor]:
    """The mean squared gradient in every direction of every layer; rounding error becomes 0."""
    spectra = dict.fromkeys(layers, 0.0)
    for column in columns():
        for name, at in layers.items():
            part, basis = column.parts[at], bases[name]
            # a column has the inputs of the training gradients, which are rotated already
            turned = replace(rotated[name], b=part.b @ basis[1]) if len(basis) == 2 else _rotate(part, basis)
            spectra[name] = spectra[name] + _energy(turned) / len(part)
    for name, spectrum in spectra.items():
        least = spectrum.numel() * torch.finfo(spectrum.dtype).eps * spectrum.max()
        spectra[name] = torch.where(spectrum > least, spectrum, 0.0)
    return spectra


def _energy(part: Part) -> Tensor:
    """Squared coordinates summed over examples: (units, grain), or (s,) of rows."""
    match part:
        case Factors():
            return part.b.square().T @ part.a.square()
        case Sequences():
            squares = [part.dense(units).square().sum(0) for units in _blocks(part, len(part))]
            return torch.cat(squares).unflatten(0, (-1, part.grain))
        case Lookups():
            same = (part.index[:, :, None] == part.index[:, None, :]).to(part.b.dtype)  # (n, t, t)
            squares = part.b * (same @ part.b)  # of a row's sum, shared among the positions that read it
            return part.b.new_zeros(part.rows, part.grain).index_add_(0, part.index.flatten(), squares.flatten(0, 1))
    return part.values.square().sum(0)


def _blocks(part: Part, examples: int) -> Iterator[slice]:
    """Output units (of a table its rows) whose gradients at so many examples can be held at once."""
    match part:
        case Rows():
            units, size = -(-part.size // part.grain), part.values.element_size()
        case Lookups():
            units, size = part.rows, part.b.element_size()
        case _:
            units, size = part.b.shape[-1], part.b.element_size()
    step = max(1, _BLOCK_BYTES // (size * part.grain * examples))
    return (slice(start, min(start + step, units)) for start in range(0, units, step))


def _arrays(train: Part, test: Part, spectrum: Tensor, size: int) -> dict[str, Tensor]:
    arrays = {"spectrum": spectrum, "size": torch.tensor(size), "mean_square": spectrum.sum() / size}
    for side, part in (("train", train), ("test", test)):
        fields = {field: getattr(part, field) for field in _fields(part)}
        arrays |= {f"{side}_{field}": stored(array) if field != "index" else array for field, array in fields.items()}
    return arrays


def _fields(part: Part) -> tuple[str, ...]:
    match part:
        case Rows():
            return ("values",)
        case Lookups():
            return ("index", "b")
    return ("a", "b")


def memory(size: Size) -> int:
    """Bytes that `prepare` takes at work."""
    return 3 * size.gradients + 4 * _BLOCK_BYTES + 32 * size.p + 32 * _EXACT**2


def score(
    members: Iterable[dict[str, np.ndarray]], *, damping: NonNegative, relative: bool = False
) -> Iterator[np.ndarray]:
    r"""EK-FAC influence (n, m), mean over members: one pass over the layers, n m s multiplications each.

    relative: damping in units of each layer's mean $\Lambda$. Where it saves half of the work, directions far below the
    damping count as without curvature, for the test examples whose scores change by less than 1e-3 of the largest by
    that: a bound, which no example exceeds; others are scored by all directions (MNIST perceptron, damping 1e-3: scores
    differ by 4e-5 of the largest). Raises ValueError for a damping of 0 where a $\Lambda$ is zero; gradients of a
    softmax's own layer sum to 0 over the classes, so its $\Lambda$ has zeros.
    """
    return running_mean(
        _scores([
            _Layer.of(name, layer, absolute(damping, relative, layer)) for name, layer in unpack(member).items()
        ]).numpy()
        for member in members
    )  # fmt: skip


@dataclass(frozen=True)
class _Layer:
    """One layer's rotated gradients near 1 and its inverse near 1, the units of their products and of the inverse.

    few: the curved directions that are enough in the mean, None for all.
    """

    train: Part
    test: Part
    spectrum: Tensor
    damping: float
    inverse: Tensor
    unit: float
    scale: float
    few: Tensor | None

    @classmethod
    def of(cls, name: str, layer: dict[str, Tensor], damping: float) -> "_Layer":
        (train, unit_train), (test, unit_test) = _part(layer, "train"), _part(layer, "test")
        inverse, scale = near_one(_inverse(name, layer, damping))
        few = _curved(layer["spectrum"], damping) if isinstance(train, Factors) else None
        return cls(train, test, layer["spectrum"].double(), damping, inverse, unit_train * unit_test, scale, few)

    def take(self, tests: Tensor) -> "_Layer":
        """Of some test examples, by all directions."""
        return replace(self, test=self.test.take(tests), few=None)

    def scores(self) -> Tensor:
        """(n, m)"""
        found = _whole(self.train, self.test, self.inverse) if self.few is None else self._corrected()
        return found.double() * (self.unit * self.scale)

    def _corrected(self) -> Tensor:
        r"""By $1 / (\Lambda + \lambda) = 1 / \lambda - \Lambda / (\lambda (\Lambda + \lambda))$.

        The first term is an inner product of factored gradients; the second is taken in few directions alone.
        """
        found = self.train.gram(self.test, slice(None)) * (1 / self.damping / self.scale)
        weights = (self._weights() / self.scale).flatten()
        sides = [(part.a.T.contiguous(), part.b.T.contiguous()) for part in (self.train, self.test)]
        for some in self.few.split(_DIRECTIONS):
            unit, place = some // self.train.grain, some % self.train.grain
            (a, b), (c, d) = sides
            found.addmm_((a[place] * b[unit]).T, c[place] * d[unit] * weights[some, None].float(), alpha=-1)
        return found

    def _weights(self) -> Tensor:
        r"""$\Lambda / (\lambda (\Lambda + \lambda))$, (units, grain)."""
        return self.spectrum / (self.spectrum + self.damping) / self.damping

    def most_skipped(self) -> Tensor | float:
        r"""What skipping adds to or takes from any score of each test example, (m,), at most.

        By Cauchy and Schwarz: the largest $\sqrt{\sum w_d g_d^2}$ of a training gradient, times that of the test
        gradient, over the skipped directions d with the weights w of `_weights`.
        """
        if self.few is None:
            return 0.0
        weights = self._weights().flatten().index_fill_(0, self.few, 0).view_as(self.spectrum)
        train, test = (_squares(part.to(torch.float64), weights) for part in (self.train, self.test))
        return self.unit * (train.max() * test).sqrt()


def _scores(layers: list[_Layer]) -> Tensor:
    """The sum over layers (n, m), by all directions for the test examples for which few may not be enough."""
    found = sum(layer.scores() for layer in layers)
    wrong = sum(layer.most_skipped() for layer in layers) > _WRONG * found.abs().amax(0)
    if wrong.any():
        some = wrong.nonzero().flatten()
        found[:, some] = sum(layer.take(some).scores() for layer in layers)
    return found


def _whole(train: Part, test: Part, inverse: Tensor) -> Tensor:
    """The sum over all directions."""
    match test:
        case Rows():
            return train.values @ (test.values * inverse).T
        case Lookups():
            scaled = replace(test, b=test.b * inverse[test.index])
            return Gradients([train]).gram(Gradients([scaled]))
    found = torch.zeros(len(train), len(test))
    for units in _blocks(train, max(found.shape)):
        found.addmm_(train.dense(units), (test.dense(units) * inverse[units].flatten()).T)
    return found


def _curved(spectrum: Tensor, damping: float) -> Tensor | None:
    r"""The directions whose inverse $1 / (\Lambda + \lambda)$ is not $1 / \lambda$, None where they are many.

    What the others' curvature would take from an example's own score, in the mean over training examples, is less than
    1e-5 of it. None also where the two terms would cancel to less than single precision.
    """
    if damping == 0:
        return None
    spectrum = spectrum.flatten().double()
    own, plain = spectrum / (spectrum + damping), spectrum / damping
    order = torch.argsort(spectrum)
    dropped = int(((plain - own)[order].cumsum(0) <= _DROPPED * own.sum()).sum())
    if len(spectrum) - dropped > _MOST_CURVED * len(spectrum) or plain.sum() > _MOST_CANCELLED * own.sum():
        return None
    return order[dropped:]


def _inverse(name: str, layer: dict[str, Tensor], damping: float) -> Tensor:
    spectrum, size = layer["spectrum"], int(layer["size"])
    if damping == 0 and (zeros := size - int(torch.count_nonzero(spectrum))):
        raise ValueError(
            f"damping 0: the curvature of the layer of {name} is zero in {zeros} of its {size} directions; "
            f"use a positive damping"
        )
    return 1 / (spectrum.double() + damping)


def _part(layer: dict[str, Tensor], side: str) -> tuple[Part, float]:
    """The rotated gradients of one side in float32, and the unit that they are in."""
    fields = {key.removeprefix(f"{side}_"): array for key, array in layer.items() if key.startswith(f"{side}_")}
    scaled = {name: near_one(array) for name, array in fields.items() if name != "index"}
    fields |= {name: array for name, (array, _) in scaled.items()}
    unit = prod(each for _, each in scaled.values())
    if "values" in fields:
        return Rows("", (), **fields), unit
    if "index" in fields:
        return Lookups("", (), len(layer["spectrum"]), **fields), unit
    return (Factors if fields["a"].ndim == 2 else Sequences)("", (), **fields), unit


def spectrum(member: dict[str, np.ndarray], *, relative: bool = False) -> Spectrum:
    r"""Of all layers' $\Lambda$, in units of each layer's mean where relative, condensed: 200 eigenvalues a decade.

    The test gradients are made block by block: 2 m multiplications for each parameter.
    """
    layers = unpack(member).values()
    sizes = [int(layer["size"]) for layer in layers]
    blocks = (block for layer in layers for block in _modes(layer, absolute(1.0, relative, layer)))
    return replace(condensed(blocks), dimension=sum(sizes))


def _modes(layer: dict[str, Tensor], unit: float) -> Iterator[Spectrum]:
    """The spectra of blocks of units of one layer, without blocks that have no curvature."""
    values, (test, scale) = layer["spectrum"].flatten(), _part(layer, "test")
    for units in _blocks(test, 4 * len(test)):  # with the copies in float64
        some = values[units.start * test.grain : units.stop * test.grain]
        if some.any():
            squares = (scale * test.dense(units).double()).square().T  # float32 has no room for squares of small ones
            yield Spectrum.of(some.numpy(), squares.numpy(), dimension=len(some), unit=unit)


def self_influence(
    members: Iterable[dict[str, np.ndarray]], *, damping: NonNegative, relative: bool = False
) -> Iterator[np.ndarray]:
    r"""$\sum_{oi} (Q_S^\top G Q_A)_{oi}^2 / (\Lambda_{oi} + \lambda)$ over layers (n,), mean over members.

    Raises ValueError as `score` does.
    """
    return running_mean(
        sum(_own(name, layer, absolute(damping, relative, layer)) for name, layer in unpack(member).items()).numpy()
        for member in members
    )


def _own(name: str, layer: dict[str, Tensor], damping: float) -> Tensor:
    inverse, (train, unit) = _inverse(name, layer, damping), _part(layer, "train")
    return _squares(train.to(torch.float64), inverse) * unit**2


def _squares(train: Part, inverse: Tensor) -> Tensor:
    match train:
        case Factors():
            return (train.b.square() @ inverse).mul_(train.a.square()).sum(1)
        case Rows():
            return train.values.square() @ inverse
        case Lookups():
            return replace(train, b=train.b * inverse.sqrt()[train.index]).squared_norms()
    return sum(train.dense(units).square() @ inverse[units].flatten() for units in _blocks(train, len(train)))
