"""Floating-point operations, counted beside the clock: a noisy or a fast machine changes seconds, not these.

Counted are products of matrices, convolutions, attention, Fourier transforms and decompositions; a multiplication with
its addition is two. What costs less by a factor of a matrix's side (sums, activations, random numbers, sorting) is not,
nor are products that a method makes in numpy: of `influence_cg` and `influence_arnoldi` the last one.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

aten = torch.ops.aten


@dataclass
class Spent:
    """What a block of code took: wall and processor seconds, and floating-point operations."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    flops: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds, self.flops + other.flops)


@contextmanager
def spending() -> Iterator[Spent]:
    """What the block takes, there when it ends. Blocks do not nest.

    >>> with spending() as spent:
    ...     found = torch.ones(2, 3) @ torch.ones(3, 4)
    >>> spent.flops
    48
    """
    spent, counter = Spent(), _Counter()
    started, used = time.monotonic(), time.process_time()
    try:
        with counter, _noting(counter):
            yield spent
    finally:
        spent.seconds, spent.cpu_seconds = time.monotonic() - started, time.process_time() - used
        spent.flops = counter.count


def note(count: int):
    """Add operations that torch does not see (a decomposition by scipy) to the block that is being counted, if any."""
    for counter in _active:
        counter.count += count


def eigh(size: int) -> int:
    """Operations of the eigenvalues and eigenvectors of a symmetric matrix of this side."""
    return 9 * size**3  # SOURCE: Golub and Van Loan, Matrix Computations, section 8.3, with the vectors


def of_step(module: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> int:
    """Operations of one example's forward pass and of the gradients of its loss, by what requires gradients.

    x (n, ...), y (n, ...), n >= 1: the first example is looked at alone and twice; the difference is one example's.
    """
    count = []
    for rows in ([0], [0, 0]):
        with spending() as spent:
            loss(module(x[rows]), y[rows]).mean().backward()
        module.zero_grad(set_to_none=True)
        count.append(spent.flops)
    return count[1] - count[0]


_active: list["_Counter"] = []


@contextmanager
def _noting(counter: "_Counter") -> Iterator[None]:
    _active.append(counter)
    try:
        yield
    finally:
        _active.remove(counter)


class _Counter(TorchDispatchMode):
    """Adds up the operations of what torch runs, below its derivatives and `vmap`."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        packet = func._overloadpacket
        known = packet in _OURS or packet in flop_registry
        if not known and torch.is_inference_mode_enabled():  # elsewhere torch has taken apart what consists of others
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        if packet in _OURS:
            self.count += _OURS[packet](args, out)
        elif known:
            self.count += flop_registry[packet](*args, **kwargs, out_val=out)
        return out


def _product(left: Tensor, right: Tensor) -> int:
    """Of a product of (batches of) matrices; a vector has one column."""
    columns = right.shape[-1] if right.ndim > 1 else 1
    return 2 * left.numel() * columns


def _solve(factor: Tensor, right: Tensor) -> int:
    return factor.shape[-1] * right.numel()  # one triangle: half of the products


def _fft(last: int, transforms: int) -> int:
    """Of so many real transforms of this length."""
    # SOURCE: benchmarks of FFTW count 5 N log2 N for complex numbers, half of that for real ones
    return round(2.5 * transforms * last * math.log2(max(2, last)))


def _attention(args: tuple, out: object) -> int:
    return sdpa_flop_count(*(each.shape for each in args[:3]))


def _attention_backward(args: tuple, out: object) -> int:
    """Four products for two, whether a kernel makes the weights anew or kept them."""
    return 2 * sdpa_flop_count(*(each.shape for each in args[1:4]))


# what torch's own counter leaves out, and attention, the same by every kernel: from arguments and result to operations
_OURS = {
    aten.mv: lambda args, out: _product(*args[:2]),
    aten.dot: lambda args, out: _product(*args[:2]),
    aten.vdot: lambda args, out: _product(*args[:2]),
    aten.addmv: lambda args, out: _product(*args[1:3]),
    aten.addmv_: lambda args, out: _product(*args[1:3]),
    aten.addmm_: lambda args, out: _product(*args[1:3]),
    aten.baddbmm_: lambda args, out: _product(*args[1:3]),
    aten.addbmm: lambda args, out: _product(*args[1:3]),
    aten.addr: lambda args, out: 2 * out.numel(),
    aten.linalg_cholesky_ex: lambda args, out: args[0].shape[-1] * args[0].numel() // 3,
    aten.cholesky_solve: lambda args, out: 2 * _solve(args[1], args[0]),
    aten.linalg_solve_triangular: lambda args, out: _solve(*args[:2]),
    aten.linalg_lu_factor_ex: lambda args, out: 2 * args[0].shape[-1] * args[0].numel() // 3,
    aten._linalg_solve_ex: lambda args, out: 2 * args[0].shape[-1] * args[0].numel() // 3 + 2 * _solve(*args[:2]),
    aten.linalg_inv_ex: lambda args, out: 2 * args[0].shape[-1] * args[0].numel(),
    aten._linalg_eigh: lambda args, out: args[0].numel() // args[0].shape[-1] ** 2 * eigh(args[0].shape[-1]),
    aten._fft_r2c: lambda args, out: _fft(args[0].shape[-1], args[0].numel() // args[0].shape[-1]),
    aten._fft_c2r: lambda args, out: _fft(out.shape[-1], out.numel() // out.shape[-1]),
    **dict.fromkeys(
        [
            aten._scaled_dot_product_efficient_attention,
            aten._scaled_dot_product_flash_attention,
            aten._scaled_dot_product_flash_attention_for_cpu,
            aten._scaled_dot_product_cudnn_attention,
        ],
        _attention,
    ),
    **dict.fromkeys(
        [
            aten._scaled_dot_product_efficient_attention_backward,
            aten._scaled_dot_product_flash_attention_backward,
            aten._scaled_dot_product_flash_attention_for_cpu_backward,
            aten._scaled_dot_product_cudnn_attention_backward,
        ],
        _attention_backward,
    ),
}
