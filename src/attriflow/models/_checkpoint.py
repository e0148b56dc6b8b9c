"""A user's own checkpoint: read without running any code in it, and fitted to the module of its setting.

Files are what `torch.save` wrote of a state dict, bare or in a dict under `state_dict` or `model`, a model that the
models room saved (its last checkpoint is taken), or safetensors.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from attriflow.io import read_weights
from attriflow.models import built, differences
from attriflow.provenance import sha256

_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
_NESTED = ("state_dict", "model")
_REMEDY = "save the weights alone: torch.save(model.state_dict(), path), or as safetensors"


def adopted(path: Path, expected: str, build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """The weights in a file whose SHA-256 must be `expected`, as the module's state dict has them, in its dtypes.

    Raises ValueError for a file that changed, is damaged, or holds code or anything else than a state dict; and naming
    every weight that is missing, unexpected, of another shape, of another kind of number, or not finite.
    """
    if (found := sha256(path)) != expected:
        raise ValueError(f"checkpoint {path} has SHA-256 {found}, {expected} when this job was planned; run again")
    module = built(build)
    weights, wanted = read(path), module.state_dict()
    if wrong := differences(module, weights):
        raise ValueError(f"checkpoint {path} does not fit the model of its setting: {'; '.join(wrong)}")
    state = {name: _converted(weights[name], value) for name, value in wanted.items()}
    if wrong := [reason for name, value in state.items() if (reason := _wrong(name, weights[name], value))]:
        raise ValueError(f"checkpoint {path} does not fit the model of its setting: {'; '.join(wrong)}")
    return state


def read(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, on the processor. Raises ValueError naming the file where there is none."""
    content = _content(path)
    if "checkpoints" in content and "rates" in content:  # a model that the models room saved
        content = content["checkpoints"][max(content["checkpoints"])]
    nested = [key for key in _NESTED if isinstance(content.get(key), dict)]
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
