"""The parts of per-example gradients: one a layer, each in the smallest form that serves all its uses.

Every part answers the same questions: `gram`, the inner products of some of its examples with all of another's;
`squared_norms`; `dense`, the gradients themselves, for some of its units at a time; `times` and `combine`, their
products with vectors and their weighted sums; `take`, some examples; `order`, where its coordinates lie among the
model's parameters; `join`, batches of examples one after the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

MOST_BYTES = 8 * 2**30  # of materialised gradients
_PAIR_BYTES = 256 * 2**20  # of the products of positions, or of examples and vectors, that are held at once


@dataclass(frozen=True)
class _Part:
    """A layer's name, and the full names of its parameters: the weight first, then the bias where it has one."""

    name: str
    names: tuple[str, ...]

    def _arrays(self) -> dict[str, Tensor]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def __len__(self) -> int:
        return len(next(iter(self._arrays().values())))

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return next(iter(self._arrays().values())).device

    @property
    def dtype(self) -> torch.dtype:
        """Its precision."""
        return next(array.dtype for array in self._arrays().values() if array.is_floating_point())

    def numbers(self) -> int:
        """How many numbers it holds."""
        return sum(array.numel() for array in self._arrays().values())

    def take(self, rows: slice | Tensor) -> "Part":
        """The same for some of the examples."""
        return replace(self, **{name: array[rows] for name, array in self._arrays().items()})

    def scaled(self, weights: Tensor) -> "Part":
        """The same gradients, each times its weight (n,)."""
        name = "values" if isinstance(self, Rows) else "b"
        array = getattr(self, name)
        return replace(self, **{name: array * weights.view(-1, *[1] * (array.ndim - 1))})

    def to(self, dtype: torch.dtype) -> "Part":
        """The same in another precision."""
        numbers = {name: array for name, array in self._arrays().items() if array.is_floating_point()}
        return replace(self, **{name: array.to(dtype) for name, array in numbers.items()})

    @classmethod
    def join(cls, pieces: list["Part"]) -> "Part":
        """Batches of examples one after the other."""
        every = [piece._arrays() for piece in pieces]
        return replace(pieces[0], **{name: torch.cat([each[name] for each in every]) for name in every[0]})


class _ByUnit:
    """Coordinates of a matrix of weights (units, in), unit by unit, each with its bias behind its weights."""

    def order(self, places: dict[str, Tensor]) -> Tensor:
        """Places (size,) of the coordinates, from the places of every parameter's entries."""
        rows = [places[self.names[0]].flatten(1), *(places[name][:, None] for name in self.names[1:])]
        return torch.cat(rows, 1).flatten()


@dataclass(frozen=True)
class Factors(_ByUnit, _Part):
    """b aᵀ, a linear layer on one vector an example: a (n, in), a last column of ones for the bias, and b (n, out)."""

    a: Tensor
    b: Tensor

    @property
    def size(self) -> int:
        """Parameters, the bias counted in."""
        return self.a.shape[1] * self.b.shape[1]

    @property
    def grain(self) -> int:
        """Parameters of one output unit."""
        return self.a.shape[1]

    def gram(self, other: "Factors", rows: slice) -> Tensor:
        """Inner products of some rows with all of another's, (rows, n')."""
        return (self.a[rows] @ other.a.T).mul_(self.b[rows] @ other.b.T)

    def squared_norms(self) -> Tensor:
        """(n,)"""
        return _squares(self.a) * _squares(self.b)

    def dense(self, units: slice = slice(None)) -> Tensor:
        """Gradients with respect to some output units, (n, units * grain)."""
        return (self.b[:, units, None] * self.a[:, None, :]).flatten(1)

    def times(self, v: Tensor) -> Tensor:
        """Inner products (n, k) of every gradient with vectors v (k, size)."""
        return _times(self.a, self.b, v)

    def combine(self, w: Tensor) -> Tensor:
        """Sums (k, size) of the gradients with weights w (n, k)."""
        return _combine(self.a, self.b, w)


