"""MNIST handwritten digits, 28 × 28 pixels: the four official idx files.

SOURCE: Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits.
"""

import gzip
import struct
from pathlib import Path

import numpy as np

from attriflow.data import Raw

TRAIN_EXAMPLES = 60000
TEST_EXAMPLES = 10000

ADDRESSES = ("http://yann.lecun.com/exdb/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/")
FILES = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


def load(folder: Path) -> Raw:
    """60,000 training and 10,000 test images (N, 1, 28, 28) of 0 to 1, and their labels."""
    x, y, test_x, test_y = (read_idx(folder / name) for name in FILES)
    return Raw(_images(x), y.astype(np.int64), _images(test_x), test_y.astype(np.int64))


def read_idx(path: Path) -> np.ndarray:
    """A gzipped idx file of unsigned bytes, in the shape that its header states.

    Raises ValueError if the header is another or the content is shorter or longer than it says.
    """
    content = gzip.decompress(path.read_bytes())
    zeros, kind, dimensions = struct.unpack(">HBB", content[:4])
    if zeros != 0 or kind != 0x08:
        raise ValueError(f"{path}: starts with {content[:4].hex()}, expected 000008.. (idx of unsigned bytes)")
    shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    if values.size != np.prod(shape):
        raise ValueError(f"{path}: holds {values.size} values, its header says {shape}")
    return values.reshape(shape)


def _images(pixels: np.ndarray) -> np.ndarray:
    return (pixels[:, None] / np.float32(255)).astype(np.float32)
