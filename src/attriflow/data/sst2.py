"""SST-2: phrases and sentences of film reviews, negative (0) or positive (1), as sequences of words.

SOURCE: Socher et al. 2013, Recursive Deep Models; the files of GLUE, Wang et al. 2019, arXiv:1804.07461.
"""

import csv
from collections import Counter
from pathlib import Path

import numpy as np

from attriflow.data import PADDING, Raw
from attriflow.hyperparameters import PositiveInt

TRAIN_EXAMPLES = 67349
TEST_EXAMPLES = 872  # the validation file: labels of the official test file are not public

ADDRESSES = ("https://dl.fbaipublicfiles.com/glue/data/SST-2.zip",)
FILES = {
    "train.tsv": "48eac26399f8456935f81dd9e3a745c1430adb6c62e233ccfe22db4a0d15d1d1",
    "dev.tsv": "54a9c12c77e402fc14d6a66a506f24d999f596b0176eb777c972cccc2f9cc4b0",
}

UNKNOWN = 1  # the index of every word outside the vocabulary


def load(folder: Path, *, length: PositiveInt = 64, vocabulary: PositiveInt = 5000) -> Raw:
    """Sequences (N, length) of indices of words, padded at the end, with one label each.

    vocabulary: the so many most frequent words of the training file have an index of their own, from 2; all others
    share one. length: words of an example; what goes beyond is cut off, the longest has 52. Raises ValueError naming
    the line that is none of the official format, and for a vocabulary larger than the words there are.
    """
    (texts, y), (test_texts, test_y) = (read(folder / name) for name in FILES)
    # ASSUME: papers feed SST-2 to a pretrained tokeniser; here words are what spaces divide (the files are divided into
    # words and in lower case already), and the vocabulary is that of the whole training file.
    counts = Counter(word for text in texts for word in text)
    if vocabulary > len(counts):
        raise ValueError(f"sst2: a vocabulary of {vocabulary}: the training file has {len(counts)} words")
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[:vocabulary]
    places = {word: place for place, word in enumerate(frequent, UNKNOWN + 1)}
    x, test_x = (_padded(each, places, length) for each in (texts, test_texts))
    return Raw(x, y, test_x, test_y, classes=2, tokens=vocabulary + UNKNOWN + 1)


def read(path: Path) -> tuple[list[list[str]], np.ndarray]:
    """The words of every example, and labels (N,)."""
    texts, labels = [], []
    with open(path, encoding="utf-8", newline="") as file:
        lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if (header := next(lines, None)) != ["sentence", "label"]:
            raise ValueError(f"{path}: begins with {header}, expected the columns sentence and label")
        for number, row in enumerate(lines, 2):
            if len(row) != 2 or row[1] not in ("0", "1") or not row[0].split():
                raise ValueError(f"{path}, line {number}: expected words, a tab, and 0 or 1: {row}")
            texts.append(row[0].split())
            labels.append(int(row[1]))
    return texts, np.array(labels, np.int64)


def _padded(texts: list[list[str]], places: dict[str, int], length: int) -> np.ndarray:
    x = np.full((len(texts), length), PADDING, np.int64)
    for row, text in zip(x, texts, strict=True):
        words = [places.get(word, UNKNOWN) for word in text[:length]]
        row[: len(words)] = words
    return x