@dataclass(frozen=True)
class Sequences(_ByUnit, _Part):
    """sum_t b_t a_tᵀ, a layer at t positions of an example: a (n, t, in), ones last for the bias, b (n, t, out)."""

    a: Tensor
    b: Tensor

    @property
    def size(self) -> int:
        """Parameters, the bias counted in."""
        return self.a.shape[2] * self.b.shape[2]

    @property
    def grain(self) -> int:
        """Parameters of one output unit."""
        return self.a.shape[2]

    def gram(self, other: "Sequences", rows: slice) -> Tensor:
        """Inner products of some rows with all of another's, (rows, n')."""
        return _pair_sums(other, self.a[rows], self.b[rows], lambda a, b, c, d: (a @ c.T).mul_(b @ d.T))

    def squared_norms(self) -> Tensor:
        """(n,)"""
        return (self.a @ self.a.mT).mul_(self.b @ self.b.mT).sum((1, 2))

    def dense(self, units: slice = slice(None)) -> Tensor:
        """Gradients with respect to some output units, (n, units * grain)."""
        return (self.b[:, :, units].mT @ self.a).flatten(1)

    def times(self, v: Tensor) -> Tensor:
        """Inner products (n, k) of every gradient with vectors v (k, size)."""
        return _times(self.a.flatten(0, 1), self.b.flatten(0, 1), v).unflatten(0, self.a.shape[:2]).sum(1)

    def combine(self, w: Tensor) -> Tensor:
        """Sums (k, size) of the gradients with weights w (n, k)."""
        return _combine(self.a.flatten(0, 1), self.b.flatten(0, 1), w.repeat_interleave(self.a.shape[1], 0))


@dataclass(frozen=True)
class Lookups(_Part):
    """An embedding table of `rows` rows: which ones an example reads, index (n, t), and b (n, t, width)."""

    rows: int
    index: Tensor
    b: Tensor

    @property
    def size(self) -> int:
        """Parameters."""
        return self.rows * self.grain

    @property
    def grain(self) -> int:
        """Parameters of one row of the table."""
        return self.b.shape[2]

    def order(self, places: dict[str, Tensor]) -> Tensor:
        """Places (size,) of the coordinates, from the places of every parameter's entries."""
        return places[self.names[0]].flatten()

    def gram(self, other: "Lookups", rows: slice) -> Tensor:
        """Inner products of some rows with all of another's, (rows, n')."""
        index = self.index[rows, :, None]
        return _pair_sums(other, index, self.b[rows], lambda i, b, j, d: (b @ d.T).mul_(i == j.T), "index")

    def squared_norms(self) -> Tensor:
        """(n,)"""
        same = self.index[:, :, None] == self.index[:, None, :]
        return (self.b @ self.b.mT).mul_(same).sum((1, 2))

    def dense(self, units: slice = slice(None)) -> Tensor:
        """Gradients with respect to some rows of the table, (n, units * grain)."""
        start, stop, _ = units.indices(self.rows)
        found = self.b.new_zeros(len(self), self.rows, self.grain)
        found.scatter_add_(1, self.index[:, :, None].expand_as(self.b), self.b)
        return found[:, start:stop].flatten(1)

    def times(self, v: Tensor) -> Tensor:
        """Inner products (n, k) of every gradient with vectors v (k, size)."""
        tables = v.unflatten(1, (self.rows, self.grain))
        found = v.new_empty(len(self), len(v))
        for some in _blocks(len(self), len(v) * self.b[0].numel() * v.element_size()):
            read = tables[:, self.index[some]]  # (k, some, t, width)
            found[some] = torch.einsum("kntw,ntw->nk", read, self.b[some])
        return found

    def combine(self, w: Tensor) -> Tensor:
        """Sums (k, size) of the gradients with weights w (n, k)."""
        found = w.new_zeros(w.shape[1], self.rows, self.grain)
        for some in _blocks(len(self), w.shape[1] * self.b[0].numel() * w.element_size()):
            weighted = w[some].T[:, :, None, None] * self.b[some]  # (k, some, t, width)
            found.index_add_(1, self.index[some].flatten(), weighted.flatten(1, 2))
        return found.flatten(1)


