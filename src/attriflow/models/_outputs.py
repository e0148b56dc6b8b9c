"""What a model's outputs are: logits of every class, one logit of two classes, or something else."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from attriflow.outputs import logits_only

_SUM = 1e-4  # by which probabilities in float32 miss a sum of 1, at most


def as_logits(build: Callable[[], nn.Module], shape: tuple[int, ...], classes: int) -> Callable[[], nn.Module]:
    r"""A function that builds the same modules; those of two classes and one logit z give the logits (0, z).

    The cross-entropy of (0, z) is the binary cross-entropy of z, and its margin z for class 1 and -z for class 0; the
    derivatives with respect to parameters are those of z alone, so curvatures are the same, too.
    """
    if classes != 2:
        return build
    single: list[bool] = []  # of the first one, as all are alike

    def make() -> nn.Module:
        module = build()
        module.register_forward_hook(logits_only)  # before ours: what it returns may be a tuple with one logit
        if not single:
            single.append(_gives_one(module, shape))
        if single[0]:
            module.register_forward_hook(two_logits)
        return module

    return make


def two_logits(_module: nn.Module, given: tuple, output: object) -> Tensor | None:
    """(0, z) of a logit z: a forward hook. z may be (n, ..., 1), or (n,), as models end with `squeeze`."""
    if not isinstance(output, Tensor):
        return None
    logit = output if output.ndim > 1 else output.reshape(len(given[0]), 1)
    return torch.cat([torch.zeros_like(logit), logit], -1)


def _gives_one(module: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a module gives one number an example, (n, 1) or (n,), or one a position, (n, t, 1).

    Not where it cannot be called with zeros.
    """
    modes = {each: each.training for each in module.modules()}
    module.eval()
    try:
        found = (_shape(module, torch.zeros(2, *shape, dtype=dtype)) for dtype in _DTYPES)
        return any(each == (2,) or (len(each) > 1 and each[-1] == 1) for each in found if each)
    finally:
        for each, training in modes.items():
            each.training = training


_DTYPES = (torch.float32, torch.int64)  # numbers, and indices of tokens


def _shape(module: nn.Module, x: Tensor) -> tuple[int, ...] | None:
    """The shape of what a module gives for inputs; None where it takes no such inputs, or gives no tensor."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            found = module(x)
        except Exception:  # whoever calls it with examples hears what is wrong
            return None
    return tuple(found.shape) if isinstance(found, Tensor) else None


def probabilities(outputs: Tensor, *, one: bool = False) -> str:
    """Why outputs (n, ..., c) look like probabilities and not like logits; nothing where they do not.

    one: whether they come from one logit a example, (0, z), of which z is looked at.
    """
    outputs = outputs[..., 1:] if one else outputs
    if outputs.shape[-1] == 1:
        return "all of them lie between 0 and 1" if one and bool(((outputs >= 0) & (outputs <= 1)).all()) else ""
    alike = bool((outputs >= 0).all()) and bool(((outputs.sum(-1) - 1).abs() <= _SUM).all())
    return "they are not negative and sum to 1" if alike else ""
