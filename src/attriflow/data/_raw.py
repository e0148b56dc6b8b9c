"""Raw files: fetched from their official addresses or copied from a mirror, and verified, or not there at all."""

import hashlib
import os
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path

MIRROR = "ATTRIFLOW_DATA_MIRROR"
FOLDER = Path("data/raw")  # relative to the working directory
TIMEOUT_SECONDS = 60


def sums(kind: str, files: dict[str, str | None]) -> dict[str, str | None]:
    """Name -> SHA-256 of each raw file as it lies here, or as it is pinned, if it is, where it does not.

    An altered file so changes the spec of what is made from it, and the job that reads it refuses it by name.
    """
    return {name: sha256(path) if (path := FOLDER / kind / name).exists() else pinned for name, pinned in files.items()}


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
) -> Path:
    """The folder data/raw/<kind> with every file of `files` verified against its pinned sum, if it has one.

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
            if mirror:
                _copy(places[-1] / name, path, pinned)
            else:
                _download(name, path, pinned, addresses)
        elif (found := sha256(path)) != pinned and pinned is not None:
            raise ValueError(
                f"{path} is altered or truncated: SHA-256 {found}, expected {pinned}. "
                f"Delete it to fetch it again, or put the official file there."
            )
    return folder


def _copy(source: Path, path: Path, pinned: str | None):
    if not source.exists():
        raise ValueError(
            f"{source} is missing. Put the official file (SHA-256 {pinned}) there, "
            f"or unset {MIRROR} to fetch it from its official address."
        )
    partial = path.with_name(path.name + ".partial")
    try:
        shutil.copyfile(source, partial)
        if (found := sha256(partial)) != pinned and pinned is not None:
            raise ValueError(
                f"{source} is altered or truncated: SHA-256 {found}, expected {pinned}. "
                f"Put the official file there, or unset {MIRROR} to fetch it from its official address."
            )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _download(name: str, path: Path, pinned: str, addresses: tuple[str, ...]):
    failures = []
    for address in addresses:
        try:
            if address.endswith(".zip"):
                _extract(address, name, path, pinned)
            else:
                _retrieve(address + name, path, f"sha256:{pinned}")
            return
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            # no connection, an HTTP error, another sum, or an archive that is none, lacks the file or hides it
            failures.append(f"{address}{'' if address.endswith('.zip') else name}: {' '.join(str(error).split())}")
    raise ValueError(
        f"{path} could not be fetched (expected SHA-256 {pinned}). Tried: {'; '.join(failures)}. "
        f"Try again later, or set {MIRROR} to a folder that holds {path.parent.name}/{name}."
    )


def _retrieve(url: str, path: Path, known_hash: str | None):
    import pooch

    downloader = pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS, progressbar=False)
    pooch.retrieve(url=url, known_hash=known_hash, fname=path.name, path=path.parent, downloader=downloader)


def _extract(url: str, name: str, path: Path, pinned: str):
    """One member of an archive, whose sum is checked in place of the archive's: archives are packed anew at times."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        archive, partial = Path(folder, "archive.zip"), Path(folder, "member")
        _retrieve(url, archive, None)
        with zipfile.ZipFile(archive) as held:
            inside = [each for each in held.namelist() if each.rpartition("/")[2] == name]  # in any of its folders
            if len(inside) != 1:
                raise ValueError(f"it holds {len(inside)} files '{name}', expected one")
            with held.open(inside[0]) as member, open(partial, "wb") as file:
                shutil.copyfileobj(member, file)  # to a name of ours, whatever the archive calls its members
        if (found := sha256(partial)) != pinned:
            raise ValueError(f"'{name}' in it has SHA-256 {found}")
        partial.replace(path)
