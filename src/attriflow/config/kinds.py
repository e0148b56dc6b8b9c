"""Signatures of the user's kinds: every hyperparameter must reach its function, or be refused with the reason."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from attriflow import hyperparameters
from attriflow.config.entries import CATALOGUES
from attriflow.registry import REQUIRED, ROOMS, Hyperparameter, Registry


@dataclass(frozen=True)
class Call:
    """How a function of a room is called: what it gets by position, and by name.

    optional: what it gets by position as well where it asks for it. of_config: whether the config gives its keywords,
    which are hyperparameters, with annotations; given: those that we give. within: the function of the same kind among
    whose hyperparameters its own must be.
    """

    positional: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    of_config: bool = True
    given: tuple[str, ...] = ()
    within: str = ""


CALLS = {
    "data": {"load": Call(("folder",))},
    "models": {"build": Call(("shape", "classes"), ("tokens",))},
    "ground_truth": {
        "runs": Call(("n", "name", "seed")),
        "training": Call(("n",)),
        "collect": Call(("runs", "outputs", "n", "seed"), of_config=False),
    },
    "ensembles": {"members": Call()},
    "scores": {
        "prepare": Call(("member", "split")),
        "score": Call(("members",)),
        "spectrum": Call(("member",), within="score"),
        "powers": Call(("member", "masks"), of_config=False, within="score"),
        "self_influence": Call(("members",), within="score"),
        "residuals": Call(("member", "split"), within="prepare"),
        "memory": Call(("size",), of_config=False, within="prepare"),
        "passes": Call(("n", "m"), of_config=False, within="prepare"),
    },
    "evaluation": {
        "evaluate": Call(("scores", "truth"), of_config=False, given=("seed", "resamples", "confidence")),
    },
}
# catalogue or part of an entry that the hyperparameters of a room stand in
_PLACES = {room: catalogue for catalogue, (room, _) in CATALOGUES.items()} | {"models": "settings.*.model"}

# Columns of the tables in which a method's hyperparameters have columns, too, and `size`, the first part of a point's
# name: a hyperparameter called like one would take its place.
COLUMNS = frozenset([
    "at_40", "at_60", "auc", "best_damping", "best_lds", "ceiling", "chosen", "confidence", "constant",
    "correlation", "cross_fitted", "cross_fitted_share", "crossings", "damping_rule", "draws", "ensemble",
    "ensemble_size", "first_half", "flipped", "high", "indicator", "lds", "lds_40", "lds_60", "log10_sd", "lost",
    "lost_high", "lost_low", "low", "member", "method", "metric", "models", "n", "o_2_positive", "of_all", "output",
    "peak_mib", "per_model", "point", "pooled_ratio", "ratio", "ratio_25", "ratio_75", "ratio_error",
    "ratio_finite", "ratio_high", "ratio_low", "ratio_mean", "rises", "rows", "rule", "second_half", "seconds",
    "selected", "setting", "share", "share_high", "share_low", "size", "slope", "slope_by_moments", "test_examples",
    "truth", "value", "warning", "without", "without_indicator", "xi_0", "xi_1",
])  # fmt: skip


def signature_errors(registry: Registry, own: Mapping[str, set[str]]) -> Iterator[str]:
    """What is wrong with the signatures of the user's kinds, a line each. own: see `own_keys`."""
    for room in ROOMS:
        for kind, path in registry.kinds(room).items():
            if registry.is_plugin(path):
                yield from (f"plugins: {path}: {reason}" for reason in kind_errors(registry, room, kind, own))


def own_keys(schema: dict) -> dict[str, set[str]]:
    """Room -> the keys that its entries keep to themselves, by the schema; no hyperparameter may be called so."""
    found = {}
    for catalogue, (room, _) in CATALOGUES.items():
        found[room] = set(schema["properties"][catalogue]["additionalProperties"]["properties"])
    model = schema["properties"]["settings"]["additionalProperties"]["properties"]["model"]
    return found | {"models": set(model["properties"])}


def kind_errors(registry: Registry, room: str, kind: str, own: Mapping[str, set[str]]) -> Iterator[str]:
    """Why a kind's functions cannot be called as they will be, or would not get what the config gives."""
    there = registry.functions(room, kind)
    calls = {name: call for name, call in CALLS.get(room, {}).items() if name in there}
    try:
        taken = {name: registry.hyperparameters(room, kind, name) for name, call in calls.items() if call.of_config}
    except ValueError as error:  # a hyperparameter without an annotation, or with a default that is none
        yield str(error)
        return
    for name, call in calls.items():
        signature = registry.signature(room, kind, name)
        yield from _position_errors(name, call, signature)
        if call.within:
            yield from _within_errors(name, call, signature, taken)
        elif call.of_config:
            yield from _word_errors(name, room, taken[name], own)
        else:
            yield from _given_errors(name, call, signature)
    yield from _shared_errors(calls, taken)


