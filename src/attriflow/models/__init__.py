"""Models: architectures, and the trained members that a score may look at.

A kind is a file with
    build(shape, classes, *, hyperparameters) -> nn.Module
or build(shape, classes, tokens, *, ...), tokens as in `data.Raw`,
for inputs of `shape` (without the batch) and so many outputs: `classes` is 1 for a regression, and a model of 2 classes
may give one logit, that of class 1. Its initial weights come from torch's default generator, which the engine seeds
from the run's stream.
"""

import contextlib
import fnmatch
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import RLock

import numpy as np
import torch
from torch import nn

from attriflow import changes, lora
from attriflow.device import CPU
from attriflow.io import load_weights
from attriflow.models._last import last_parameters
from attriflow.models._outputs import as_logits
from attriflow.outputs import logits_only
from attriflow.registry import Registry
from attriflow.runs import Run
from attriflow.streams import stream


def builder(
    registry: Registry, model: dict, shape: tuple[int, ...], classes: int, tokens: int = 0
) -> Callable[[], nn.Module]:
    """A function that builds the model of a setting, from its entry in the config; see `as_logits` for one logit.

    tokens: as in `data.Raw`, for kinds that ask for it.
    """
    kind, options = model["kind"], {key: value for key, value in model.items() if key != "kind"}
    asked = (tokens,) if "tokens" in registry.arguments("models", kind, "build") else ()
    return as_logits(partial(registry.load("models", kind).build, shape, classes, *asked, **options), shape, classes)


_DRAWING = RLock()


@contextlib.contextmanager
def default_generator(seed: int | None = None) -> Iterator[None]:
    """Torch's default generator, one for all threads, for this one alone, and seeded if asked; then as it was before.

    Whatever draws from it must do so here: a draw of another thread would change what a seed gives.
    """
    with _DRAWING, torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.random.manual_seed(seed)
        yield


def built(build: Callable[[], nn.Module]) -> nn.Module:
    """A module whose weights will be replaced; no draw of another is changed."""
    with default_generator():
        return made(build)


def made(build: Callable[[], nn.Module]) -> nn.Module:
    """A module as everything here takes it: whatever its forward pass returns, it gives logits."""
    module = build()
    if logits_only not in module._forward_hooks.values():
        module.register_forward_hook(logits_only)
    return module


def with_adapters(
    build: Callable[[], nn.Module], weights: dict[str, torch.Tensor], name: str, options: dict
) -> Callable[[], nn.Module]:
    """A function that builds a trained model with new adapters, which are all that require gradients.

    weights: the state dict of the model, whose name is for errors. options: those of `lora.insert`, which draws from
    torch's default generator as `build` does; what `build` draws changes no adapter.
    """

    def make() -> nn.Module:
        module = built(build)
        fill(module, weights, name)
        lora.insert(module, **options)
        return module

    return make


def load_trained(
    path: Path,
    name: str,
    seed: int,
    build: Callable[[], nn.Module],
    run: Run | None = None,
    recipe: dict | None = None,
    adapters: Path | None = None,
) -> "Trained":
    """A model that the models room saved, with the run and the recipe that trained it, and its adapters, if any."""
    content = load_weights(path)
    trained = Trained(name, seed, build, content["checkpoints"], content["rates"], run, recipe, content["device"])
    return replace(trained, adapters=load_weights(adapters)["adapters"]) if adapters else trained


