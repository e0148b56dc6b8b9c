"""Source files: read once, parsed, and run as they are, never from bytecode that Python kept of them.

Python takes kept bytecode for that of a source file wherever time and size of the file are still the same. Copies that
keep times, archives and images with one time for all files leave another source behind at the same time and size.
"""

import ast
import functools
import hashlib
import site
import sys
import sysconfig
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

compiled: dict[str, str] = {}  # file -> SHA-256 of what this process compiled of it when it was imported
parsed: dict[str, str] = {}  # file -> SHA-256 of what `tree` read of it
opened: set[str] = set()  # files of code that a kind of the user's opened: to import them, or to run what they say
installed_here: set[str] = set()  # files in folders of libraries that are no release, so compiled as well
_kept = SourceFileLoader.get_code


def compile_anew():
    """From here on this process compiles what it imports, by whatever way, except for installed libraries."""
    SourceFileLoader.get_code = _get_code


def _get_code(self: SourceFileLoader, name: str) -> CodeType:
    path = self.get_filename(name)
    if is_library(path) and path not in installed_here:
        return _kept(self, name)
    content = self.get_data(path)
    compiled[real(path)] = hashlib.sha256(content).hexdigest()
    return self.source_to_code(content, path)


def refuse_kept(*modules: ModuleType):
    """Raise RuntimeError for a module that was imported before `compile_anew` and ran old bytecode."""
    for module in modules:
        path, loader = module.__file__, module.__spec__.loader
        if _kept(loader, module.__name__) != loader.source_to_code(loader.get_data(path), path):
            raise RuntimeError(f"Python runs old bytecode of {path}; delete {module.__cached__} and run again")


@functools.cache
def real(path: str) -> str:
    """A file's absolute path, through links."""
    return str(Path(path).resolve())


def is_library(path: str) -> bool:
    """Whether a file is Python's own or lies where packages are installed, and is none of ours."""
    return path.startswith(_libraries()) and not path.startswith(_OURS)


_OURS = str(Path(__file__).parent) + "/"


@functools.cache
def _libraries() -> tuple[str, ...]:
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders |= {*site.getsitepackages(), site.getusersitepackages()}
    folders |= {
        entry for entry in sys.path if entry.endswith(("lib-dynload", "site-packages", "dist-packages", ".zip"))
    }
    return tuple(f"{each}/" for folder in folders if folder for each in {folder, real(folder)})


@functools.cache
def tree(path: Path) -> ast.Module:
    """The parsed file. Raises ValueError naming it where it is no file, or no Python."""
    try:
        content = path.read_bytes()
        parsed[real(str(path))] = hashlib.sha256(content).hexdigest()
        return ast.parse(content.decode("utf-8-sig"), filename=str(path))
    except SyntaxError as error:
        raise ValueError(f"{path}, line {error.lineno}: no Python ({error.msg})") from error
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{path}: no file of Python ({error})") from error
