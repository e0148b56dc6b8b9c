r"""Low-rank adapters: beside a frozen linear layer W a small trainable one, $W x + \frac{\alpha}{r} B A x$.

Hu et al. 2021, arXiv:2106.09685, section 4.1. A (rank, in) and B (out, rank) are linear layers without bias, `down` and
`up`, so per-example gradients of an adapter are factored like those of any other linear layer.
"""

from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial

from torch import Tensor, nn

from attriflow.models import built, fill


class Adapted(nn.Module):
    """A frozen linear layer (..., in) to (..., out), and its adapter."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, init: str):
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        self.scale = alpha / rank
        if init == "zero":
            nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * self.up(self.down(x))


def insert(module: nn.Module, *, layers: str, rank: int, alpha: float, init: str):
    """Put an adapter on every linear layer whose name fits, and let nothing but adapters require gradients.

    layers: a pattern of names of nn.Linear modules, `blocks.*.attention.*`. alpha: what an adapter counts, times rank.
    init: 'zero' draws `down` and leaves `up` 0, so outputs do not change (section 4.1 of the paper); 'random' draws
    both, so that adapters differ before they are trained, and outputs change. Draws are torch's for a linear layer,
    from its default generator (SOURCE: `down` so in the authors' code, loralib/layers.py; the paper says Gaussian).
    Raises ValueError for a pattern that fits no layer, and for a rank above a layer's size.
    """
    linear = {name: each for name, each in module.named_modules() if name and type(each) is nn.Linear}
    chosen = {name: layer for name, layer in linear.items() if fnmatchcase(name, layers)}
    if not chosen:
        raise ValueError(f"layers: no linear layer matches '{layers}'; the model has {sorted(linear)}")
    for name, layer in chosen.items():
        if rank > (most := min(layer.in_features, layer.out_features)):
            size = f"{layer.in_features} to {layer.out_features}"
            raise ValueError(f"rank {rank} is above the size of layer '{name}', {size}; expected at most {most}")
    module.requires_grad_(False)
    for name, layer in chosen.items():
        module.set_submodule(name, Adapted(layer, rank, alpha, init))


def adapted(
    build: Callable[[], nn.Module], weights: dict[str, Tensor], name: str, **options: str | int | float
) -> Callable[[], nn.Module]:
    """A function that builds a trained model with new adapters: the base model's build function and its state dict.

    name: of the base model, for errors. options: those of `insert`.
    """
    return partial(_with_adapters, build, weights, name, options)


def _with_adapters(build, weights, name, options) -> nn.Module:
    module = built(build)
    fill(module, weights, name)
    insert(module, **options)
    return module


def adapters(module: nn.Module) -> list[str]:
    """The names of an adapted module's adapter weights."""
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def load(module: nn.Module, weights: dict[str, Tensor], name: str):
    """Fill the adapters of a module that has them.

    Raises ValueError naming every weight that is missing, unexpected or of another shape.
    """
    own = adapters(module)
    frozen = {key: value for key, value in module.state_dict().items() if key not in own}
    fill(module, frozen | weights, name)