@dataclass(frozen=True)
class Trained:
    """One trained model as the models room hands it on.

    name: its file's name, and the name of every random stream that serves it.
    checkpoints: epoch -> state dict, ascending; the last is the final model. A user's own is epoch 0.
    rates: learning rate at the end of each of these epochs; none of a user's own.
    run, recipe: the training that made it and how, where they are known; trained_on: the device of that training.
    device, dtype: where its gradients are computed, and in what precision.
    change: what a member of an ensemble does to it, see `attriflow.changes`.
    adapters: state dicts of adapters that were trained on the final model, of which a change names one by its number.
    """

    name: str
    seed: int
    build: Callable[[], nn.Module]
    checkpoints: dict[int, dict[str, torch.Tensor]]
    rates: dict[int, float]
    run: Run | None = None
    recipe: dict | None = None
    trained_on: str = "cpu"
    device: torch.device = CPU
    dtype: torch.dtype = torch.float64
    change: dict = field(default_factory=dict)
    adapters: list[dict[str, torch.Tensor]] = field(default_factory=list)

    @property
    def final(self) -> dict[str, torch.Tensor]:
        """The state dict of the final model."""
        return self.checkpoints[max(self.checkpoints)]

    def changed(self, change: dict) -> "Trained":
        """The member of an ensemble that is this model with a change.

        Raises ValueError for a checkpoint of an epoch that was not kept, and for an adapter that was not trained.
        """
        member = replace(self, change=change)
        if change.get("kind") == "lora":
            return member._of_final_model()
        epoch = change.get("epoch", "last")
        if epoch == "last":
            return member
        self._expect_kept(epoch)
        checkpoints = {each: state for each, state in self.checkpoints.items() if each <= epoch}
        return replace(member, checkpoints=checkpoints, rates={at: self.rates[at] for at in checkpoints if self.rates})

    def _of_final_model(self) -> "Trained":
        """What adapters know: the model that they were trained on."""
        if self._number >= len(self.adapters):
            raise ValueError(f"model {self.name} has no adapter {self._number}; {len(self.adapters)} were trained")
        last = max(self.checkpoints)
        return replace(self, checkpoints={last: self.final}, rates={at: self.rates[at] for at in [last] if self.rates})

    def model(self, epoch: int | str = "last", parameters: str = "all", part: str = "gradients") -> nn.Module:
        """The model after an epoch, in evaluation mode, on its device and in its dtype, changed where it is a member.

        Only the chosen parameters require gradients.

        part: of a score, for which the model is taken: its 'gradients', or TRAK's 'residuals', of which a change may
        leave one alone. parameters: 'all', 'last' for those of the layer that makes the output (`_last.py`), or a
        pattern of their names (`blocks.*`). Where there are adapters, they are all the parameters there are.
        Raises ValueError for an epoch that was not kept, for weights of another architecture, and for a pattern that
        no parameter matches.
        """
        epoch = max(self.checkpoints) if epoch == "last" else epoch
        self._expect_kept(epoch)
        module = built(self.build)
        fill(module, self.checkpoints[epoch], self.name)
        if changes.acts_on(self.change, part):
            changes.apply(
                module, self.change, self.name, partial(stream, self.seed, "changes", self.name, self._number)
            )
        if self.change.get("kind") == "lora":
            fill_adapters(module, self.adapters[self._number], f"{self.name}, adapter {self._number}")
        module.to(self.device, self.dtype).eval()
        select(module, parameters, self.build)
        return module

    def _expect_kept(self, epoch: int | str):
        if epoch not in self.checkpoints:
            raise ValueError(f"model {self.name}: epoch {epoch} was not kept; kept: {sorted(self.checkpoints)}")

    @property
    def _number(self) -> int:
        return self.change.get("number", 0)

    def stream(self, *names: str | int) -> np.random.Generator:
        """Random numbers that belong to this member and the named purpose.

        Those of a change of number 0, and of one that leaves gradients alone, are the model's own. Those of another
        depend on its number, not on its kind: members of the same number share a projection whatever their masks are,
        so that ensembles of several kinds differ in these alone.
        """
        if self._number and changes.acts_on(self.change, "gradients"):
            names = ("change", self._number, *names)
        return stream(self.seed, "scores", self.name, *names)


