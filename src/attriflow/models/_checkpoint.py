"""A user's own checkpoint: read without running any code in it, and fitted to the module of its setting.

Files are what `torch.save` wrote of a state dict, bare or in a dict, a model that the models room saved (its last
checkpoint is taken), or safetensors. Names may have a prefix that a wrapper wrote, and tied weights may be there once.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from attriflow.io import read_weights
from attriflow.models import aliases, built, completed, differences
from attriflow.provenance import sha256

log = logging.getLogger(__name__)

_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
_NESTED = ("state_dict", "model")
_MOST = 6  # weights that a message names
_REMEDY = "save the weights alone: torch.save(model.state_dict(), path), or as safetensors"


def adopted(path: Path, expected: str, build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """The weights in a file whose SHA-256 must be `expected`, as the module's state dict has them, in its dtypes.

    Raises ValueError for a file that changed, is damaged, or holds code or anything else than a state dict; and naming
    every weight that is missing, unexpected, of another shape, of another kind of number, or not finite.
    """
    if (found := sha256(path)) != expected:
        raise ValueError(f"checkpoint {path} has SHA-256 {found}, {expected} when this job was planned; run again")
    module = built(build)
    wanted = module.state_dict()
    weights = completed(module, _without_prefix(path, read(path), module), str(path))
    if wrong := differences(module, weights):
        raise ValueError(f"checkpoint {path} does not fit the model of its setting: {_some(wrong)}")
    state = {name: _converted(weights[name], value) for name, value in wanted.items()}
    if wrong := [reason for name, value in state.items() if (reason := _wrong(name, weights[name], value))]:
        raise ValueError(f"checkpoint {path} does not fit the model of its setting: {_some(wrong)}")
    return state


def _without_prefix(path: Path, weights: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """The weights under the module's names: without a prefix that all of them share, where that makes names match.

    Wrappers write one: `module.` of data parallel training, `_orig_mod.` of a compiled model, or both. It is said in
    the log. Raises ValueError with the remedy for names of which none is the module's.
    """
    tied, names = aliases(module), module.state_dict().keys()
    known = {tied.get(name, name) for name in names}
    for prefix in _prefixes(weights):
        own = {name.removeprefix(prefix): value for name, value in weights.items()}
        if {tied.get(name, name) for name in own} == known:
            if prefix:
                log.warning("checkpoint %s: the prefix '%s' of all its weights is taken off", path, prefix)
            return own
    if names.isdisjoint(weights):
        raise ValueError(
            f"checkpoint {path} does not fit the model of its setting: none of its {len(weights)} weights has a name "
            f"of the model's {len(names)}: they are called such as '{min(weights)}', the model's such as "
            f"'{min(names)}'; rename them: torch.save({{name.removeprefix('PREFIX.'): value for name, value in "
            f"weights.items()}}, path), or build the model that they are of"
        )
    return weights


def _prefixes(weights: dict[str, Tensor]) -> Iterator[str]:
    """What may be taken off all names: nothing, their first part where they share it, two parts, ..."""
    parts, count = [name.split(".") for name in weights], 0
    while all(len(each) > count and each[:count] == parts[0][:count] for each in parts):
        yield "".join(f"{part}." for part in parts[0][:count])
        count += 1


def _some(wrong: list[str]) -> str:
    """The first of what is wrong, and how much more there is."""
    more = f"; and {len(wrong) - _MOST} more" if len(wrong) > _MOST else ""
    return "; ".join(wrong[:_MOST]) + more


def read(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, on the processor. Raises ValueError naming the file where there is none."""
    content = _content(path)
    if "checkpoints" in content and "rates" in content:  # a model that the models room saved
        content = content["checkpoints"][max(content["checkpoints"])]
    nested = [key for key in _NESTED if isinstance(content.get(key), dict)] or _state_dicts(content)
    if len(nested) > 1:
        raise ValueError(f"checkpoint {path} holds a state dict under each of {nested}; {_REMEDY}")
    weights = content[nested[0]] if nested else content
    if not weights:
        raise ValueError(f"checkpoint {path} holds no weights; {_REMEDY}")
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"checkpoint {path} holds no state dict: {name!r} is of type {type(value).__name__}, expected tensors, "
                f"or a dict that has them under one of {list(_NESTED)}; {_REMEDY}"
            )
        if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
            raise ValueError(f"checkpoint {path}: '{name}' is sparse, quantised or without numbers")
    return weights


def _state_dicts(content: dict) -> list[str]:
    """The keys under which a dict holds nothing but tensors by name."""
    return [
        key
        for key, value in content.items()
        if isinstance(value, dict) and value and all(isinstance(each, Tensor) for each in value.values())
    ]


def _content(path: Path) -> dict:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"checkpoint {path} is damaged or no safetensors file ({error})") from error
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"checkpoint {path} ends in '{path.suffix}'; expected one of {list(_SUFFIXES)}")
    content = read_weights(path, _REMEDY)
    if not isinstance(content, dict):
        raise ValueError(f"checkpoint {path} holds no state dict but a {type(content).__name__}; {_REMEDY}")
    return content


def _converted(weight: Tensor, like: Tensor) -> Tensor:
    # a copy of its own: what the file holds may be a view of something larger
    return weight.to(like.dtype, copy=True).contiguous()


def _wrong(name: str, given: Tensor, value: Tensor) -> str | None:
    """Why a weight cannot stand for one of the module, None where it can."""
    if (given.is_floating_point(), given.is_complex()) != (value.is_floating_point(), value.is_complex()):
        return f"{name}: {given.dtype}, expected {value.dtype}"
    if bad := int((~torch.isfinite(value)).sum()):
        return f"{name}: {bad} of {value.numel()} numbers are not finite"
    return None
