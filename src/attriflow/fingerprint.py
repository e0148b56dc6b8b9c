"""Fingerprints of code: what a job's own modules and every module of ours that they import say.

Docstrings, comments and layout do not count, so improving a sentence reruns nothing.
"""

import ast
import copy
import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from attriflow.registry import tree

_SOURCE = Path(__file__).parent.parent

# Libraries whose release can change a number. Editing what only reads clocks, writes logs or estimates memory cannot.
NUMERICAL = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "matplotlib")
_IMPORT_NAMES = {"sklearn": "scikit-learn"}
WITHOUT_NUMBERS = frozenset({"attriflow.job", "attriflow.memory", "attriflow.progress"})


@cache
def fingerprint(*files: Path) -> dict[str, dict[str, str]]:
    """What these files run: `code`, module -> digest, and `software`, numerical library -> installed release.

    Not to be written to: jobs share it.
    """
    modules: dict[str, Path] = {}
    waiting = [(_name(path), path) for path in files]
    libraries: set[str] = set()
    while waiting:
        name, path = waiting.pop()
        if name in modules or name in WITHOUT_NUMBERS:
            continue
        modules[name] = path
        imported = _imports(path)
        libraries |= {_IMPORT_NAMES.get(each, each) for each in imported["libraries"]}
        waiting += [(each, _module_file(each)) for each in imported["modules"]]
    return {
        "code": {name: digest(modules[name]) for name in sorted(modules)},
        "software": {name: _release(name) for name in NUMERICAL if name in libraries},
    }


def changed(code: dict[str, str], files: list[Path]) -> list[str]:
    """The modules of a fingerprint's `code` that say something else now; `files` are those outside the package."""
    outside = {_name(path): path for path in files}
    now = {}
    for name in code:
        path = outside.get(name) or _module_file(name)
        now[name] = digest(path) if path.exists() else "missing"
    return sorted(name for name in code if code[name] != now[name])


@cache
def digest(path: Path) -> str:
    """Twelve hexadecimal digits of what the file does."""
    return hashlib.sha256(_canonical(_without_docstrings(tree(path))).encode()).hexdigest()[:12]


def _name(path: Path) -> str:
    if path.is_relative_to(_SOURCE):
        parts = path.relative_to(_SOURCE).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return f"{path.parent.name}/{path.name}"  # a script or a plugin: no path of a machine


def _module_file(name: str) -> Path:
    base = _SOURCE.joinpath(*name.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


@cache
def _imports(path: Path) -> dict[str, frozenset[str]]:
    """The modules of ours (with their packages) and the libraries that a file imports, at any depth of it."""
    names: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ImportError(f"{path.name}: relative import; write `from attriflow...`")
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    modules, libraries = set(), set()
    for name in names:
        parts = name.split(".")
        if parts[0] != "attriflow":
            libraries.add(parts[0])
            continue
        for depth in range(1, len(parts) + 1):
            candidate = ".".join(parts[:depth])
            if _module_file(candidate).exists():
                modules.add(candidate)
    return {"modules": frozenset(modules), "libraries": frozenset(libraries)}


def _without_docstrings(module: ast.Module) -> ast.Module:
    def bare(body: list) -> list:
        first = body[0] if body else None
        is_text = (
            isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
        )
        return body[1:] if is_text else body

    class Strip(ast.NodeTransformer):
        def generic_visit(self, node):
            super().generic_visit(node)
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                fields = dict(ast.iter_fields(node)) | {"body": bare(node.body)}
                return type(node)(**fields)
            return node

    return Strip().visit(copy.deepcopy(module))  # the tree in the cache stays whole


def _canonical(node) -> str:
    """The syntax tree as text, without empty fields: the same for every Python release that reads the file."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []))
        inside = ",".join(f"{name}={_canonical(value)}" for name, value in fields)
        return f"{type(node).__name__}({inside})"
    if isinstance(node, list):
        return "[" + ",".join(map(_canonical, node)) + "]"
    return repr(node)


@cache
def _release(name: str) -> str:
    try:
        return version(name).split("+")[0]  # 2.13.0+cpu and 2.13.0+cu130 are one release
    except PackageNotFoundError:
        return "missing"