def select(module: nn.Module, parameters: str, build: Callable[[], nn.Module]):
    """Let only the chosen parameters require gradients; see `Trained.model`. build: what made the module.

    A pattern may name a tied parameter by any of its names.
    """
    everything = [name for name, each in module.named_parameters() if each.requires_grad]
    if parameters == "last":
        chosen = last_parameters(module, build)
    else:
        pattern = "*" if parameters == "all" else parameters
        named = module.named_parameters(remove_duplicate=False)
        matched = {id(each) for name, each in named if fnmatch.fnmatchcase(name, pattern)}
        chosen = [name for name in everything if id(module.get_parameter(name)) in matched]
    if not chosen:
        raise ValueError(f"parameters: no parameter matches '{parameters}'; the model has {everything}")
    for name in everything:
        module.get_parameter(name).requires_grad_(name in chosen)


def fill(module: nn.Module, weights: dict[str, torch.Tensor], name: str):
    """Fill a module, tied weights by any of their names.

    Raises ValueError naming every weight that is missing, unexpected or of another shape, and tied ones that differ.
    """
    weights = completed(module, weights, name)
    if wrong := differences(module, weights):
        raise ValueError(f"checkpoint {name} is of another architecture: {'; '.join(wrong)}")
    module.load_state_dict(weights)


def fill_adapters(module: nn.Module, weights: dict[str, torch.Tensor], name: str):
    """Fill the adapters of a module that has them. Raises ValueError as `fill` does."""
    own, first = lora.weights(module), aliases(module)
    frozen = {key: value for key, value in module.state_dict().items() if first.get(key, key) not in own}
    fill(module, frozen | weights, name)


def slots(module: nn.Module) -> dict[str, str]:
    """Every place of a parameter or buffer by one name, and the first name of what stands there.

    For `functional_call(module, {place: ...}, ..., tie_weights=False)`: by itself it finds ties and layers at two
    places, but leaves its tensors in the latter, and the next call then misses their ties.
    """
    first = {id(each): name for name, each in [*module.named_parameters(), *module.named_buffers()]}
    places = (
        (f"{path}.{name}" if path else name, each)
        for path, owner in module.named_modules()
        for name, each in [*owner._parameters.items(), *owner._buffers.items()]
        if each is not None
    )
    return {place: first[id(each)] for place, each in places}


def aliases(module: nn.Module) -> dict[str, str]:
    """Tied weights: each name in the state dict that stands for the numbers of an earlier one, and the first of these.

    >>> module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> module[1].weight = module[0].weight
    >>> aliases(module)
    {'1.weight': '0.weight'}
    """
    first: dict[int, str] = {}
    state = {name: each for name, each in module.state_dict(keep_vars=True).items() if isinstance(each, torch.Tensor)}
    names = {name: first.setdefault(id(each), name) for name, each in state.items()}
    return {name: original for name, original in names.items() if name != original}


def completed(module: nn.Module, weights: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """Weights with tied ones under each of their names: some files hold them once.

    Raises ValueError naming two whose numbers differ.
    """
    completed, groups = dict(weights), {}
    for alias, original in aliases(module).items():
        groups.setdefault(original, [original]).append(alias)
    for names in groups.values():
        given = [each for each in names if each in weights]
        for other in given[1:]:
            if not _same(weights[given[0]], weights[other]):
                raise ValueError(
                    f"checkpoint {name}: '{given[0]}' and '{other}' are one weight of the model, which ties them, but "
                    f"differ; keep the right one, or build the model without the tie"
                )
        completed |= {each: weights[given[0]] for each in names if given}
    return completed


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two weights have the same numbers, NaN among them, in whatever precision."""
    return first.shape == second.shape and torch.allclose(first.double(), second.double(), 0, 0, equal_nan=True)


def differences(module: nn.Module, weights: dict[str, torch.Tensor]) -> list[str]:
    """Every weight that is missing, unexpected or of another shape than the module's, in words."""
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in weights.items()}
    return [
        f"{key}: {found.get(key, 'missing')}, expected {expected.get(key, 'nothing')}"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key) != found.get(key)
    ]
