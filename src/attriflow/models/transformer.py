"""Small decoder-only transformer: the next token at every position of a sequence.

Vaswani et al. 2017, with the normalisation before each block. Attention is written out, so that every derivative that
attribution takes (forward mode too) exists.
"""

import torch
from torch import Tensor, nn

from attriflow.hyperparameters import PositiveInt, Probability


class Attention(nn.Module):
    """Causal self-attention with one projection to queries, keys and values, (n, t, width) to the same."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.projection = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        t, width = x.shape[-2:]
        queries, keys, values = (
            each.unflatten(-1, (self.heads, width // self.heads)).transpose(-3, -2)  # (n, heads, t, width / heads)
            for each in self.projection(x).chunk(3, -1)
        )
        weights = queries @ keys.mT / (width // self.heads) ** 0.5
        later = torch.ones(t, t, dtype=torch.bool, device=x.device).triu(1)
        found = torch.softmax(weights.masked_fill(later, -torch.inf), -1) @ values
        return self.output(found.transpose(-3, -2).flatten(-2))


class Block(nn.Module):
    """Attention and a perceptron at every position, each added to what came in."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads), nn.Dropout(dropout))
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.perceptron(x)


class Transformer(nn.Module):
    """Token indices (n, t) to logits (n, t, tokens)."""

    def __init__(self, length: int, tokens: int, width: int, heads: int, layers: int, dropout: float):
        super().__init__()
        self.tokens = nn.Embedding(tokens, width)
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, tokens, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.tokens(x) + self.positions[: x.shape[-1]])))


def build(
    shape: tuple[int, ...],
    classes: int,
    *,
    width: PositiveInt = 32,
    heads: PositiveInt = 2,
    layers: PositiveInt = 2,
    dropout: Probability = 0.0,
) -> nn.Module:
    """A transformer for sequences of `shape` (length,) over `classes` tokens.

    Raises ValueError for inputs of another shape and a width that the heads do not divide.
    """
    if len(shape) != 1:
        raise ValueError(f"transformer takes sequences of token indices (length,), not inputs {tuple(shape)}")
    if width % heads:
        raise ValueError(f"transformer: {heads} heads do not divide a width of {width}")
    return Transformer(shape[0], classes, width, heads, layers, dropout)
