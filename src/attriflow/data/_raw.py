"""Raw files: fetched from their official addresses or copied from a mirror, and verified, or not there at all."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from attriflow.io import replacing

MIRROR = "ATTRIFLOW_DATA_MIRROR"
FOLDER = Path("data/raw")  # relative to the working directory
TIMEOUT_SECONDS = 60  # without a byte from a server
SLOWEST = 1000  # bytes a second that must have come by then, and from then on


def sums(kind: str, files: dict[str, str | None], seen: dict[str, str | None] | None = None) -> dict[str, str | None]:
    """Name -> SHA-256 of each raw file as it lies here, or as it is pinned, if it is, where it does not.

    One that is not pinned is the mirror's, where that has it, so that the sum is known before the first copy is made;
    where it lies nowhere, such as in a clone with fetched results, it is the one that these were made from: `seen`.
    An altered file so changes the spec of what is made from it, and the job that reads it refuses it by name.
    """
    return {name: _sum(kind, name, pinned, (seen or {}).get(name)) for name, pinned in files.items()}


def _sum(kind: str, name: str, pinned: str | None, seen: str | None) -> str | None:
    here, mirror = FOLDER / kind / name, os.environ.get(MIRROR)
    places = [here] if pinned or not mirror else [Path(mirror) / kind / name, here]
    return next((sha256(path) for path in places if path.exists()), pinned or seen)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(
    kind: str,
    files: dict[str, str | None],
    addresses: tuple[str, ...],
    *,
    either: bool = False,
    ask: str | None = None,
    planned: dict[str, str | None] | None = None,
) -> Path:
    """The folder data/raw/<kind> with every file of `files` verified against its pinned sum, or the planned one.

    planned: name -> sum that a plan had of files whose sum is not pinned (`sums`), where there is a plan.
    addresses: folders, which end in /, and zip archives that hold the files, tried in turn. either: one of the files
    is enough: the first that lies there or in the mirror, the last where none does. ask: who gives out files that
    nobody may fetch.
    Raises ValueError naming file, expected and found sum, and the remedies. Nothing partial is left behind.
    """
    folder, mirror = FOLDER / kind, os.environ.get(MIRROR)
    folder.mkdir(parents=True, exist_ok=True)
    places = [folder, *([Path(mirror) / kind] if mirror else [])]
    if either:
        there = (name for place in places for name in files if (place / name).exists())
        chosen = next(there, list(files)[-1])
        files = {chosen: files[chosen]}
    for name, pinned in files.items():
        path = folder / name
        if ask and not any((place / name).exists() for place in places):
            raise ValueError(
                f"{path} is missing, and nobody may fetch it for you: {ask}. Then put it there, or set {MIRROR} to a "
                f"folder that holds {kind}/{name}."
            )
        if not path.exists():
            with _alone(folder):
                if path.exists():  # by now
                    pass
                elif mirror:
                    _copy(places[-1] / name, path, pinned)
                else:
                    _download(name, path, pinned, addresses)
        elif (found := sha256(path)) != pinned and pinned is not None:
            raise ValueError(
                f"{path} is altered or truncated: SHA-256 {found}, expected {pinned}. "
                f"Delete it to fetch it again, or put the official file there."
            )
        if planned and pinned is None and (found := sha256(path)) != planned[name]:
            raise ValueError(
                f"{path} is not the file that this job was planned with (SHA-256 {found}, planned {planned[name]}): it "
                f"changed since, or {MIRROR} holds another. Delete the one that is wrong and run again."
            )
    return folder


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else fetches into the folder meanwhile; what was left there by who was killed at it is removed."""
    locked = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without such locks: then two may fetch the same, each whole
            fcntl.flock(locked, fcntl.LOCK_EX)
            for left in folder.glob(".*.partial"):
                left.unlink()
        yield
    finally:
        os.close(locked)


def _copy(source: Path, path: Path, pinned: str | None):
    if not source.exists():
        raise ValueError(
            f"{source} is missing. Put the official file (SHA-256 {pinned}) there, "
            f"or unset {MIRROR} to fetch it from its official address."
        )
    with replacing(path) as partial:
        shutil.copyfile(source, partial)
        if (found := sha256(partial)) != pinned and pinned is not None:
            raise ValueError(
                f"{source} is altered or truncated: SHA-256 {found}, expected {pinned}. "
                f"Put the official file there, or unset {MIRROR} to fetch it from its official address."
            )


def _download(name: str, path: Path, pinned: str, addresses: tuple[str, ...]):
    import requests
    import urllib3

    failures = []
    for address in addresses:
        url = address if address.endswith(".zip") else address + name
        try:
            with replacing(path) as partial:
                with open(partial, "wb") as file:
                    _extract(url, name, file) if address.endswith(".zip") else _retrieve(url, file)
                if (found := sha256(partial)) != pinned:
                    raise ValueError(
                        f"{'a web page' if _is_page(partial) else 'a file'} with SHA-256 {found} came from there"
                    )
            return
        except (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            RuntimeError,
            ValueError,
        ) as error:
            # no connection, too slow a one, an HTTP error, another file, or an archive that is none, lacks the file or
            # hides it
            failures.append(f"{url}: {' '.join(str(error).split()).rstrip('.')}")
    raise ValueError(
        f"{path} could not be fetched (expected SHA-256 {pinned}). Tried: {'; '.join(failures)}. "
        f"Try again later, or set {MIRROR} to a folder that holds {path.parent.name}/{name}."
    )


def _retrieve(url: str, file: IO[bytes]):
    """Write what an address gives out to a file. Raises ValueError where it comes too slowly to be waited for."""
    import requests

    started, count = time.monotonic(), 0
    with requests.get(url, stream=True, timeout=TIMEOUT_SECONDS) as response:
        response.raise_for_status()
        while chunk := response.raw.read1(2**20, decode_content=True):  # what is there, without waiting for more
            file.write(chunk)
            count, taken = count + len(chunk), time.monotonic() - started
            if taken > TIMEOUT_SECONDS and count < SLOWEST * taken:
                raise ValueError(f"{count} bytes came in {taken:.0f} seconds, expected {SLOWEST} a second")


def _is_page(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(512).lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _extract(url: str, name: str, file: IO[bytes]):
    """One member of an archive, whose sum is checked in place of the archive's: archives are packed anew at times."""
    with tempfile.TemporaryFile(dir=FOLDER) as archive:
        _retrieve(url, archive)
        with zipfile.ZipFile(archive) as held:
            inside = [each for each in held.namelist() if each.rpartition("/")[2] == name]  # in any of its folders
            if len(inside) != 1:
                raise ValueError(f"it holds {len(inside)} files '{name}', expected one")
            with held.open(inside[0]) as member:
                shutil.copyfileobj(member, file)  # to a name of ours, whatever the archive calls its members
