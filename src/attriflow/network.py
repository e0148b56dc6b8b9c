"""A model before its training, with its data: what of it decides the memory and the time that jobs take."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from attriflow import flops, lora
from attriflow.curvature import activations
from attriflow.data import Split
from attriflow.device import inputs, labels
from attriflow.io import load_arrays
from attriflow.memory import Size
from attriflow.models import Trained, builder, built, with_adapters
from attriflow.outputs import loss
from attriflow.registry import Registry


@dataclass(frozen=True, eq=False)
class Network:
    """p: parameters. activations: numbers that an example's forward pass keeps. masked: those under dropout.

    flops: of an example's forward pass and its gradient.
    """

    build: Callable[[], nn.Module]
    split: Split
    p: int
    activations: int
    masked: int
    flops: int


@cache
def network(registry: Registry, data: str, digest: str, model: str) -> Network:
    """The model of an entry of the config (JSON), for the data in a file with the spec of this digest."""
    split = Split(**load_arrays(Path(data)))  # mapped: only labels and a few examples are read
    build = builder(registry, json.loads(model), split.shape, split.classes, split.tokens)
    module = built(build).eval()
    x = inputs(module, np.array(split.train_x[:1]))
    p = sum(parameter.numel() for parameter in module.parameters())
    once = flops.of_step(module, x, labels(module, np.array(split.train_y[:1])), loss)
    return Network(build, split, p, activations(module, x), _masked(module, x), once)


@cache
def size(of: Network, parameters: str, checkpoints: tuple[int, ...], adapter: str = "") -> Size:
    """The size of its problem for a method that attributes these parameters, by models with these checkpoints.

    adapter: options of `lora.insert` (JSON), where adapters are all the parameters there are.
    """
    weights = built(of.build).state_dict()
    trained = Trained("untrained", 0, of.build, dict.fromkeys(checkpoints, weights), {})
    if adapter:
        options = json.loads(adapter)
        module = built(with_adapters(of.build, weights, "untrained", options))
        new = {name: module.get_parameter(name).detach() for name in lora.weights(module)}
        trained = replace(trained, adapters=[new]).changed({"kind": "lora", "adapter": options})
    return Size.of(trained, of.split, parameters)


def _masked(module: nn.Module, x: torch.Tensor) -> int:
    sizes = []
    sites = [layer for layer in module.modules() if type(layer) is nn.Dropout and layer.p]
    handles = [layer.register_forward_hook(lambda *passed: sizes.append(passed[2].numel())) for layer in sites]
    with torch.no_grad():
        module(x)
    for handle in handles:
        handle.remove()
    return sum(sizes)
