"""Where results lie: in this folder, unless a workflow keeps them in a store."""

import errno
import os
from pathlib import Path


class Results:
    """Result files in this folder; a class for a store looks there.

    Both raise FileNotFoundError for what is not there.
    """

    def size(self, path: str) -> int:
        """Bytes of a file."""
        return os.stat(path).st_size

    def time(self, path: str) -> float:
        """When a file came there (seconds since 1970)."""
        return os.stat(path).st_mtime

    def fetch(self, path: str) -> Path:
        """A file as it is now, to be read."""
        return Path(path)

    def missing(self, path: str) -> FileNotFoundError:
        """The error for a file that is not there, or not what it should be, as the workflow knows it."""
        return FileNotFoundError(errno.ENOENT, "not made yet", path)


HERE = Results()
