"""Small decoder-only transformer: the next token at every position of a sequence, or one label for all of it.

Vaswani et al. 2017, with the normalisation before each block. Attention is written out, so that every derivative that
attribution takes (forward mode too) exists.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from attriflow.data import PADDING
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
    """Token indices (n, t) to logits (n, t, classes), or (n, classes) where positions are pooled."""

    def __init__(
        self, length: int, tokens: int, classes: int, width: int, heads: int, layers: int, dropout: float, pool: str
    ):
        super().__init__()
        self.pool = pool
        self.tokens = nn.Embedding(tokens, width)
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        found = self.norm(self.blocks(self.tokens(x) + self.positions[: x.shape[-1]]))
        return self.head(found if self.pool == "none" else pooled(found, x, self.pool))


def pooled(found: Tensor, x: Tensor, pool: str) -> Tensor:
    """The mean over the positions (n, t, width) before the padding of x (n, t), or the last of them, (n, width)."""
    words = x != PADDING
    if pool == "last":
        words = words & ~torch.cat([words[..., 1:], torch.zeros_like(words[..., :1])], -1)
    weights = words.to(found.dtype)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1)
    return (weights[..., None] * found).sum(-2)


def build(
    shape: tuple[int, ...],
    classes: int,
    tokens: int = 0,
    *,
    width: PositiveInt = 32,
    heads: PositiveInt = 2,
    layers: PositiveInt = 2,
    dropout: Probability = 0.0,
    pool: Literal["none", "mean", "last"] = "none",
) -> nn.Module:
    """A transformer for sequences of `shape` (length,) over so many tokens, the classes where `tokens` is 0.

    pool: of sequences with one label each, what the label is read from: the mean over all words, or the last one.
    Raises ValueError for inputs of another shape, a width that the heads do not divide, and where `pool` does not go
    with the labels.
    """
    if len(shape) != 1:
        raise ValueError(f"transformer takes sequences of token indices (length,), not inputs {tuple(shape)}")
    if width % heads:
        raise ValueError(f"transformer: {heads} heads do not divide a width of {width}")
    if (pool == "none") != (tokens == 0):
        labels, right = ("one label", "'mean' or 'last'") if tokens else ("a label at every position", "'none'")
        raise ValueError(f"transformer: sequences with {labels} need pool {right}, not '{pool}'")
    # ASSUME: papers classify sequences by encoders that see both ways; ours looks back alone, as everywhere here, so
    # that no word sees the padding behind the last.
    return Transformer(shape[0], tokens or classes, classes, width, heads, layers, dropout, pool)