def _position_errors(name: str, call: Call, signature: ast.arguments) -> Iterator[str]:
    """Not as many arguments by position as it is called with."""
    arguments = [argument.arg for argument in (*signature.posonlyargs, *signature.args)]
    required, called = len(arguments) - len(signature.defaults), list(call.positional)
    most = len(called) + len([each for each in call.optional if each in arguments])
    if required > most:
        extra = arguments[most:required]
        yield (
            f"{name} takes {arguments} by position and is called with {called}; a hyperparameter is a keyword: write "
            f"`*` before {extra[0]!r}, and annotate it"
        )
    elif misplaced := [each for each in call.optional if each in arguments[: len(called)]]:
        yield f"{name} takes {arguments} by position; {misplaced[0]!r} comes after {called}"
    elif len(arguments) < len(called) and signature.vararg is None:
        yield f"{name} takes {arguments} by position and is called with {called}"


def _given_errors(name: str, call: Call, signature: ast.arguments) -> Iterator[str]:
    """Keywords that nobody gives, or that it does not take."""
    keywords = zip(signature.kwonlyargs, signature.kw_defaults, strict=True)
    needed = {argument.arg for argument, default in keywords if default is None}
    if unknown := sorted(needed - {*call.given}):
        yield f"{name} needs {unknown}, which nothing gives; its keywords are {list(call.given)}"
    named = {argument.arg for argument in (*signature.args, *signature.kwonlyargs)}
    if (missing := [each for each in call.given if each not in named]) and signature.kwarg is None:
        yield f"{name} must take the keywords {missing}"


def _within_errors(
    name: str, call: Call, signature: ast.arguments, taken: dict[str, dict[str, Hyperparameter]]
) -> Iterator[str]:
    """Hyperparameters that the function whose they are does not take."""
    known = taken.get(call.within, {})
    if foreign := [argument.arg for argument in signature.kwonlyargs if argument.arg not in known]:
        yield f"{name} takes {foreign}, which {call.within} does not; its hyperparameters are among those"


def _word_errors(name: str, room: str, taken: dict[str, Hyperparameter], own: Mapping[str, set[str]]) -> Iterator[str]:
    """Hyperparameters that are called like something else, or that are not what they say."""
    for word, hyperparameter in taken.items():
        if word in own[room]:
            yield (
                f"{name} takes {word!r}, which in an entry of `{_PLACES[room]}` means something else; give the "
                f"hyperparameter another name"
            )
        if hyperparameter.default is not REQUIRED:
            reason = hyperparameters.problem(hyperparameter.default, hyperparameter.annotation)
            yield from (f"{name}: the default of {word!r} {reason}" for _ in range(reason is not None))
        if room == "scores":
            yield from _grid_errors(name, word, hyperparameter)


def _grid_errors(name: str, word: str, hyperparameter: Hyperparameter) -> Iterator[str]:
    """Hyperparameters of a method that no grid, name of a file or table could hold."""
    if word in COLUMNS:
        yield (
            f"{name} takes {word!r}, which is a column of the tables of results; give the hyperparameter another name"
        )
    if hyperparameters.fits_a_list(hyperparameter.annotation):
        yield f"{name}: {word!r} is a list; a list in `methods` is several values, so a value cannot be one"
    if word == "damping" and hyperparameters.problem(None, hyperparameter.annotation) is None:
        yield f"{name}: 'damping' may be null; tables hold it as a number: let 0 stand for none"
    text = hyperparameter.default
    if isinstance(text, str) and not hyperparameters.IN_FILE_NAMES.fullmatch(text):
        yield f"{name}: the default of {word!r} must be {hyperparameters.OF_FILE_NAMES}, not {text!r}"


def _shared_errors(calls: dict[str, Call], taken: dict[str, dict[str, Hyperparameter]]) -> Iterator[str]:
    """A hyperparameter of two functions that would not be the same in both."""
    first: dict[str, tuple[str, Hyperparameter]] = {}
    for name in (name for name, call in calls.items() if call.of_config and not call.within):
        for word, hyperparameter in taken[name].items():
            other, same = first.setdefault(word, (name, hyperparameter))
            if same != hyperparameter:
                yield f"{other} and {name} take {word!r} with another annotation or default; it is one value of both"
