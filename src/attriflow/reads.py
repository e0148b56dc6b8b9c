"""What the user's kinds read: files that they declare and no others, so that whoever edits one gets new results.

A file is declared by a hyperparameter of the annotation `Path`, whose sum enters the job's spec, or in the FILES of a
data set. Seen is what Python opens in the thread that runs the kind, also as a database or a compiled library; what a
library opens by itself, another process, a variable of the environment and a temporary file are not.
"""

import functools
import inspect
import os
import site
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

from attriflow import source
from attriflow.hyperparameters import files, handed

# the functions of a kind that jobs run: what the others read is in the plan, which is made from it
_WATCHED = {
    "data": ("load",),
    "models": ("build",),
    "ground_truth": ("collect",),
    "scores": ("prepare", "score", "spectrum", "powers", "self_influence", "residuals"),
    "evaluation": ("evaluate",),
}
_CODE = {".py", ".pyc", ".pyi", ".so", ".pth"}  # has fingerprints of its own, which jobs compare with at their end
_OPENED = ("open", "sqlite3.connect", "ctypes.dlopen")  # events whose first argument is a file
_SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/lib64", "/run")
_OURS = ("results",)  # members of an ensemble are read one after the other, while a method scores them

_state = threading.local()


class UndeclaredFile(ValueError):
    """A kind reads a file that no spec knows."""


def loaded(room: str, kind: str, load: Callable[[], ModuleType], annotations: dict[str, dict[str, str]]) -> ModuleType:
    """A user's kind as `load` imports it, whose functions may read declared files alone.

    annotations: function -> hyperparameter -> annotation. Paths of hyperparameters arrive as `Path`.
    Raises UndeclaredFile for a file that it reads while it is imported.
    """
    watched = _WATCHED.get(room, ())
    if watched:
        with _reading(room, kind, "its top", ()):
            module = load()
    else:
        module = load()
    for name in {*annotations, *watched}:
        if inspect.isfunction(function := vars(module).get(name)):
            takes = annotations.get(name, {})
            handing = _handing(function, takes)
            setattr(module, name, _watched(room, kind, handing, takes) if name in watched else handing)
    return module


def _handing(function: Callable, annotations: dict[str, str]) -> Callable:
    """A function that gets paths where its annotations say so."""

    @functools.wraps(function)
    def handing(*arguments, **given):
        paths = {name: handed(given[name], each) for name, each in annotations.items() if name in given}
        return function(*arguments, **given | paths)

    return handing


def _watched(room: str, kind: str, function: Callable, annotations: dict[str, str]) -> Callable:
    """A function that may read the files which its hyperparameters name, and a data set those of its FILES."""

    @functools.wraps(function)
    def watched(*arguments, **given):
        declared = [file for name, each in annotations.items() if name in given for file in files(given[name], each)]
        if room == "data" and arguments and arguments[0] is not None:
            declared += [Path(arguments[0], name) for name in inspect.unwrap(function).__globals__.get("FILES", {})]
        with _reading(room, kind, function.__name__, declared):
            found = function(*arguments, **given)
        return _each(found, room, kind, function.__name__, declared) if inspect.isgenerator(found) else found

    return watched


def _each(found: Iterator, room: str, kind: str, function: str, declared: Collection[Path]) -> Iterator:
    """What a generator yields, watched while it runs and not while it waits."""
    while True:
        with _reading(room, kind, function, declared):
            try:
                item = next(found)
            except StopIteration:
                return
        yield item


@contextmanager
def _reading(room: str, kind: str, function: str, named: Collection[Path]) -> Iterator[None]:
    """A block in which a kind runs. Raises UndeclaredFile at its end, too: the kind may have caught the first."""
    _watch()
    outer = getattr(_state, "reader", None)
    declared = {os.path.realpath(file) for file in named} | (outer.declared if outer else set())
    _state.reader = reader = _Reader(room, kind, function, declared)
    try:
        yield
    finally:
        _state.reader = outer
    if reader.refused:
        raise UndeclaredFile(reader.refused)


class _Reader:
    """A function of a kind, the files that it declares, and what was said of the first that it does not."""

    def __init__(self, room: str, kind: str, function: str, declared: set[str]):
        self.room, self.kind, self.function, self.declared = room, kind, function, declared
        self.refused = ""

    def expect(self, path: str, *, imported: bool):
        real = os.path.realpath(path)
        if imported and Path(real).suffix in _CODE:
            source.opened.add(real)
            return
        if real in self.declared or not os.path.isfile(real) or not _is_of_the_user(real):
            return
        if self.room in ("scores", "evaluation") and _within(real, map(os.path.realpath, _OURS)):
            return
        self.refused = self.refused or self._said(path)
        raise UndeclaredFile(self.refused)

    def _said(self, path: str) -> str:
        lists = ", or list it in FILES" if self.room == "data" else ""
        return (
            f"{self.room} '{self.kind}' ({self.function}) reads {path}, which it does not declare, so that an edit of "
            f"the file would rerun nothing; take it as a hyperparameter, `def ...(..., *, file: Path)`, and name it "
            f"in the config{lists}"
        )


@functools.cache
def _watch():
    sys.addaudithook(_opened)


def _opened(event: str, arguments: tuple):
    reader = getattr(_state, "reader", None) if event in _OPENED else None
    if reader is None:
        return
    path, flags = arguments[0], arguments[2] if event == "open" else 0
    if isinstance(path, str | bytes | os.PathLike) and not (flags or 0) & (os.O_WRONLY | os.O_CREAT):
        _state.reader = None  # what is opened to decide is no reading of its
        try:
            reader.expect(_plain(os.fsdecode(path)), imported=event == "open")
        finally:
            _state.reader = reader


def _plain(path: str) -> str:
    """The file that a database's address stands for."""
    return unquote(urlsplit(path).path) if path.startswith("file:") else path


def _is_of_the_user(real: str) -> bool:
    """Whether a file is none of Python's, of a library, of the system, temporary, or in a cache of the home folder."""
    if _within(real, _libraries()):
        return False
    here, home = os.path.realpath(os.curdir), os.path.realpath(os.path.expanduser("~"))
    top = os.path.join(home, os.path.relpath(real, home).split(os.sep)[0])
    if os.path.basename(top).startswith(".") and _within(real, [top]) and not _within(f"{here}/", [top]):
        return False
    return _within(real, [here]) or not _within(real, [*_SYSTEM, os.path.realpath(tempfile.gettempdir())])


@functools.cache
def _libraries() -> tuple[str, ...]:
    """The folders of Python, of installed packages and of this package."""
    folders = [sys.prefix, sys.base_prefix, sys.exec_prefix, *site.getsitepackages(), Path(__file__).parent]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return tuple(os.path.realpath(folder) for folder in folders)


def _within(real: str, folders: Collection[str]) -> bool:
    return any(real.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)
