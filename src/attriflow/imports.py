"""Where a file's imports lead, read off its text: to files, whose code counts, and to installed releases.

What Python would look up is looked up in the same order: packages, then modules, then folders without `__init__.py`,
in the folders of `sys.path` and in those that the file itself puts there. Names that are computed cannot be read; what
such imports run is found out when the job that ran them ends.
"""

import ast
import functools
import os
import sys
from importlib import machinery, metadata
from pathlib import Path

from attriflow.source import installed_here, is_library, tree

_ROOT = Path(__file__).parent.parent
_SUFFIXES = (*machinery.EXTENSION_SUFFIXES, *machinery.SOURCE_SUFFIXES, *machinery.BYTECODE_SUFFIXES)
_AT_START = ("sitecustomize", "usercustomize")  # that Python runs by itself
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}  # of another name than their module: to be looked at first, of hundreds


class Imports:
    """What one file imports, at any depth of it. `package` is its own, for relative imports ("" where it has none)."""

    def __init__(self, path: Path, package: str):
        self.names: set[str] = set()  # dotted, `a.b` of `from a import b` as well
        self.files: set[Path] = set()  # that it runs by their path
        self.folders: set[Path] = set()  # that it puts on sys.path
        self._path, self._package = path, package
        nodes = list(ast.walk(tree(path)))
        self._assigned = _assignments(nodes)
        for node in nodes:
            match node:
                case ast.Import():
                    self.names |= {alias.name for alias in node.names}
                case ast.ImportFrom():
                    self._add_from(node)
                case ast.Call():
                    self._add_call(node)
                case ast.AugAssign(target=target, value=value) if ast.unparse(target) == "sys.path":
                    self.folders |= self._paths(value)

    def _add_from(self, node: ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = self._package.split(".")
            if not self._package or node.level > len(parents):
                raise ImportError(f"{self._path}, line {node.lineno}: relative import of a module that has no package")
            base = ".".join([*parents[: len(parents) - node.level + 1], *base.split(".")]).rstrip(".")
        self.names |= {base} | {f"{base}.{alias.name}" for alias in node.names}

    def _add_call(self, node: ast.Call):
        called, given = ast.unparse(node.func), [*node.args, *(each.value for each in node.keywords)]
        function = called.rpartition(".")[2]
        if function in ("import_module", "__import__") and given and isinstance(given[0], ast.Constant):
            self.names.add(self._absolute(str(given[0].value)))
        elif called in ("sys.path.insert", "sys.path.append", "sys.path.extend", "site.addsitedir", "path.insert"):
            self.folders |= self._paths(given[-1]) if given else set()
        elif function in ("spec_from_file_location", "SourceFileLoader", "run_path"):
            self.files |= {path for each in given for path in self._paths(each) if path.is_file()}

    def _absolute(self, name: str) -> str:
        """A name as `import_module` takes it, with dots before it where it is relative to this file's package."""
        inside = name.lstrip(".")
        parents = self._package.split(".")
        above = parents[: len(parents) - (len(name) - len(inside)) + 1] if inside != name else []
        return ".".join([*above, inside])

    def _paths(self, node: ast.expr) -> set[Path]:
        """The paths that an expression, or each of a list, stands for, where that can be read."""
        if isinstance(node, ast.List | ast.Tuple):
            return set().union(*map(self._paths, node.elts))
        value = self._value(node)
        return {Path(value)} if value else set()

    def _value(self, node: ast.expr) -> str | None:
        """A path that is written with constants, `__file__`, names that stand for one, and the ways to join these."""
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.Name(id="__file__"):
                return str(self._path.resolve())
            case ast.Name(id=name) if name in self._assigned:
                return self._value(self._assigned.get(name))
            case ast.BinOp(left=left, op=ast.Div() | ast.Add(), right=right):
                return self._joined([left, right], os.sep if isinstance(node.op, ast.Div) else "")
            case ast.Attribute(value=inside, attr="parent"):
                return self._changed(inside, os.path.dirname)
            case ast.Subscript(value=ast.Attribute(value=inside, attr="parents"), slice=ast.Constant(value=int(place))):
                return self._changed(inside, lambda text: str(Path(text).parents[place]))
            case ast.Call(func=function, args=arguments):
                return self._called(function, arguments)
        return None

    def _called(self, function: ast.expr, arguments: list[ast.expr]) -> str | None:
        name = ast.unparse(function).rpartition(".")[2]
        if name in ("cwd", "getcwd"):
            return os.getcwd()
        if name == "join" or (name == "Path" and len(arguments) > 1):
            return self._joined(arguments, os.sep)
        if name in ("Path", "PurePath", "str", "fspath", "abspath", "realpath", "normpath") and arguments:
            return self._changed(arguments[0], os.path.abspath)
        if name == "dirname" and arguments:
            return self._changed(arguments[0], os.path.dirname)
        if name == "expanduser":
            return self._changed(arguments[0] if arguments else function.value, os.path.expanduser)
        if name == "with_name" and isinstance(function, ast.Attribute):
            folder = self._changed(function.value, os.path.dirname)
            return folder and self._joined([ast.Constant(folder), *arguments], os.sep)
        if name in ("resolve", "absolute", "as_posix", "joinpath") and isinstance(function, ast.Attribute):
            return self._joined([function.value, *arguments], os.sep)
        return None

    def _changed(self, node: ast.expr, change) -> str | None:
        value = self._value(node)
        return None if value is None else change(value)

    def _joined(self, nodes: list[ast.expr], between: str) -> str | None:
        values = [self._value(node) for node in nodes]
        if None in values:
            return None
        return os.path.join(*values) if between else "".join(values)


def _assignments(nodes: list[ast.AST]) -> dict[str, ast.expr]:
    """Names that are assigned once, and what to."""
    found: dict[str, list[ast.expr]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
    return {name: values[0] for name, values in found.items() if len(values) == 1 and name not in _names_in(values[0])}


def _names_in(node: ast.expr) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


# --- where a name leads --------------------------------------------------------------------------------------


def own(name: str) -> Path:
    """The file of a module of ours, there or not."""
    return dict(modules(_ROOT, name)).get(name, _ROOT.joinpath(*name.split(".")).with_suffix(".py"))


def modules(folder: Path, name: str) -> list[tuple[str, Path]]:
    """The files that importing a dotted name from a folder runs: of its packages and of itself, as far as there are."""
    found, parts = [], name.split(".")
    for depth, part in enumerate(parts, 1):
        if path := _file(folder, part):
            found.append((".".join(parts[:depth]), path))
        folder = folder / part
    return found


def _file(folder: Path, part: str) -> Path | None:
    """The file that Python runs for a module in a folder: none for a folder without `__init__`, beside no module."""
    if part in _entries(folder):
        for suffix in _SUFFIXES:
            if f"__init__{suffix}" in _entries(folder / part):
                return folder / part / f"__init__{suffix}"
    return next((folder / f"{part}{suffix}" for suffix in _SUFFIXES if f"{part}{suffix}" in _entries(folder)), None)


@functools.cache
def _entries(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return frozenset()


def refuse_hiding(scripts: Path):
    """Raise ImportError for a file in a folder that jobs import from, our own or that of scripts, that hides a library.

    Libraries import each other, so it need not be a library that some file here imports.
    """
    for folder, installed in ((scripts.resolve(), False), (_ROOT.resolve(), True)):
        for top in sorted({entry.partition(".")[0] for entry in _entries(folder)} - {"attriflow"}):
            if installed or top in sys.stdlib_module_names:
                holder(top, (folder,))


def holder(top: str, folders: tuple[Path, ...]) -> tuple[list[Path], str | None]:
    """Where a module lies whose code counts, or the release that it is part of; neither where it is Python's own.

    folders: that are looked in besides those of `sys.path`. Raises ImportError where a file hides a library.
    """
    there = [folder for folder in folders if _file(folder, top)]
    own = top in sys.stdlib_module_names or top in _AT_START
    elsewhere = None if own else _elsewhere(top, folders)
    if there and (own or elsewhere or len(there) > 1):
        other = str(there[-1] / top)
        hidden = "a module of Python's own" if own else "an installed library" if elsewhere else other
        raise ImportError(f"{_shown(_file(there[0], top))} has the name of {hidden}, '{top}'; give it another name")
    if own:
        return [], None
    plain = [folder for folder in folders if top in _entries(folder)]  # folders of modules, which may be several
    return (there, None) if there else elsewhere or (plain, None if plain else "missing")


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


@functools.cache
def _elsewhere(top: str, folders: tuple[Path, ...]) -> tuple[list[Path], str | None] | None:
    """The same for what the rest of `sys.path` and finders of editable packages lead to; None where there is none."""
    spec = next(filter(None, (_found(finder, top, folders) for finder in sys.meta_path)), None)
    if spec is None:
        return None
    if not spec.has_location and not spec.submodule_search_locations:
        return [], None  # built in
    places = [Path(each).parent for each in spec.submodule_search_locations or [spec.origin]]
    if not all(is_library(f"{place}/") for place in places):
        return places, None
    owners = _owners(top)
    if owners and not any(map(_is_local, owners)):
        return [], ", ".join(sorted({each.version.split("+")[0] for each in owners}))  # +cpu and +cu130: one release
    installed_here.update(str(path) for place in places for path in _sources(place, top))
    return places, None


def _found(finder, top: str, folders: tuple[Path, ...]) -> machinery.ModuleSpec | None:
    if finder is not machinery.PathFinder:
        return finder.find_spec(top, None)
    return finder.find_spec(top, [entry for entry in _absolute(tuple(sys.path)) if Path(entry) not in folders])


@functools.cache
def _absolute(entries: tuple[str, ...]) -> list[str]:
    """Entries of `sys.path` without the working directory, from which no job imports."""
    here = Path.cwd().resolve()
    return [str(path) for entry in entries if entry and (path := Path(entry).resolve()) != here]


def _sources(folder: Path, top: str) -> list[Path]:
    package = folder / top
    return list(package.rglob("*.py")) if package.is_dir() else [package.with_suffix(".py")]


@functools.cache
def _owners(top: str) -> list[metadata.Distribution]:
    """The installed distributions that hold a module: several share some folders without `__init__`."""
    for name in (_DISTRIBUTIONS.get(top, top), top.replace("_", "-")):
        try:
            likely = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if _holds(likely, top):
            return [likely]
    return [each for each in metadata.distributions() if _holds(each, top)]


def _holds(distribution: metadata.Distribution, top: str) -> bool:
    listed = distribution.read_text("RECORD") or ""
    if listed:
        starts = (f"{top}/", f"{top}.py,", f"{top}.")
        return any(listed.startswith(start) or f"\n{start}" in listed for start in starts)
    return top in (distribution.read_text("top_level.txt") or "").split()


def _is_local(distribution: metadata.Distribution) -> bool:
    """Whether it came from a folder, a file or a repository, so that other code may have the same version."""
    came_from = distribution.read_text("direct_url.json")
    if not came_from or (distribution.read_text("INSTALLER") or "").strip() == "conda":
        return False  # from an index; conda's packages name the folder that they were built in
    return '"dir_info"' in came_from or '"vcs_info"' in came_from or '"file:' in came_from
