"""The folder is the registry: a kind of a room is a file in its folder, named by the word one writes in the config.

Names and hyperparameters are read off the files as text, so the config is checked without importing torch.
"""

import ast
import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from attriflow import hyperparameters, reads
from attriflow.source import tree

ROOMS = ("data", "models", "ground_truth", "ensembles", "scores", "evaluation", "figures")

# the functions that every kind of a room has
CONTRACTS = {
    "data": ("load",),
    "models": ("build",),
    "ground_truth": ("runs", "collect"),
    "ensembles": ("members",),
    "scores": ("prepare", "score"),
    "evaluation": ("evaluate",),
    "figures": ("draw",),
}
_TAKING = {"load", "build", "runs", "training", "members", "prepare", "score"}  # whose hyperparameters a config gives

_PACKAGE = Path(__file__).parent
PLUGINS = "attriflow_plugins"  # the package that the rooms of the user's kinds are in
REQUIRED = object()  # the default of a hyperparameter that has none


@dataclass(frozen=True)
class Hyperparameter:
    """One keyword-only argument: its annotation as written, and its default (REQUIRED where it has none)."""

    annotation: str
    default: object = REQUIRED


class Registry:
    """The kinds of every room: ours, and those of a user's plugin folder with the same sub-folders."""

    def __init__(self, plugins: str | Path | None = None):
        self.plugins = Path(plugins) if plugins else None
        self._kinds: dict[str, dict[str, Path]] = {}  # by room, once looked up
        if self.plugins and not self.plugins.is_dir():
            given = hyperparameters.shown(str(plugins))
            raise ValueError(f"plugins: {given} is not a folder; expected one with sub-folders {list(ROOMS)}")

    def kinds(self, room: str) -> dict[str, Path]:
        """Name -> file of every kind of a room. Files that begin with `_` are helpers."""
        if room not in self._kinds:
            ours = _files(_PACKAGE / room)
            theirs = _files(self.plugins / room) if self.plugins else {}
            if both := sorted(ours.keys() & theirs.keys()):
                raise ValueError(f"plugins: {room} {both} exist in attriflow already; give yours another name")
            self._kinds[room] = ours | theirs
        return self._kinds[room]

    def path(self, room: str, kind: str) -> Path:
        """The file of a kind. Raises ValueError with the known names for an unknown one."""
        kinds = self.kinds(room)
        if kind not in kinds:
            raise ValueError(f"unknown {room} {kind!r}; known: {sorted(kinds)}")
        return kinds[kind]

    def hyperparameters(self, room: str, kind: str, function: str) -> dict[str, Hyperparameter]:
        """The keyword-only arguments of one function of a kind, in the order of its signature."""
        return _keywords(self._function(room, kind, function))

    def annotations(self, room: str, kind: str) -> dict[str, str]:
        """Every hyperparameter that the config gives to a kind, with its annotation."""
        given = sorted(self.functions(room, kind) & _TAKING)
        taken = [each for function in given for each in self.hyperparameters(room, kind, function).items()]
        return {name: each.annotation for name, each in taken}

    def functions(self, room: str, kind: str) -> set[str]:
        """The names of a kind's functions."""
        return set(_functions(self.path(room, kind)))

    def arguments(self, room: str, kind: str, function: str) -> list[str]:
        """The positional arguments of one function of a kind."""
        taken = self.signature(room, kind, function)
        return [argument.arg for argument in (*taken.posonlyargs, *taken.args)]

    def signature(self, room: str, kind: str, function: str) -> ast.arguments:
        """All that one function of a kind takes, as it is written."""
        return self._function(room, kind, function).args

    def _function(self, room: str, kind: str, function: str) -> ast.FunctionDef:
        functions = _functions(self.path(room, kind))
        if function not in functions:
            raise ValueError(f"{self.path(room, kind).name} of {room} has no function '{function}'")
        return functions[function]

    def constants(self, room: str, kind: str) -> dict[str, object]:
        """The literal assignments at the top of a kind's file, `TRAIN_EXAMPLES = 60000`."""
        return _constants(self.path(room, kind))

    def wrong_plugins(self) -> list[str]:
        """Why files of the user's are no kinds: a line each, which names the file."""
        files = [(room, path) for room in ROOMS if self.plugins for path in _files(self.plugins / room).values()]
        return [problem for room, path in files if (problem := _problem(room, path))]

    def is_plugin(self, path: Path) -> bool:
        """Whether a kind's file is the user's and not ours."""
        return not path.is_relative_to(_PACKAGE)

    def load(self, room: str, kind: str) -> ModuleType:
        """Import a kind."""
        path = self.path(room, kind)
        if not self.is_plugin(path):
            return importlib.import_module(f"attriflow.{room}.{kind}")
        name = f"{PLUGINS}.{room}.{kind}"
        if name not in sys.modules:
            self._open_packages(room)
            takes = {
                each: {key: taken.annotation for key, taken in self.hyperparameters(room, kind, each).items()}
                for each in self.functions(room, kind) & _TAKING
            }
            try:
                reads.loaded(room, kind, lambda: self._import(name, path), takes)
            except BaseException:
                sys.modules.pop(name, None)  # half of a module
                raise
        return sys.modules[name]

    def _import(self, name: str, path: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    def _open_packages(self, room: str):
        """Let a kind import helpers that lie beside it, `from . import _helper`."""
        for name, folder in ((PLUGINS, self.plugins), (f"{PLUGINS}.{room}", self.plugins / room)):
            package = sys.modules.setdefault(name, ModuleType(name))
            package.__path__ = [str(folder.resolve())]


def _files(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")}


def _problem(room: str, path: Path) -> str | None:
    """Why a user's file does not say all that a plan reads of a kind of a room; None where it does."""
    try:
        relative = sorted(_relative(path), key=lambda node: node.lineno)
    except ValueError as error:
        return str(error)
    try:
        _expect_kind(room, path)
    except ValueError as error:
        return f"{path}: {error}"
    missing = (f"{path}, line {node.lineno}: {each}" for node in relative for each in _missing(path, node))
    return next(missing, None)


def _relative(path: Path) -> list[ast.ImportFrom]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom) and node.level]