@dataclass(frozen=True)
class Rows(_Part):
    """Materialised gradients: a row of values (n, size) an example, in the order of `names`, or unit by unit."""

    values: Tensor
    by_unit: bool = False

    @property
    def size(self) -> int:
        """Parameters."""
        return self.values.shape[1]

    @property
    def grain(self) -> int:
        """Coordinates are taken so many at a time."""
        return 1024

    def order(self, places: dict[str, Tensor]) -> Tensor:
        """Places (size,) of the coordinates, from the places of every parameter's entries."""
        if self.by_unit:
            return _ByUnit.order(self, places)
        return torch.cat([places[name].flatten() for name in self.names])

    def gram(self, other: "Rows", rows: slice) -> Tensor:
        """Inner products of some rows with all of another's, (rows, n')."""
        return self.values[rows] @ other.values.T

    def squared_norms(self) -> Tensor:
        """(n,)"""
        return _squares(self.values)

    def dense(self, units: slice = slice(None)) -> Tensor:
        """Some columns, (n, units * grain)."""
        start, stop, _ = units.indices(-(-self.size // self.grain))
        return self.values[:, start * self.grain : stop * self.grain]

    def times(self, v: Tensor) -> Tensor:
        """Inner products (n, k) of every gradient with vectors v (k, size)."""
        return self.values @ v.T

    def combine(self, w: Tensor) -> Tensor:
        """Sums (k, size) of the gradients with weights w (n, k)."""
        return w.T @ self.values

    @classmethod
    def join(cls, pieces: list["Rows"]) -> "Rows":
        """Batches one after the other. Raises MemoryError where they are too large to hold."""
        needed = sum(each.values.numel() * each.values.element_size() for each in pieces)
        if needed > MOST_BYTES:
            raise MemoryError(
                f"the gradients of {pieces[0].name} would take {needed / 2**30:.1f} GiB, more than "
                f"{MOST_BYTES / 2**30:.0f}; attribute fewer parameters (`parameters`) or fewer examples"
            )
        return super().join(pieces)


def _squares(rows: Tensor) -> Tensor:
    """Squared lengths (n,) of rows (n, size), without a second array of them."""
    return torch.linalg.vector_norm(rows, dim=1).square()


Part = Factors | Sequences | Lookups | Rows


def smaller(part: Sequences) -> Sequences | Rows:
    """Whichever takes less memory: t (in + out) factors, or in × out gradients."""
    t, width, out = part.a.shape[1], part.a.shape[2], part.b.shape[2]
    if t * (width + out) < width * out:
        return part
    return Rows(part.name, part.names, part.dense(), by_unit=True)


def _pair_sums(other, a: Tensor, b: Tensor, product, first: str = "a") -> Tensor:
    """sum over positions t, t' of product(a_t, b_t, a'_t', b'_t'), (rows, n'), for a few of the others at a time."""
    count, t = b.shape[:2]
    them = getattr(other, first)
    them = them[..., None] if them.ndim == 2 else them
    found = b.new_empty(count, len(other.b))
    step = max(1, _PAIR_BYTES // (b.element_size() * count * t * other.b.shape[1]))
    for start in range(0, len(other.b), step):
        c, d = them[start : start + step], other.b[start : start + step]
        pairs = product(a.flatten(0, 1), b.flatten(0, 1), c.flatten(0, 1), d.flatten(0, 1))
        found[:, start : start + step] = pairs.unflatten(0, (count, t)).unflatten(2, d.shape[:2]).sum((1, 3))
    return found


def _times(a: Tensor, b: Tensor, v: Tensor) -> Tensor:
    """b_r · (v_j a_r), (r, k), of rows a (r, in) and b (r, out) with matrices v (k, out * in), a few rows at a time."""
    units = v.reshape(-1, a.shape[1])  # (k * out, in)
    found = v.new_empty(len(a), len(v))
    for some in _blocks(len(a), len(units) * v.element_size()):
        outputs = (a[some] @ units.T).unflatten(1, (len(v), -1))  # (some, k, out)
        found[some] = (outputs @ b[some, :, None]).squeeze(-1)
    return found


def _combine(a: Tensor, b: Tensor, w: Tensor) -> Tensor:
    """sum_r w_rj b_r a_rᵀ, (k, out * in), of rows a (r, in), b (r, out) and weights w (r, k), a few rows at a time."""
    found = w.new_zeros(w.shape[1] * b.shape[1], a.shape[1])
    for some in _blocks(len(a), len(found) * w.element_size()):
        found.addmm_((w[some, :, None] * b[some, None, :]).flatten(1).T, a[some])
    return found.view(w.shape[1], -1)


def _blocks(count: int, each: int) -> Iterator[slice]:
    """Rows that may be held at once, at so many bytes each."""
    step = max(1, _PAIR_BYTES // each)
    for start in range(0, count, step):
        yield slice(start, start + step)
