"""Fingerprints of code: what a job's own files and every module that they import say.

Docstrings, comments and layout do not count, so improving a sentence reruns nothing. Modules of ours count, and so does
whatever the user's own files import that is no installed release; of libraries the release counts.
"""

import ast
import hashlib
import sys
from functools import cache
from pathlib import Path

from attriflow import imports, source
from attriflow.registry import PLUGINS
from attriflow.source import real, tree

# What only reads clocks, writes logs, forks, estimates memory, or refuses to go on cannot change a number. Nor can
# libraries that draw bars, limit threads, or fetch files whose sums are checked.
WITHOUT_NUMBERS = frozenset(
    f"attriflow.{name}" for name in ("running", "fingerprint", "imports", "provenance", "memory", "progress", "warm")
)
_LIBRARIES_WITHOUT_NUMBERS = frozenset({"tqdm", "threadpoolctl", "requests", "urllib3"})
_OURS = Path(__file__).parent.parent


class _Walk:
    """Every module that some files run, and every release that they import."""

    def __init__(self, plugins: Path | None, skipped: frozenset[str]):
        self._skipped = skipped
        self.modules: dict[str, Path] = {}
        self.releases: dict[str, str] = {}
        self._plugins = plugins
        self._folders: list[Path] = [_OURS.resolve()]
        self._waiting: list[tuple[str, Path]] = []
        self._later: set[str] = set()  # imported, but in none of the folders known so far

    def run(self, files: tuple[Path, ...]):
        self._folders += [path.parent.resolve() for path in files[:1] if not path.is_relative_to(_OURS)]  # a script's
        self._waiting += [(_name(path), path) for path in files]
        for path in files:  # a kind of ours runs the packages that it is in
            self._waiting += self._ours(_name(path)) if path.is_relative_to(_OURS) else []
        self._follow()
        while self._later:  # folders that one file puts on the path are there for all
            later, self._later = sorted(self._later), set()
            for name in later:
                self._add(name)
            self._follow()

    def _follow(self):
        while self._waiting:
            name, path = self._waiting.pop()
            if name in self._skipped:
                continue
            if name in self.modules:
                if real(str(path)) != real(str(self.modules[name])):
                    raise ImportError(f"{path} and {self.modules[name]} are both the module '{name}'; rename one")
                continue
            self.modules[name] = path
            if path.suffix != ".py":
                continue
            found = _imports(path, self._package(name, path))
            self._folders += [each.resolve() for each in sorted(found.folders) if each.resolve() not in self._folders]
            self._waiting += [(_name(each), each) for each in found.files]
            for each in found.names:
                if each.startswith(("attriflow.", f"{PLUGINS}.")) or each == "attriflow":
                    self._waiting += self._ours(each)
                else:
                    self._later.add(each)

    def _package(self, name: str, path: Path) -> str:
        """What a file's relative imports are relative to."""
        if self._plugins and path.parent.parent.resolve() == self._plugins.resolve():
            return f"{PLUGINS}.{path.parent.name}"
        return name if path.stem == "__init__" else name.rpartition(".")[0]

    def _ours(self, name: str) -> list[tuple[str, Path]]:
        if name.startswith("attriflow") and not name.startswith(PLUGINS):
            return _modules(_OURS, name)
        inside = name.partition(".")[2]
        found = _modules(self._plugins, inside) if self._plugins else []
        return [(f"{PLUGINS}.{each}", path) for each, path in found]

    def _add(self, name: str):
        top = name.partition(".")[0]
        places, release = imports.holder(top, tuple(self._folders))
        for place in places:
            self._waiting += _modules(place, name)
        if release is not None and top not in _LIBRARIES_WITHOUT_NUMBERS:
            self.releases[top] = release


@cache
def _walk(files: tuple[Path, ...], plugins: Path | None, skipped: frozenset[str] = WITHOUT_NUMBERS) -> _Walk:
    walk = _Walk(plugins, skipped)
    walk.run(files)
    return walk


_modules = cache(imports.modules)
_imports = cache(imports.Imports)


@cache
def fingerprint(*files: Path, plugins: Path | None = None) -> dict[str, dict[str, str]]:
    """What these files run: `code`, module -> digest, and `software`, library -> installed release.

    files: a script, and kinds; plugins: the folder of kinds that are the user's. Not to be written to: jobs share it.
    Raises ImportError for what cannot be told: a file that hides a library, or two of one name.
    """
    walk = _walk(files, plugins)
    return {
        "code": {name: digest(walk.modules[name]) for name in sorted(walk.modules)},
        "software": dict(sorted(walk.releases.items())),
    }


