"""What a layer is given and what it gives back, taken inside of the layer's own call.

Hooks and changes in place act before or after that call: a forward hook replaces the output, `ReLU(inplace=True)` or a
residual `+=` overwrites it. So the layer's own `forward` is replaced for a forward pass. Zeros are added to what it
returns, and the gradient at these zeros is the gradient at the output as the layer returned it, whatever becomes of it.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Use:
    """One call of a layer: its input, the zeros that were added to its output, and the version of the input."""

    given: Tensor
    zeros: Tensor
    version: int

    def wrong(self, count: int) -> str | None:
        """Why this call has no rule for so many examples, None where it has one."""
        if self.given.ndim < 2 or self.given.shape[0] != count or self.zeros.shape[:1] != (count,):
            return "it is not given examples one by one, but something else"
        if _version(self.given) != self.version:
            return "its input is changed in place after its call"
        return None


@contextlib.contextmanager
def capturing(layers: dict[str, nn.Module]) -> Iterator[dict[str, list[Use]]]:
    """Note every call of some layers; name -> its calls, one after the other, None where the input is no tensor.

    Calls that a backward pass makes later (`torch.utils.checkpoint`) are not noted: the block has ended by then.
    """
    uses: dict[str, list[Use]] = {name: [] for name in layers}
    with contextlib.ExitStack() as stack:
        for name, layer in layers.items():
            stack.enter_context(_forward_of(layer, _noting(layer.forward, uses[name])))
        yield uses


@contextlib.contextmanager
def _forward_of(layer: nn.Module, forward: Callable) -> Iterator[None]:
    own = vars(layer).get("forward")  # somebody may have replaced it before
    layer.forward = forward
    try:
        yield
    finally:
        if own is None:
            del layer.forward
        else:
            layer.forward = own


def _noting(forward: Callable, uses: list[Use]) -> Callable:
    def noted(*args, **kwargs):
        given = args[0] if args else kwargs.get("input")
        version = _version(given)
        result = forward(*args, **kwargs)
        # one number, seen as many: the zeros themselves take no memory
        zeros = result.new_zeros(()).expand(result.shape).requires_grad_()
        uses.append(Use(given.detach(), zeros, version))
        return result + zeros

    return noted


def _version(given: Tensor) -> int:
    return 0 if given.is_inference() else given._version


def reason(uses: list[Use], count: int) -> str | None:
    """Why the calls of a layer in one forward pass of so many examples allow no rule, None where they do."""
    if len(uses) != 1:
        return f"it is used {len(uses)} times in a forward pass"
    return uses[0].wrong(count)


def reads(value: Tensor) -> Counter[int]:
    """How often the operations behind a value read each parameter, by its id: more than once is more than one use."""
    counts, seen = Counter(), set()
    waiting = [value.grad_fn] if value.grad_fn else []
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if (leaf := getattr(node, "variable", None)) is not None:
                counts[id(leaf)] += 1
            elif node is not None and node not in seen:
                seen.add(node)
                waiting.append(node)
    return counts


def gradients(value: Tensor, wanted: list[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of a number; zeros for what it does not depend on."""
    if not wanted or not value.requires_grad:
        return tuple(torch.zeros_like(each) for each in wanted)
    return torch.autograd.grad(value, wanted, materialize_grads=True, allow_unused=True)