def _missing(path: Path, node: ast.ImportFrom) -> list[str]:
    """Why a relative import of a user's file cannot be: its folder, and the one above it, hold what it may import."""
    if node.level > 2:
        return ["relative import from above the folder of plugins; put what it needs beside this file"]
    folder = path.parents[node.level - 1]
    names = [node.module] if node.module else [alias.name for alias in node.names]
    places = [folder.joinpath(*name.split(".")) for name in names]
    absent = [place for place in places if not place.with_suffix(".py").is_file() and not place.is_dir()]
    return [f"relative import of {each}.py, which is not there" for each in absent]


def _expect_kind(room: str, path: Path):
    kind, functions = path.stem, _functions(path)
    if kind in _files(_PACKAGE / room):
        raise ValueError(f"{room} '{kind}' exists in attriflow already; give yours another name")
    if not re.fullmatch("[a-z][a-z0-9_]*", kind):
        raise ValueError("a kind's name must be lower-case letters, digits and underscores, the first a letter")
    for function in CONTRACTS[room]:
        if function not in functions:
            raise ValueError(f"it has no function '{function}'; {room} have {list(CONTRACTS[room])}")
    if room == "evaluation" and "TRUTH" not in _constants(path):
        raise ValueError("it has no constant TRUTH, the kind of ground truth that it compares scores with")
    for function in sorted(functions.keys() & _TAKING):
        for name, each in _keywords(functions[function]).items():
            try:
                hyperparameters.expected(each.annotation)
            except TypeError as error:
                raise ValueError(f"{function}, '{name}': {error}") from error


@cache
def _functions(path: Path) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in tree(path).body if isinstance(node, ast.FunctionDef)}


@cache
def _keywords(function: ast.FunctionDef) -> dict[str, Hyperparameter]:
    found = {}
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if argument.annotation is None:
            raise ValueError(f"{function.name}: hyperparameter '{argument.arg}' has no annotation")
        try:
            value = REQUIRED if default is None else ast.literal_eval(default)
        except (ValueError, TypeError) as error:
            given = ast.unparse(default)
            raise ValueError(
                f"{function.name}: the default of '{argument.arg}' must be a plain value, not {given}"
            ) from error
        value = list(value) if isinstance(value, tuple) else value
        found[argument.arg] = Hyperparameter(ast.unparse(argument.annotation), value)
    return found


@cache
def _constants(path: Path) -> dict[str, object]:
    found = {}
    for node in tree(path).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except (ValueError, TypeError):
                continue  # computed, not a literal: nothing a config check could use
    return found
