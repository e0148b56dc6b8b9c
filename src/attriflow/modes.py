"""Modes of a curvature C of the mean training loss, and all gradients in them: what exact solvers share.

C is decomposed as a matrix of its own (p, p), or, where C = BᵀB / n of b < p rows B, by way of BBᵀ / n (b, b). With
BBᵀ / n = U diag(σ) Uᵀ the modes of C are V = BᵀU / √(nσ), which are never made: the coordinates of a training gradient
g_i = B_iᵀ a_i are √(nσ_j) (Uᵀ a_i)_j, those of any other are (UᵀBg)_j / √(nσ_j), and a product of the two has no root.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from attriflow.curvature import MOST_PARAMETERS, columns, decompose, exact, root_size
from attriflow.gradients import Gradients
from attriflow.memory import Size
from attriflow.precision import stored, weighted_product, weighted_squares

MOST_ROWS = 10_000  # b of a Gauss-Newton matrix: b × b in float64 is then 763 MiB
_ROUNDING = 1e3  # times the precision: what a product of two lengths may lose by rounding


@dataclass(frozen=True)
class Modes:
    r"""The q modes of C that are not rounding error.

    values (q,): $\sigma$, with their signs, in float64. vectors: V (p, q), or U (b, q) where `rows`, B (b, p), are
    given. train (n, q): the training gradients in the form of `left`.

    A vector v has two forms. left: $V^\top v$, or $U^\top B v / (n \sigma)$; right: $V^\top v$, or $U^\top B v$. Sums
    over modes of a left times a right one are inner products within the modes, and left² times `squares` is a squared
    coordinate.
    """

    values: Tensor
    vectors: Tensor
    rows: Gradients | None
    train: Tensor

    @property
    def squares(self) -> Tensor:
        r"""(q,): 1, or $n \sigma$."""
        return torch.ones_like(self.values) if self.rows is None else len(self.train) * self.values

    def left(self, gradients: Gradients) -> Tensor:
        """(k, q) of gradients (k, p)."""
        return self.right(gradients).T / self.squares.to(self.vectors.dtype)

    def right(self, gradients: Gradients) -> Tensor:
        """(q, k) of gradients (k, p)."""
        if self.rows is None:
            return gradients.times(self.vectors.T.contiguous()).T
        return self.vectors.T @ self.rows.gram(gradients)

    def noise(self, lengths: Tensor) -> Tensor:
        """What rounding adds to products (k,) of gradients of some lengths with a vector of length 1.

        The rows of U carry the errors of its largest mode, however short the gradient is.
        """
        scale = lengths if self.rows is None else lengths.clamp(min=float(self.squares.max()) ** 0.5)
        return _ROUNDING * torch.finfo(lengths.dtype).eps * scale

    def outside(self, train: Gradients) -> Tensor:
        """Squared length (n,) of what each training gradient has outside of all modes; 0 where it is rounding error."""
        lengths = train.lengths()
        rest = lengths.square() - self.train.square() @ self.squares.to(lengths.dtype)
        return torch.where(rest > self.noise(lengths) * lengths, rest, 0)

    def vector(self, left: Tensor) -> Tensor:
        """The vector (p,) within the modes whose left form (q,) is given."""
        if self.rows is None:
            return self.vectors @ left
        return self.rows.combine(self.vectors @ left[:, None])[0]


def modes(kind: str, model: nn.Module, x: np.ndarray, y: np.ndarray, train: Gradients) -> Modes:
    """The modes of a curvature: 'fisher', 'ggn' or 'hessian'. train (n, p): gradients of the training loss.

    Modes whose eigenvalue is below q × 2⁻⁵² of the largest are rounding error and left out. Raises ValueError for a
    Hessian of more than 10,000 parameters, for a Gauss-Newton matrix of more parameters and more than 10,000 rows
    n r (`curvature.columns`), and where nothing is left.
    """
    if kind == "fisher" and len(train) < train.size:
        values, vectors = _kept(train.gram(train) / len(train))
        return Modes(values, vectors, train, vectors)
    if kind == "ggn" and _by_rows(model, x, y, train.size):
        return _of_rows(model, x, y, train)
    values, vectors = _kept(exact(kind, model, x, y, train))
    return Modes(values, vectors, None, train.times(vectors.T.contiguous()))


def gauss_newton_fits(model: nn.Module, x: np.ndarray, y: np.ndarray, p: int) -> bool:
    """Whether a Gauss-Newton matrix of p parameters is not too large for `modes`."""
    return min(len(x) * root_size(model, x, y), p) <= MOST_ROWS


def _by_rows(model: nn.Module, x: np.ndarray, y: np.ndarray, p: int) -> bool:
    """Whether a Gauss-Newton matrix has fewer rows than parameters."""
    b = len(x) * root_size(model, x, y)
    if not gauss_newton_fits(model, x, y, p):
        raise ValueError(
            f"the model has {p} parameters, and the training examples give its Gauss-Newton matrix {b} rows; it is "
            f"decomposed for up to {MOST_PARAMETERS} parameters or {MOST_ROWS} rows; use fewer examples or "
            f"`parameters`, curvature 'fisher', or a method that needs products only (influence_cg, influence_arnoldi, "
            f"influence_lissa, influence_corrected)"
        )
    return b < p


def _of_rows(model: nn.Module, x: np.ndarray, y: np.ndarray, train: Gradients) -> Modes:
    """Of the Gauss-Newton matrix by way of BBᵀ / n, column after column of the roots: row c n + i is column c of i."""
    pieces, weights = zip(*columns(model, x, y), strict=True)
    rows = Gradients([type(same[0]).join(list(same)) for same in zip(*(each.parts for each in pieces), strict=True)])
    values, vectors = _kept(rows.gram(rows) / len(train))
    weights = torch.stack(weights)[:, :, None]  # (r, n, 1)
    left = torch.where(weights.isfinite(), weights * vectors.view(len(weights), len(train), -1), 0).sum(0)
    found = Modes(values, vectors, rows, left)
    # where the model is sure of another class an example's rows vanish, its gradient does not: such ones by products
    lost = found.outside(train).nonzero().flatten()
    if len(lost):
        left[lost] = found.left(train.take(lost))
    return found


def _kept(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of a symmetric matrix, without the modes that are rounding error."""
    values, vectors = decompose(matrix)
    kept = values != 0
    if not kept.any():
        raise ValueError(
            "the curvature is zero everywhere: every training gradient vanishes, or every output is certain"
        )
    return values[kept], vectors[:, kept].contiguous()


