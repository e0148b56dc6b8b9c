"""Memory: what a method says it needs, what there is, and a refusal where the one exceeds the other.

A method may say how many bytes its `prepare` takes at work for one member, beside the data and the model:
    memory(size, *, hyperparameters of prepare) -> bytes

and, where it goes over the training examples more often than their gradients take, how often:
    passes(n, m, *, hyperparameters of prepare) -> passes, forward and back
"""

import inspect
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attriflow.curvature import activations, root_size
from attriflow.data import Split
from attriflow.device import inputs
from attriflow.gradients import per_example
from attriflow.models import Trained
from attriflow.registry import Registry

_BATCH = 500  # examples that pass through a model at once, of `per_example`


@dataclass(frozen=True)
class Size:
    """A problem: n training and m test examples, p attributed parameters, t checkpoints.

    layers: parts of the gradients. factors: numbers that an example's gradients take, factored. activations: those that
    its forward pass keeps for a derivative. columns: of the root of its loss's Hessian, see `curvature.roots`.
    """

    n: int
    m: int
    p: int
    t: int
    layers: int
    factors: int
    activations: int
    columns: int

    @classmethod
    def of(cls, member: Trained, split: Split, parameters: str) -> "Size":
        """Measured on a few examples."""
        some = np.arange(min(2, len(split.train_y)))
        model = member.model("last", parameters)
        parts = per_example(model, split.train_x[some], split.train_y[some], "loss").parts
        held = sum(part.numbers() for part in parts) // len(some)
        p = sum(part.size for part in parts)
        kept = activations(model, inputs(model, split.train_x[:1]))
        columns = root_size(model, split.train_x, split.train_y)
        return cls(len(split.train_y), len(split.test_y), p, len(member.checkpoints), len(parts), held, kept, columns)

    @property
    def gradients(self) -> int:
        """Bytes of all factored gradients in float64, with the copies and the passes that making them takes."""
        return 24 * self.factors * (self.n + self.m) + 24 * self.activations * min(_BATCH, self.n)

    def products(self, vectors: int, examples: int) -> int:
        """Bytes that `curvature.products` takes beside so many vectors: for all pairs at once, or its largest block."""
        return min(2**30, 64 * self.activations * vectors * examples)


def needed(registry: Registry, kind: str, size: Size, hyperparameters: dict) -> int | None:
    """Bytes that a method's `prepare` says it needs; None where it does not say."""
    formula = getattr(registry.load("scores", kind), "memory", None)
    if formula is None:
        return None
    return int(formula(size, **_taken(formula, 1, hyperparameters)))


def passes(registry: Registry, kind: str, n: int, m: int, hyperparameters: dict) -> float:
    """How often a method passes the training examples besides taking their gradients; 0 where it does not say."""
    formula = getattr(registry.load("scores", kind), "passes", None)
    if formula is None:
        return 0.0
    return float(formula(n, m, **_taken(formula, 2, hyperparameters)))


def _taken(formula: Callable, positional: int, hyperparameters: dict) -> dict:
    """The hyperparameters that a formula takes besides its first, positional arguments."""
    first, rest = (takes := [*inspect.signature(formula).parameters.values()])[:positional], takes[positional:]
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in rest):
        return {name: value for name, value in hyperparameters.items() if name not in {each.name for each in first}}
    return {each.name: hyperparameters[each.name] for each in rest if each.name in hyperparameters}


def attributed(registry: Registry, kind: str, hyperparameters: dict) -> str:
    """The parameters that a method attributes; all, where its `parameters` are something else, or it has none."""
    takes = registry.hyperparameters("scores", kind, "prepare")
    named = "parameters" in takes and takes["parameters"].annotation == "Parameters"
    return hyperparameters.get("parameters", "all") if named else "all"


def refuse_what_cannot_fit(registry: Registry, kind: str, size: Size, hyperparameters: dict):
    """Raise MemoryError with the numbers, and the methods that would fit, if a method needs more than there is."""
    wanted, there = needed(registry, kind, size, hyperparameters), available()
    if wanted is None or wanted <= there:
        return
    raise MemoryError(
        f"{kind} needs about {_gib(wanted)} for n = {size.n}, m = {size.m}, p = {size.p} and {hyperparameters}; "
        f"{_gib(there)} are free. Attribute fewer parameters (`parameters: last`) or fewer examples, or use one of "
        f"{sorted(_fitting(registry, size, there) - {kind})}, which would fit at their defaults"
    )


def available() -> int:
    """Bytes that this process may still take: free memory, and what limits of the process and its group leave."""
    limits = [_line("/proc/meminfo", "MemAvailable:") or 2**63]
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most != resource.RLIM_INFINITY:
        limits.append(most - (_line("/proc/self/status", "VmSize:") or 0))
    group = Path("/sys/fs/cgroup")
    if (group / "memory.max").exists() and (ceiling := (group / "memory.max").read_text().strip()) != "max":
        limits.append(int(ceiling) - int((group / "memory.current").read_text()))
    return min(limits)


def _line(path: str, word: str) -> int | None:
    """Bytes of a line such as `MemAvailable:  123 kB`, None where there is no such file or line."""
    lines = Path(path).read_text().splitlines() if Path(path).exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(word)), None)


def _fitting(registry: Registry, size: Size, there: int) -> set[str]:
    found = set()
    for kind in registry.kinds("scores"):
        taken = registry.hyperparameters("scores", kind, "prepare")
        defaults = {name: each.default for name, each in taken.items() if isinstance(each.default, int | float | str)}
        try:
            wanted = needed(registry, kind, size, defaults)
        except TypeError:
            continue  # a hyperparameter without a default decides
        if wanted is not None and wanted <= there:
            found.add(kind)
    return found


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
