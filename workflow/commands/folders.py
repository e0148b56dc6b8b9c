"""Folders that a run writes to: its own in the project, and where tools keep their caches."""

import os
from pathlib import Path

from attriflow.registry import ROOMS

_OWN = ("data", "results", "specs", "logs", *(f"results/{room}" for room in ROOMS))


def expect_folders():
    """Raise OSError with the remedy where something else lies under the name of a folder that a run writes to."""
    for path in map(Path, _OWN):
        if path.is_dir():
            continue
        if path.is_symlink():
            raise NotADirectoryError(f"{path} is a link to {os.readlink(path)}, where no folder is; remove the link")
        if path.exists():
            raise NotADirectoryError(f"{path} is a file, and a run writes to a folder of that name; move the file away")


def usable_caches() -> dict[str, str]:
    """What the environment must hold for Snakemake, DVC and matplotlib to keep caches where they can write.

    Nothing where the home folder can be written; else places in .snakemake of the project. What the tools read there
    (credentials, say) stays where it is.
    """
    home, caches = Path("~").expanduser(), Path(".snakemake/caches").absolute()
    places = {
        "XDG_CACHE_HOME": (home / ".cache", caches),
        "MPLCONFIGDIR": (home / ".config", caches / "matplotlib"),
        "XDG_CONFIG_HOME": (home, caches / "settings"),
    }
    if home.is_dir():
        del places["XDG_CONFIG_HOME"]  # what cannot be written can be read
    return {
        name: str(instead)
        for name, (usual, instead) in places.items()
        if not _writable(Path(os.environ.get(name) or usual))
    }


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
