"""Tiny Shakespeare: 1,115,394 characters of plays, cut into sequences; each position's label is the next character.

SOURCE: A. Karpathy, char-rnn, data/tinyshakespeare/input.txt (public domain).
"""

from pathlib import Path

import numpy as np

from attriflow.data import Raw
from attriflow.hyperparameters import PositiveInt

ADDRESSES = ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",)
FILES = {"input.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"}


def load(folder: Path, *, length: PositiveInt = 64) -> Raw:
    """Sequences (N, length) of characters and of those that follow them, without overlap; indices of sorted characters.

    Raises ValueError for a length above that of the text.
    """
    text = (folder / "input.txt").read_text(encoding="utf-8")
    alphabet, tokens = np.unique(np.array(list(text)), return_inverse=True)
    count = (len(tokens) - 1) // length
    if count < 2:
        raise ValueError(f"tinyshakespeare: sequences of {length} characters: the text has {len(tokens)}")
    cut = slice(0, count * length)
    x, y = tokens[:-1][cut].reshape(count, length), tokens[1:][cut].reshape(count, length)
    return Raw(x.astype(np.int64), y.astype(np.int64), classes=len(alphabet))
