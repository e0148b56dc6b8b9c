r"""Low-rank adapters: beside a frozen linear layer W a small trainable one, $W x + \frac{\alpha}{r} B A x$.

Hu et al. 2021, arXiv:2106.09685, section 4.1. A (rank, in) and B (out, rank) are linear layers without bias, `down` and
`up`, so per-example gradients of an adapter are factored like those of any other linear layer.
"""

from fnmatch import fnmatchcase

from torch import Tensor, nn


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
    every = [*module.named_modules(remove_duplicate=False)]
    linear = {name: each for name, each in every if name and type(each) is nn.Linear}
    chosen = {name: layer for name, layer in linear.items() if fnmatchcase(name, layers)}
    if not chosen:
        raise ValueError(f"layers: no linear layer matches '{layers}'; the model has {sorted(linear)}")
    for name, layer in chosen.items():
        if rank > (most := min(layer.in_features, layer.out_features)):
            size = f"{layer.in_features} to {layer.out_features}"
            raise ValueError(f"rank {rank} is above the size of layer '{name}', {size}; expected at most {most}")
    module.requires_grad_(False)
    adapted: dict[nn.Module, nn.Module] = {}  # a layer that is used at two places has one adapter
    for layer in chosen.values():
        if layer not in adapted:
            adapted[layer] = Adapted(layer, rank, alpha, init)
    for name, layer in linear.items():
        if layer in adapted:
            module.set_submodule(name, adapted[layer])


def weights(module: nn.Module) -> list[str]:
    """The names of a module's adapter weights, which are all that require gradients."""
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]