def refuse_changed(spec: dict, *files: Path, plugins: Path | None = None):
    """Raise RuntimeError unless these files are what the spec was planned with, and so are the libraries."""
    now = fingerprint(*files, plugins=plugins)
    if lost := [name for name in sorted(spec["code"]) if now["software"].get(name.partition(".")[0]) == "missing"]:
        raise RuntimeError(
            f"{lost[0]} was there when this job was planned and is not for the job, which takes no PYTHONPATH but the "
            "project's: install it, or put its folder on sys.path in the file that imports it, and run again"
        )
    if changed := _differing(spec["code"], now["code"]):
        raise RuntimeError(f"the code of {_first(changed)} changed since this job was planned; run again")
    if changed := _differing(spec["software"], now["software"]):
        planned, here = (_releases(each["software"], changed) for each in (spec, now))
        raise RuntimeError(
            f"planned with {planned}, but this job runs with {here}: another environment or PYTHONPATH; "
            "use one for both and run again"
        )


def refuse_others(*files: Path, plugins: Path | None = None):
    """Raise RuntimeError where this process ran code, besides that of libraries, that is not in the fingerprint."""
    walk = _walk(files, plugins)
    known = {real(str(path)) for path in walk.modules.values()}
    ran = source.compiled.keys() | {path for path in source.opened if _counts(path)}
    ran |= {real(path) for path in map(_file_of, list(sys.modules.values())) if path}
    unknown = ran - known - {real(str(imports.own(name))) for name in WITHOUT_NUMBERS}
    if unknown := sorted(unknown and unknown - _without_numbers()):
        raise RuntimeError(
            f"{unknown[0]} ran, but is in no fingerprint, so an edit of it would go unseen: import it by a name that "
            "is written out, beside the file that needs it (`from . import _name`) or from a folder of sys.path"
        )
    changed = [path for path, digested in source.parsed.items() if source.compiled.get(path, digested) != digested]
    if changed := sorted(known.intersection(changed)):
        raise RuntimeError(f"{changed[0]} changed while this job was starting; run again")


def _file_of(module) -> str | None:
    """The file of a module that is no library's, such as one without source, or one imported before any of ours."""
    path = getattr(module, "__file__", None)
    imported = isinstance(path, str) and Path(path).is_absolute()  # what libraries make up has other names
    return path if imported and not source.is_library(path) else None


def _counts(path: str) -> bool:
    """Whether a file of code that was opened is a source of the user's, whose text may have been run."""
    return path.endswith(".py") and not source.is_library(path)


@cache
def _without_numbers() -> set[str]:
    """The files that do not count, and what they import."""
    walk = _walk(tuple(map(imports.own, sorted(WITHOUT_NUMBERS))), None, frozenset())
    return {real(str(path)) for path in walk.modules.values()}


def _differing(planned: dict[str, str], now: dict[str, str]) -> list[str]:
    return sorted(name for name in planned.keys() | now.keys() if planned.get(name) != now.get(name))


def _first(names: list[str]) -> str:
    """Some of many names: a whole library may have changed."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _releases(software: dict[str, str], names: list[str]) -> str:
    return ", ".join(f"{name} {software.get(name, 'missing')}" for name in names)


@cache
def digest(path: Path) -> str:
    """Twelve hexadecimal digits of what the file does."""
    try:
        said = _canonical(tree(path)).encode() if path.suffix == ".py" else path.read_bytes()
    except FileNotFoundError:
        return "missing"
    return hashlib.sha256(said).hexdigest()[:12]


def _name(path: Path) -> str:
    if path.is_relative_to(_OURS / "attriflow"):
        parts = path.relative_to(_OURS).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return f"{path.parent.name}/{path.name}"  # a script or a plugin: no path of a machine


def _canonical(node) -> str:
    """The syntax tree as text, without docstrings and empty fields: the same for every Python that reads the file."""
    if isinstance(node, ast.AST):
        inside = ",".join(f"{name}={_canonical(value)}" for name, value in _fields(node) if value not in (None, []))
        return f"{type(node).__name__}({inside})"
    if isinstance(node, list):
        return "[" + ",".join(map(_canonical, node)) + "]"
    return repr(node)


def _fields(node: ast.AST):
    for name, value in ast.iter_fields(node):
        is_body = name == "body" and isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module
        )
        yield name, value[1:] if is_body and _is_text(value) else value


def _is_text(body: list) -> bool:
    first = body[0] if body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