# --- as methods store them -----------------------------------------------------------------------------------


def arrays(modes: Modes, train: Gradients, test: Gradients) -> dict[str, np.ndarray]:
    r"""What is stored of them: values (q,), left (n, q), right (q, m), squares (q,), `parameters` p, mean_square.

    Of training gradients that reach out of the modes also what they have there: outside (n,), their squared lengths,
    and rest (n, m), their inner products with the test gradients; neither where there are none. left, right and rest in
    float32, or float64 (`precision.stored`).
    """
    right = modes.right(test)
    found = {
        "values": modes.values,
        "left": stored(modes.train),
        "right": stored(right).contiguous(),
        "squares": modes.squares,
        "parameters": torch.tensor(train.size),
        "mean_square": train.mean_square(),
    }
    outside = modes.outside(train)
    if outside.any():
        found |= {"outside": outside, "rest": stored(_rest(modes, train, test, outside, right))}
    return {name: value.numpy(force=True) for name, value in found.items()}


def _rest(modes: Modes, train: Gradients, test: Gradients, outside: Tensor, right: Tensor) -> Tensor:
    rows = outside.nonzero().flatten()
    found = right.new_zeros(len(train), len(test))
    found[rows] = beyond(modes, train.take(rows), test, modes.train[rows], right)
    return found


def beyond(modes: Modes, some: Gradients, test: Gradients, left: Tensor, right: Tensor) -> Tensor:
    """Inner products (k, m) of some gradients with the test gradients outside of all modes; 0 for rounding error.

    left (k, q) and right (q, m): their forms in the modes.
    """
    rest = some.gram(test) - left @ right
    least = torch.outer(modes.noise(some.lengths()), test.lengths())
    return torch.where(rest.abs() > least, rest, 0)


def filtered(member: dict[str, np.ndarray], weights: np.ndarray, outside: float) -> np.ndarray:
    r"""$g_{test}^\top f(C) g_i$ (n, m) of what `arrays` made: f of every mode (q,), and outside of all modes."""
    found = weighted_product(_tensor(member["left"]), weights, _tensor(member["right"]))
    if outside and "rest" in member:
        found += outside * np.asarray(member["rest"], np.float64)
    return found


def of_subsets(member: dict[str, np.ndarray], masks: np.ndarray) -> dict[str, np.ndarray]:
    """What `filtered` reads, summed over the training examples of each subset, masks (s, n)."""
    weights = masks.astype(np.float32)
    sums = {name: weights @ member[name] for name in ("left", "rest") if name in member}
    return sums | {"right": member["right"]}


def filtered_squares(member: dict[str, np.ndarray], weights: np.ndarray, outside: float) -> np.ndarray:
    r"""$g_i^\top f(C) g_i$ (n,) of what `arrays` made."""
    found = weighted_squares(_tensor(member["left"]), weights * member["squares"])
    return found + outside * member["outside"] if outside and "outside" in member else found


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(array))


def bytes_at_work(size: Size, kind: str) -> int:
    """Bytes that `modes` and `arrays` take at work, without the gradients that they are given."""
    rows = size.n * (1 if kind == "fisher" else size.columns)
    if kind != "hessian" and rows < size.p:
        held = 0 if kind == "fisher" else size.gradients * size.columns
        return held + 48 * rows**2 + 24 * rows * size.m
    work = 0 if kind == "fisher" else size.products(size.p, size.n)
    return work + 48 * size.p**2 + 16 * (size.n + size.m) * size.p
