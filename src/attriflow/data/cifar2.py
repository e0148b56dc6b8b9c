"""CIFAR-2: the cats and dogs of CIFAR-10, 32 × 32 pixels in three colours.

Read from the official archive, or from a file with these two classes alone, `cat_dog.npz.xz`, where a mirror has one:
x uint8 (N, 3, 32, 32), y (3 cat, 5 dog), is_test, in the official order. Both give the same arrays, whose sum is
pinned.

SOURCE: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

import hashlib
import io
import lzma
import pickle
import tarfile
from pathlib import Path

import numpy as np

from attriflow.data import Raw

TRAIN_EXAMPLES = 10000
TEST_EXAMPLES = 2000

FOLDER = "cifar10"
ADDRESSES = ("https://www.cs.toronto.edu/~kriz/",)
EITHER = True
FILES = {
    "cat_dog.npz.xz": "155601c1048f9c01a87cc51852fa513f30324f5b7719c4940e5ac2947ef50622",
    # SOURCE: the sum that Keras pins (keras/datasets/cifar10.py)
    "cifar-10-python.tar.gz": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
}
SHA256 = "7db05dfdfc375afc7b8aa91dc0da2d1e2da3e6e2ea346594abc32c958ed540df"  # of the arrays of both

CAT, DOG = 3, 5
BATCHES = {False: [f"data_batch_{number}" for number in range(1, 6)], True: ["test_batch"]}
_ARRAYS = {  # all that a pickled array of bytes names; numpy 1 and 2
    ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def load(folder: Path) -> Raw:
    """10,000 training and 2,000 test images (N, 3, 32, 32) of 0 to 1; label 0 is a cat, 1 a dog.

    Raises ValueError naming the file if its images or labels are not the official ones, or if it holds anything but
    arrays and plain values.
    """
    compact, official = (folder / name for name in FILES)
    path, read = (compact, read_compact) if compact.exists() else (official, read_official)
    x, y, test_x, test_y = arrays = read(path)
    if (found := hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()) != SHA256:
        raise ValueError(f"{path}: its cats and dogs have SHA-256 {found}, expected {SHA256}")
    return Raw(_images(x), (y == DOG).astype(np.int64), _images(test_x), (test_y == DOG).astype(np.int64))


Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def read_compact(path: Path) -> Arrays:
    """Images and labels of training, then of test, uint8, from a file of these two classes."""
    with np.load(io.BytesIO(lzma.decompress(path.read_bytes())), allow_pickle=False) as held:
        x, y, is_test = held["x"], held["y"], held["is_test"].astype(bool)
    return x[~is_test], y[~is_test], x[is_test], y[is_test]


def read_official(path: Path) -> Arrays:
    """Images and labels of training, then of test, uint8, from the official archive, in its order.

    Members are read in memory: nothing is extracted. Their pickles may name arrays and nothing else.
    """
    found = []
    with tarfile.open(path) as archive:
        for names in BATCHES.values():
            batches = [_batch(path, archive, name) for name in names]
            x = np.concatenate([np.asarray(batch[b"data"], np.uint8) for batch in batches]).reshape(-1, 3, 32, 32)
            y = np.concatenate([np.array(batch[b"labels"], np.uint8) for batch in batches])
            chosen = np.isin(y, (CAT, DOG))
            found += [x[chosen], y[chosen]]
    return tuple(found)


class _Unpickler(pickle.Unpickler):
    """Reads arrays and plain values, and calls nothing else."""

    def find_class(self, module: str, name: str):
        if (module, name) not in _ARRAYS:
            raise pickle.UnpicklingError(f"names {module}.{name}")
        return _ARRAYS[module, name]


def _batch(path: Path, archive: tarfile.TarFile, name: str) -> dict:
    try:
        member = archive.getmember(f"cifar-10-batches-py/{name}")
        if not member.isreg():  # neither a link, which may lead anywhere, nor a device
            raise ValueError("it is no file")
        return _Unpickler(io.BytesIO(archive.extractfile(member).read()), encoding="bytes").load()
    except (KeyError, ValueError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{path}: '{name}' is missing, damaged or holds more than arrays ({error})") from error


def _images(pixels: np.ndarray) -> np.ndarray:
    return (pixels / np.float32(255)).astype(np.float32)
