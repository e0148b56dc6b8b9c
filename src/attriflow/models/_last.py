"""The layer that makes a model's output, read off the graph of a forward pass.

Neither the order in which layers are registered nor that in which they run says which one it is: heads are registered
first, tied to an embedding, or run before one that the output does not use. The walk goes back from the output and
stops at the first operations that join parameters with data; what is added behind them, a bias or another branch, and
a single number that scales the output count, too.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

_PASSED = ("AddBackward", "SubBackward")  # a bias behind a product, or a sum of several branches
_SCALED = ("MulBackward", "DivBackward")  # by a single number
_LOOKED_UP = ("Embedding", "Index", "Gather")  # by data that are whole numbers, which no graph shows
_LENGTHS = (5, 1, 2, *range(3, 65), 96, 128, 224)  # of sequences and sides of images that are tried


def last_parameters(module: nn.Module, build: Callable[[], nn.Module]) -> list[str]:
    """Names of the trainable parameters of the layer that makes the output.

    module: in evaluation mode. build: what made it; where it is a `partial` of a shape (`models.builder`), that is the
    shape of an example, otherwise shapes are tried that the parameters suggest. A tied weight has its first name.
    Raises ValueError where no forward pass shows the layer.
    """
    names = {id(each): name for name, each in module.named_parameters() if each.requires_grad}
    # a frozen layer hides what is before it, as the base of an adapter does; one that has none beside it does not
    for parameters in (list(module.parameters()), []):
        with _requiring(parameters):
            found = _first_found(module, build)
        if chosen := found & names.keys():
            return [name for key, name in names.items() if key in chosen | _own_layers(module, chosen)]
    raise ValueError(
        f"parameters 'last': no forward pass shows which layer makes the output; give a pattern of the names of its "
        f"parameters; the model has {list(names.values())}"
    )


@contextlib.contextmanager
def _requiring(parameters: list[nn.Parameter]) -> Iterator[None]:
    """Let these require gradients, too, and then as before."""
    frozen = [each for each in parameters if not each.requires_grad and each.is_floating_point()]
    for each in frozen:
        each.requires_grad_(True)
    try:
        yield
    finally:
        for each in frozen:
            each.requires_grad_(False)


def _first_found(module: nn.Module, build: Callable[[], nn.Module]) -> set[int]:
    """The ids of the parameters that feed the output, of the first example that the model takes."""
    for x in _examples(module, build):
        try:
            with torch.enable_grad():
                outputs = module(x)
        except Exception:  # a model may refuse what is tried with any error
            continue
        if found := {id(each) for each in _feeding(outputs, x)}:
            return found
    return set()


def _own_layers(module: nn.Module, found: set[int]) -> set[int]:
    """All parameters of the layers, without layers inside, that hold one of those."""
    layers = [each for name, each in module.named_modules() if name and not any(each.children())]
    owned = [{id(parameter) for parameter in layer.parameters()} for layer in layers]
    return set().union(*(own for own in owned if own & found))


def _feeding(outputs: Tensor, x: Tensor) -> list[Tensor]:
    """The parameters that the first operations before the output take."""
    if outputs.grad_fn is None:
        return []
    data = _of_data(outputs.grad_fn, x)
    found, waiting, seen = [], [outputs.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        sources = [each for each, _ in node.next_functions if each]
        taken = [leaf for each in sources if not data[each] for leaf in _leaves(each)]
        found += taken
        passes = node.name().startswith(_PASSED)
        scales = node.name().startswith(_SCALED) and all(leaf.numel() == 1 for leaf in taken)
        if not taken or passes or scales:
            waiting += [each for each in sources if data[each]]
    return found


def _of_data(root, x: Tensor) -> dict:
    """Whether the value of each node that a graph has depends on the data, and not on parameters alone."""
    known: dict = {}
    waiting = [root]
    while waiting:
        node = waiting[-1]
        sources = [each for each, _ in node.next_functions if each]
        if missing := [each for each in sources if each not in known]:
            waiting += missing
            continue
        waiting.pop()
        own = getattr(node, "variable", None) is x or node.name().startswith(_LOOKED_UP)
        known[node] = own or any(known[each] for each in sources)
    return known


def _leaves(node) -> list[Tensor]:
    found, waiting, seen = [], [node], set()
    while waiting:
        each = waiting.pop()
        if each in seen:
            continue
        seen.add(each)
        if hasattr(each, "variable"):
            found.append(each.variable)
        waiting += [source for source, _ in each.next_functions if source]
    return found


def _examples(module: nn.Module, build: Callable[[], nn.Module]) -> Iterator[Tensor]:
    """Examples (1, ...) of ones: numbers, and whole numbers, of each shape that comes into question."""
    like = next(module.parameters())
    for shape in _shapes(module, build):
        yield torch.ones(1, *shape, dtype=like.dtype, device=like.device, requires_grad=True)
        yield torch.ones(1, *shape, dtype=torch.int64, device=like.device)


def _shapes(module: nn.Module, build: Callable[[], nn.Module]) -> Iterator[tuple[int, ...]]:
    if isinstance(build, partial) and build.args and isinstance(build.args[0], tuple | list):
        yield tuple(build.args[0])
        return
    sizes = dict.fromkeys(size for each in module.parameters() for size in reversed(each.shape))
    channels = dict.fromkeys(each.in_channels for each in module.modules() if hasattr(each, "in_channels"))
    yield from ((size,) for size in sizes)
    for length in _LENGTHS:
        yield from ((length, size) for size in sizes)
        yield (length,)
        for count in channels:
            yield (count, length)
            yield (count, length, length)
