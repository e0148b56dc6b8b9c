"""The folder is the registry: a kind of a room is a file in its folder, named by the word one writes in the config.

Names and hyperparameters are read off the files as text, so the config is checked without importing torch.
"""

import ast
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

ROOMS = ("data", "models", "ground_truth", "ensembles", "scores", "evaluation", "figures")

_PACKAGE = Path(__file__).parent
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
        if self.plugins and not self.plugins.is_dir():
            raise ValueError(f"plugins: '{plugins}' is not a folder; expected one with sub-folders {list(ROOMS)}")
        self._kinds: dict[str, dict[str, Path]] = {}  # by room, once looked up

    def kinds(self, room: str) -> dict[str, Path]:
        """Name -> file of every kind of a room. Files that begin with `_` are helpers."""
        if room not in self._kinds:
            self._kinds[room] = self._found(room)
        return self._kinds[room]

    def _found(self, room: str) -> dict[str, Path]:
        ours = _files(_PACKAGE / room)
        if self.plugins is None:
            return ours
        theirs = _files(self.plugins / room)
        if both := sorted(ours.keys() & theirs.keys()):
            raise ValueError(f"plugins: {room} {both} exist in attriflow already; give yours another name")
        return ours | theirs

    def path(self, room: str, kind: str) -> Path:
        """The file of a kind. Raises ValueError with the known names for an unknown one."""
        kinds = self.kinds(room)
        if kind not in kinds:
            raise ValueError(f"unknown {room} '{kind}'; known: {sorted(kinds)}")
        return kinds[kind]

    def hyperparameters(self, room: str, kind: str, function: str) -> dict[str, Hyperparameter]:
        """The keyword-only arguments of one function of a kind, in the order of its signature."""
        functions = _signatures(self.path(room, kind))
        if function not in functions:
            raise ValueError(f"{self.path(room, kind).name} of {room} has no function '{function}'")
        return functions[function]

    def functions(self, room: str, kind: str) -> set[str]:
        """The names of a kind's functions."""
        return set(_signatures(self.path(room, kind)))

    def arguments(self, room: str, kind: str, function: str) -> list[str]:
        """The positional arguments of one function of a kind."""
        for node in tree(self.path(room, kind)).body:
            if isinstance(node, ast.FunctionDef) and node.name == function:
                return [argument.arg for argument in node.args.args]
        raise ValueError(f"{self.path(room, kind).name} of {room} has no function '{function}'")

    def constants(self, room: str, kind: str) -> dict[str, object]:
        """The literal assignments at the top of a kind's file, `TRAIN_EXAMPLES = 60000`."""
        return _constants(self.path(room, kind))

    def plugin_files(self) -> list[Path]:
        """Every kind that is the user's and not ours."""
        return sorted(self.plugins.glob("*/*.py")) if self.plugins else []

    def is_plugin(self, path: Path) -> bool:
        """Whether a kind's file is the user's and not ours."""
        return not path.is_relative_to(_PACKAGE)

    def load(self, room: str, kind: str) -> ModuleType:
        """Import a kind."""
        path = self.path(room, kind)
        if not self.is_plugin(path):
            return importlib.import_module(f"attriflow.{room}.{kind}")
        name = f"attriflow_plugins.{room}.{kind}"
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, path)
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
        return sys.modules[name]


def _files(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")}


@cache
def tree(path: Path) -> ast.Module:
    """The parsed file."""
    return ast.parse(path.read_text(), filename=str(path))


@cache
def _signatures(path: Path) -> dict[str, dict[str, Hyperparameter]]:
    return {node.name: _keywords(node) for node in tree(path).body if isinstance(node, ast.FunctionDef)}


def _keywords(function: ast.FunctionDef) -> dict[str, Hyperparameter]:
    found = {}
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if argument.annotation is None:
            raise TypeError(f"{function.name}: hyperparameter '{argument.arg}' has no annotation")
        value = REQUIRED if default is None else ast.literal_eval(default)
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
            except ValueError:
                continue  # computed, not a literal: nothing a config check could use
    return found
