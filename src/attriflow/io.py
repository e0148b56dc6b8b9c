"""Files: written whole or not at all, read without running code, checked where they enter."""

import contextlib
import errno
import glob
import io
import json
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it becomes `path` when the block ends well, and is gone otherwise.

    Raises OSError naming the file, and the remedy, where the disk is full or nobody may write there.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = f"{_free(path.parent) / 2**20:.0f} MiB free"
            reason = f"no space left to write {path} ({free}); free some and run again"
            raise OSError(error.errno, reason) from error
        ours = error.filename is None or Path(error.filename) in (partial, *path.parents)
        if ours and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            reason = f"{path} cannot be written ({os.strerror(error.errno)}); make its folder writable and run again"
            raise OSError(error.errno, reason) from error
        raise


def expect_space(folder: Path):
    """Raise OSError naming the folder where next to nothing can be written: tools would not say what is full."""
    if os.access(folder, os.W_OK) and _free(folder) < 2**20:
        reason = f"no space left in {folder.resolve()}: less than 1 MiB is free; free some and run again"
        raise OSError(errno.ENOSPC, reason)


def expect_folder(folder: Path):
    """Raise OSError naming what lies there in place of a folder."""
    if folder.exists() and not folder.is_dir():
        raise OSError(errno.ENOTDIR, f"{folder} is a file and must be a folder; move it away and run again")


def expect_writable(folder: Path):
    """Raise OSError naming the folder, or the one in it, where nobody may write."""
    for each in (folder, *(each for each in folder.glob("*") if each.is_dir())):
        if each.exists() and not os.access(each, os.W_OK):
            raise OSError(errno.EROFS, f"{each} cannot be written; make it writable and run again")


def _free(folder: Path) -> int:
    """Bytes."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def remove_partial(path: Path):
    """Remove what was left of a file, under temporary names, by those that were killed while they wrote it."""
    for left in Path(path).parent.glob(f".{glob.escape(Path(path).name)}.*.partial"):
        left.unlink(missing_ok=True)


def save_json(path: Path, content):
    """Write readable JSON."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def load_json(path: Path):
    """Read JSON."""
    return json.loads(Path(path).read_text())


def save_arrays(path: Path, arrays: dict[str, np.ndarray] | Iterable[tuple[str, np.ndarray]]):
    """Write named arrays, uncompressed, one after the other: a generator needs memory for one at a time."""
    pairs = arrays.items() if isinstance(arrays, dict) else arrays
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name, array in pairs:
            # a fixed date: equal arrays make equal files
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Named arrays, mapped from the file: only what is used is read.

    Raises ValueError naming the file if it is not a whole archive of plain arrays. A header is believed as far as the
    file reaches: no memory is taken for more.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {info.filename.removesuffix(".npy"): _map(path, archive, info) for info in archive.infolist()}
    except _NO_ARCHIVE as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is truncated or not an archive of arrays ({reason}); make it anew") from error


# what zipfile and numpy raise of damaged bytes: sums, lengths, encryption, unknown compression, headers of no Python
_NO_ARCHIVE = (
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, SyntaxError, EOFError, OSError, RuntimeError,
    ValueError, TypeError,
)  # fmt: skip


def _map(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"'{info.filename}' is compressed; expected arrays as save_arrays writes them")
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(member)
        header = member.tell()
    if dtype.hasobject:
        raise ValueError(f"'{info.filename}' holds Python objects; expected plain arrays")
    if min(shape, default=0) < 0 or header + math.prod(shape) * dtype.itemsize != info.file_size:
        raise ValueError(f"'{info.filename}' is {info.file_size - header} bytes, not {shape} of {dtype}")
    if 0 in shape or shape == ():
        with archive.open(info) as member:
            return np.lib.format.read_array(member, allow_pickle=False)
    local = 30  # bytes of a local file header before the lengths of name and extra field (PKWARE APPNOTE 4.3.7)
    with open(path, "rb") as file:
        file.seek(info.header_offset + 26)
        name, extra = np.frombuffer(file.read(4), "<u2")
    offset = info.header_offset + local + int(name) + int(extra) + header
    if offset + math.prod(shape) * dtype.itemsize > os.path.getsize(path):
        raise ValueError(f"it ends within '{info.filename}'")
    # "c": writes stay in memory, so torch may share it; the file never changes
    return np.memmap(path, dtype, "c", offset, shape, "F" if fortran else "C")


def save_table(path: Path, table):
    """Write a data frame as CSV, numbers with 6 significant digits."""
    with replacing(path) as partial:
        table.to_csv(partial, index=False, float_format="%.6g")


def expect_shape(name: str, array: np.ndarray, shape: tuple[int, ...], axes: str):
    """Raise ValueError unless the array has this shape."""
    if tuple(array.shape) != tuple(shape):
        raise ValueError(f"{name} have shape {tuple(array.shape)}, expected {tuple(shape)}: {axes}")


def expect_finite(name: str, array: np.ndarray):
    """Raise ValueError with the first index that is not finite."""
    finite = np.isfinite(array)
    if not finite.all():
        index = tuple(int(each) for each in np.argwhere(~finite)[0])
        raise ValueError(f"{name} are not finite at index {index}: {array[index]}")


def save_weights(path: Path, content: dict):
    """Write state dicts and plain values by torch.save."""
    import torch

    buffer = io.BytesIO()  # a file would put its temporary name into the archive
    torch.save(content, buffer)
    with replacing(path) as partial:
        partial.write_bytes(buffer.getbuffer())


def load_weights(path: Path) -> dict:
    """Read what save_weights wrote. No code in the file is run.

    Raises ValueError naming the file if it is damaged or holds anything but tensors and plain values.
    """
    content = read_weights(path, "make it anew")
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not weights by name; make it anew")
    return content


def read_weights(path: Path, remedy: str):
    """What torch.save wrote, on the processor. No code in the file is run.

    Raises ValueError naming the file and the remedy if it is damaged or holds anything but tensors and plain values.
    """
    import pickle

    import torch

    try:
        _refuse_compressed(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, *_NO_PICKLE) as error:
        said = " ".join(str(error).split("\n\n")[0].split()).rpartition("WeightsUnpickler error: ")[2]
        reason = said.partition(". Please use")[0] or "it ends too early"  # please do not: it would run the code
        raise ValueError(
            f"{path} is damaged, or holds code or objects that are not loaded ({reason}); {remedy}"
        ) from error


def _refuse_compressed(path: Path):
    """A few compressed megabytes may become more than there is of memory; torch.save compresses nothing."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if compressed := [each.filename for each in archive.infolist() if each.compress_type != zipfile.ZIP_STORED]:
                raise ValueError(f"'{compressed[0]}' in it is compressed")


# what torch's reader of pickles trips over in damaged bytes
_NO_PICKLE = (
    ValueError, LookupError, TypeError, AttributeError, OverflowError, AssertionError, MemoryError, struct.error,
)  # fmt: skip
