"""Bad configs, generated from the schema and from the signatures of every kind: each is refused by one line.

The line begins with the path of the key that is wrong, says what was given or what is right, and nothing follows from
it. A key that the schema gets, or a kind that a room gets, is tested the day it is written.
"""

import ast
import copy
import datetime
import itertools
import math
import re
from dataclasses import dataclass

import pytest
import yaml
from conftest import ROOT, TINY, Project

from attriflow import study
from attriflow.config import CATALOGUES, ConfigError, check, read
from attriflow.registry import REQUIRED, Registry

SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
REGISTRY = Registry()

# a config with every key of the schema; what does not run is there to be spoilt
FULL = yaml.safe_load("""
study: default
seed: 0
device: cpu
dtype: float64
plugins: null
datasets:
  digits:
    {kind: digits, train: 60, test: 12, standardise: true, task: classification, label_noise: {fraction: 0.1, seed: 0}}
settings:
  digits_mlp:
    dataset: digits
    model: {kind: mlp, hidden: [8], dropout: 0.1}
    checkpoint: null
    recipe: {optimiser: sgd, learning_rate: 0.05, momentum: 0.9, weight_decay: 0.0, schedule: constant, batch_size: 16,
      epochs: 4}
    checkpoints: [2, 4]
    access: training
  digits_own: {dataset: digits, model: {kind: mlp}, checkpoint: [own.pt, other.pt]}
ground_truth:
  subsets: {kind: subsets, count: 6, repeats: 2, fraction: 0.5, block: 3, skip: [digits_own],
    only: {settings: [digits_mlp]}}
ensembles:
  independent: {kind: independent, count: 2, sizes: [1, 2], block: 1, skip: [digits_own],
    only: {settings: [digits_mlp], methods: [grad_dot, influence]}}
methods:
  grad_dot: {kind: grad_dot, skip: [digits_own],
    only: {settings: [digits_mlp], ensembles: [independent], members: 2}}
  influence: {kind: influence, damping: [0.01, 0.1]}
evaluation: {resamples: 100, confidence: 0.95}
removal: {methods: [influence], dampings: {fixed: 0.01, oracle: best}, ensemble: independent, counts: [5, 10], tests: 4,
  repeats: 2}
run: {settings: [digits_mlp], ground_truth: [subsets], ensembles: [independent], methods: [grad_dot, influence],
  figures: [lds_by_method]}
""")


@dataclass(frozen=True)
class Case:
    """A config that is wrong at one key."""

    what: str
    path: str  # of the key, as the line begins
    config: dict


REMOVED = object()


def spoilt(place: tuple, value, config: dict = FULL) -> dict:
    """A config with one value set, or one key removed; the rest is shared with the given one."""
    key, *below = place
    content = copy.copy(config)
    if below:
        content[key] = spoilt(tuple(below), value, config[key])
    elif value is REMOVED:
        del content[key]
    else:
        content[key] = value
    return content


def dotted(place: tuple) -> str:
    """`methods.trak.damping[1]`, and `methods['a b']` for what is no word."""
    word = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
    steps = [f".{key}" if isinstance(key, str) and word.fullmatch(key) else f"[{key!r}]" for key in place]
    return "".join(["config" if steps[0].startswith("[") else "", *steps]).removeprefix(".")


def case(what: str, place: tuple, value, at: tuple | None = None, config: dict = FULL) -> Case:
    """at: the key that is wrong, where it is not the one that is set."""
    said = "removed" if value is REMOVED else repr(value)[:40]
    path = dotted(place if at is None else at)
    return Case(f"{what}: {dotted(place)[:60]} = {said}", path, spoilt(place, value, config))


# --- values --------------------------------------------------------------------------------------------------

NAN, INF = math.nan, math.inf
# what YAML gives -> the types of the schema that it is of
VALUES = [
    (None, {"null"}), (True, {"boolean"}), (False, {"boolean"}), (3, {"integer", "number"}), (0.5, {"number"}),
    (3.0, {"number"}), (10**400, set()), (2**63, set()), (NAN, set()), (INF, set()), (-INF, set()),
    ("text", {"string"}), ("3", {"string"}), ("1e-5", {"string"}), ([1], {"array"}), ({"a": 1}, {"object"}),
    (datetime.date(2024, 1, 1), set()), (b"bytes", set()),
]  # fmt: skip

# text that no name and no reference is
TEXTS = [
    "", " ", "a b", "trak ", "trak\n", "a\nb", "Trak", "träk", "９", "../trak", "/etc/passwd", "a/b", ".", "..", "a.b",
    "a-b", "$(touch X)", "`touch X`", "a;b", "a|b", "a&b", "a>b", "'", '"', "{wildcards.x}", "%s", "~", "*",
    "\x1b[31m", "_a", "0a", "a" * 5000, "null", "true", "no", "1_000", "12:30", "__init__", "os.path",
]  # fmt: skip
NAMES = [text for text in TEXTS if not re.fullmatch("[a-z][a-z0-9_]{,99}", text)]
KEYS = [None, True, 3, 0.5, datetime.date(2024, 1, 1)]  # YAML's on:, ~:, 3:, ...


# --- from the schema -----------------------------------------------------------------------------------------


def resolved(node: dict) -> dict:
    """A node of the schema with what it refers to."""
    return SCHEMA["$defs"][node["$ref"].rsplit("/", 1)[1]] | node if "$ref" in node else node


def of_schema(node: dict, place: tuple, value):
    """Bad values for one node and all below it, by its words; `value` is what FULL has there."""
    node = resolved(node)
    types = {node["type"]} if isinstance(node["type"], str) else set(node["type"])
    if place:
        yield from of_types(node, types, place)
    if isinstance(value, dict):
        yield from of_mapping(node, place, value)
    if isinstance(value, list):
        yield from of_list(node, place, value)


def of_types(node: dict, types: set[str], place: tuple):
    for bad, fits in VALUES:
        if not fits & (types | ({"integer"} if "number" in types else set())):
            yield case("type", place, bad)
    number = int if "integer" in types else float
    for word, step in (("minimum", -1), ("maximum", 1), ("exclusiveMinimum", 0), ("exclusiveMaximum", 0)):
        if word in node and "array" not in types:
            yield case(word, place, number(node[word] + step))
    words = [each for each in node.get("enum", []) if isinstance(each, str)]
    for name in ["nonsense", "", *map(str.upper, words), *(f"{each} " for each in words)]:
        if "enum" in node:
            yield case("enum", place, name)
    if "pattern" in node:
        # a study may be called as one likes, a kind must be there
        yield from (case("pattern", place, text) for text in NAMES)
    if {"minItems", "minLength"} & node.keys():
        yield from (case("empty", place, bad) for bad, kind in (([], "array"), ("", "string")) if kind in types)
    if "minProperties" in node:
        yield case("empty", place, {})


def of_list(node: dict, place: tuple, value: list):
    yield from (
        case("item", place, [each.config, *value[1:]], (*place, 0)) for each in of_items(resolved(node["items"]))
    )
    if node.get("uniqueItems"):
        yield case("twice", place, [value[0], value[0]])


def of_items(node: dict):
    """Bad items of a list, as cases whose config is the item."""
    types = {node["type"]} if isinstance(node["type"], str) else set(node["type"])
    for bad, fits in VALUES:
        if not fits & (types | ({"integer"} if "number" in types else set())):
            yield Case("item", "", bad)
    if "minimum" in node:
        yield Case("item", "", node["minimum"] - 1)


def of_mapping(node: dict, place: tuple, value: dict):
    known, others = node.get("properties", {}), node.get("additionalProperties")
    for key in node.get("required", []):
        yield case("missing", (*place, key), REMOVED)
    if others is False:
        for key in ("nonsense", "a b", "$(touch X)", *KEYS):
            yield case("unknown", (*place, key), 1)
        for key in known:
            for typo in typos(key, known):
                without = spoilt((*place, key), REMOVED)
                yield case("misspelt", (*place, typo), value[key], config=without)
    if "propertyNames" in node:
        entry = next(iter(value.values()))
        for name in [text for text in NAMES if len(text) < 100] + KEYS:
            yield case("name", (*place, name), entry)
    for key, inner in known.items():
        assert key in value, f"FULL has no {dotted((*place, key))}: give it one, so that bad values of it are tested"
        yield from of_schema(inner, (*place, key), value[key])
    if isinstance(others, dict):
        for name in [name for name in value if name not in known][:1]:
            yield from of_schema(others, (*place, name), value[name])


def typos(word: str, known) -> list[str]:
    """A letter missing, two swapped, one too many; none that is another word."""
    made = [word[:-1], f"{word[0]}{word[2]}{word[1]}{word[3:]}", f"{word}s"]
    return [each for each in dict.fromkeys(made) if each not in known and each != word]


# --- from the signatures -------------------------------------------------------------------------------------

# word of an annotation -> values that fit it, values that do not
DATE = datetime.date(2024, 1, 1)
NO_NUMBER = ["3", "1e-5", "text", None, True, False, NAN, INF, -INF, 10**400, 2**63, {}, {"a": 1}, DATE]
NO_WHOLE = [*NO_NUMBER, 1.5, 2.0]
NO_TEXT = [1, 0.5, None, True, {}, DATE, b"bytes"]
IN_FILES = [text for text in TEXTS if not re.fullmatch(r"[\w.*?!\[\]-]{1,99}", text, re.ASCII)]
WORDS = {
    "float": ([0.5], NO_NUMBER),
    "int": ([3], NO_WHOLE),
    "bool": ([True], ["yes", "true", "on", 0, 1, None, 0.5, {}]),
    "str": (["text"], NO_TEXT),
    "None": ([None], []),
    "NonNegative": ([0.1, 0], [*NO_NUMBER, -1, -1e-9]),
    "Positive": ([0.1], [*NO_NUMBER, -1, 0, 0.0]),
    "PositiveInt": ([3], [*NO_WHOLE, 0, -1]),
    "Index": ([0], [*NO_WHOLE, -1]),
    "Fraction": ([0.5], [*NO_NUMBER, 0, 1, 1.0, -0.5, 2]),
    "Probability": ([0.1, 0], [*NO_NUMBER, 1, 1.0, -0.1]),
    "Epoch": (["last", 2], [*NO_TEXT[1:], 0, -1, "first", "Last", "2", "", 1.5, True, NAN]),
    "Parameters": (["all"], [*NO_TEXT, *IN_FILES]),
    "Target": (["loss"], [*NO_TEXT, "margins", "Loss", "", "loss\n"]),
    "Examples": ([4], [*NO_WHOLE, 0, -1, [], [-1], [3, 3], [1.5], [True], ["3"], [2**63]]),
}  # fmt: skip


def of_annotation(node: ast.expr) -> tuple[list, list]:
    """Values that fit an annotation, and values that do not."""
    match node:
        case ast.BinOp(left=left, right=right):
            (good, bad), (other, worse) = of_annotation(left), of_annotation(right)
            fits = lambda value: any(type(value) is type(each) and value == each for each in good + other)  # noqa: E731
            both = [value for value in bad if any(value is each or repr(value) == repr(each) for each in worse)]
            return good + other, [value for value in both if not fits(value)]
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            allowed = ast.literal_eval(choices)
            allowed = list(allowed) if isinstance(allowed, tuple) else [allowed]
            near = [[each.upper(), f"{each} ", f"{each}s", each[:-1], f"{each}\n"] for each in allowed]
            bad = [*NO_TEXT, *NO_WHOLE, *TEXTS, *itertools.chain(*near)]
            return allowed, [value for value in bad if value not in allowed]
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            good, bad = of_annotation(item)
            return [good], [*good, *([*good, value] for value in bad), {"a": 1}]
        case ast.Constant(value=None):
            return WORDS["None"]
        case ast.Name(id=word):
            return WORDS[word]
    raise NotImplementedError(ast.unparse(node))


def values(annotation: str) -> tuple[list, list]:
    return of_annotation(ast.parse(annotation, mode="eval").body)


PLACES = {"datasets": {"train": 60, "test": 12}, "ground_truth": {}, "ensembles": {}, "methods": {}}


def some(bad: list, annotation: str) -> list:
    """All bad values of an annotation for the first key that has it; others for each of the next."""
    word = annotation.partition("[")[0]  # all that are Literal are one
    first, turn = word not in TURNS, next(TURNS.setdefault(word, itertools.count()))
    return bad if first else bad[turn % SHARE :: SHARE]


TURNS: dict[str, itertools.count] = {}
SHARE = 24


def hyperparameters(room: str, kind: str, functions: tuple[str, ...]) -> dict:
    there = [function for function in functions if function in REGISTRY.functions(room, kind)]
    return {name: each for function in there for name, each in REGISTRY.hyperparameters(room, kind, function).items()}


def entry_of(taken: dict) -> dict:
    """The hyperparameters that a kind needs, each with a value."""
    return {name: values(each.annotation)[0][0] for name, each in taken.items() if each.default is REQUIRED}


def of_kinds():
    """Bad values of every hyperparameter of every kind."""
    for catalogue, (room, functions) in CATALOGUES.items():
        for kind in REGISTRY.kinds(room):
            taken = hyperparameters(room, kind, functions)
            entry = {"kind": kind} | PLACES[catalogue] | entry_of(taken)
            if kind == "checkpoints":
                entry["epochs"] = ["last"]
            config = spoilt((catalogue, "mine"), entry)
            yield from of_entry((catalogue, "mine"), taken, config, grids=catalogue == "methods")
    for kind in REGISTRY.kinds("models"):
        taken = hyperparameters("models", kind, ("build",))
        config = spoilt(("settings", "digits_mlp", "model"), {"kind": kind} | entry_of(taken))
        yield from of_entry(("settings", "digits_mlp", "model"), taken, config, grids=False)


def of_entry(place: tuple, taken: dict, config: dict, *, grids: bool):
    yield case("kind", (*place, "kind"), "nonsense", config=config)
    yield case("unknown", (*place, "nonsense"), 1, config=config)
    yield case("unknown", (*place, 3), 1, config=config)
    for name, each in taken.items():
        good, bad = values(each.annotation)
        bad = some(bad, each.annotation)
        if each.default is REQUIRED:
            yield case("missing", (*place, name), REMOVED, config=config)
            without = spoilt((*place, name), REMOVED, config)
            yield from (case("misspelt", (*place, typo), good[0], config=without) for typo in typos(name, taken))
        for value in bad:
            yield case("value", (*place, name), value, config=config)
        if grids:
            for value in bad[::5]:
                yield case("in a grid", (*place, name), [good[0], value], (*place, name, 1), config)
            yield case("no value", (*place, name), [], config=config)
            yield case("twice", (*place, name), [good[0], good[0]], config=config)


# --- references ----------------------------------------------------------------------------------------------

REFERENCES = [
    ("settings", "digits_mlp", "dataset"),
    ("ground_truth", "subsets", "only", "settings", 0), ("ground_truth", "subsets", "skip", 0),
    ("ensembles", "independent", "only", "settings", 0), ("ensembles", "independent", "only", "methods", 0),
    ("ensembles", "independent", "skip", 0),
    ("methods", "grad_dot", "only", "settings", 0), ("methods", "grad_dot", "only", "ensembles", 0),
    ("methods", "grad_dot", "skip", 0),
    ("run", "settings", 0), ("run", "ground_truth", 0), ("run", "ensembles", 0), ("run", "methods", 0),
    ("run", "figures", 0), ("removal", "methods", 0), ("removal", "ensemble"), ("removal", "dampings", "fixed"),
]  # fmt: skip


def of_references():
    """Names that are in no catalogue."""
    for turn, place in enumerate(REFERENCES):
        at = place[:-1] if place[-1] == 0 else place
        yield from (case("reference", place, text, at) for text in ["nonsense", *TEXTS[turn % 4 :: 4]])


def of_meaning():
    """Values that fit their key and nothing around it."""
    digits, mlp, own = ("datasets", "digits"), ("settings", "digits_mlp"), ("settings", "digits_own", "checkpoint")
    yield case("more examples than there are", (*digits, "train"), 1790, digits)
    for share in (1e-9, 0.9999):
        yield case("noise that flips none, or all", (*digits, "label_noise", "fraction"), share)
    yield case("momentum of another", (*mlp, "recipe", "optimiser"), "adam", (*mlp, "recipe", "momentum"))
    yield case("checkpoint beyond the end", (*mlp, "checkpoints"), [9])
    yield case("nothing trains it", (*mlp, "recipe"), None, mlp)
    yield case("two things make it", (*mlp, "checkpoint"), "own.pt", mlp)
    no_file = spoilt(own, "own $(touch X)\n.pt")
    yield case("no file", ("run", "settings"), ["digits_mlp", "digits_own"], own, no_file)
    subsets, loo = ("ground_truth", "subsets"), ("ground_truth", "loo")
    for share in (1e-9, 0.001, 0.999):
        yield case("no part of the data", (*subsets, "fraction"), share)
    yield case("one subset", (*subsets, "count"), 1)
    left_out = spoilt(("run", "ground_truth"), ["loo"], spoilt(loo, {"kind": "leave_one_out", "examples": 2}))
    left_out["removal"] = None
    for examples in (61, [60], [0, 99]):
        yield case("beyond the data", (*loo, "examples"), examples, config=left_out)
    independent, mine = ("ensembles", "independent"), ("ensembles", "mine")
    yield case("no part of the data", (*independent, "fraction"), 0.001)
    for size in (3, "1x2", "0x1", "x", "1x", "2X1", "１x1", "9" * 5000 + "x1"):
        yield case("size", (*independent, "sizes"), [1, size], (*independent, "sizes", 1))
    yield case("one size", (*independent, "sizes"), [1, "1x1"])
    for epochs in ([], ["last", "last"], [2, 2]):
        yield case("epochs", mine, {"kind": "checkpoints", "epochs": epochs}, (*mine, "epochs"))
    influence, other = ("methods", "influence"), ("methods", "other")
    yield case("epoch not kept", (*influence, "epoch"), 1)
    yield case("equal numbers", (*influence, "damping"), [1, 1.0])
    without = {"kind": "influence_cg", "iterations": 2, "damping": "select"}
    yield case("no spectrum", other, without, (*other, "damping"))
    long = dict.fromkeys(("scale", "damping"), 1.123456789012345e-100) | dict.fromkeys(("depth", "batch"), 2**62)
    yield case("a long name", other, {"kind": "influence_lissa", "parameters": "a" * 100} | long)
    yield case("more than the test examples", ("removal", "tests"), 13)
    yield case("all training examples", ("removal", "counts"), [60], ("removal", "counts", 0))
    yield case("a damping of no grid", ("removal", "dampings", "fixed"), 0.5)
    yield case("no damping", ("removal", "methods"), ["grad_dot"])


MADE = [*of_schema(SCHEMA, (), FULL), *of_kinds(), *of_references(), *of_meaning()]
CASES = list({repr(each.config): each for each in MADE}.values())


def refused(config: dict) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check(config, SCHEMA)
    return caught.value.errors


def test_the_config_that_is_spoilt_is_right():
    check(FULL, SCHEMA)
    study.plan(ROOT, FULL)


def test_there_are_hundreds_of_different_bad_configs():
    assert len(CASES) >= 2000


GROUPS = itertools.groupby(sorted(CASES, key=lambda each: each.what), lambda each: each.what.split(" = ")[0])


@pytest.mark.parametrize("cases", [pytest.param(list(each), id=what) for what, each in GROUPS])
def test_a_bad_config_is_refused_by_one_line_that_names_the_key(cases):
    for each in cases:
        found = refused(each.config)
        assert len(found) == 1, (each.what, found)
        (line,) = found
        assert line.startswith(f"{each.path}: "), (each.what, each.path, line)
        assert line.isprintable(), (each.what, line)
        assert len(line) < 1000, (each.what, line)


# --- as text -------------------------------------------------------------------------------------------------

NOT_READ = {
    "twice": ("seed: 0\nmethods:\n  trak: {damping: 1}\n  trak: {damping: 2}\n", "'trak' is there twice"),
    "twice in braces": ("methods: {trak: {damping: 1, damping: 2}}\n", "'damping' is there twice"),
    "twice in a list": ("a: [{b: 1, b: 2}]\n", "'b' is there twice"),
    "a tab": ("seed:\n\t- 0\n", "cannot start any token"),
    "an unknown anchor": ("seed: *nothing\n", "undefined alias"),
    "two documents": ("seed: 0\n---\nseed: 1\n", "single document"),
    "a date that is none": ("study: 2024-13-45\n", "month must be in 1..12"),
    "a number of 5000 digits": (f"seed: {'9' * 5000}\n", "4300"),
    "code": ("study: !!python/object/apply:os.system ['touch owned']\n", "could not determine a constructor"),
    "a name of Python": ("study: !!python/name:os.system\n", "could not determine a constructor"),
    "another encoding": ("study: \xe9\n".encode("latin-1"), "can't decode byte"),
    "a NUL": (b"study: \x00\n", "special characters are not allowed"),
}


@pytest.mark.parametrize(("text", "reason"), NOT_READ.values(), ids=NOT_READ)
def test_a_file_that_does_not_say_one_thing_is_refused_in_one_line(tmp_path, text, reason):
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        read(path)
    (line,) = caught.value.errors
    assert line.startswith(f"{path}: not YAML: ")
    assert reason in line
    assert line.isprintable()


def test_a_file_that_is_not_there_is_refused_in_one_line(tmp_path):
    for path in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(ConfigError, match=r"^\S+: not YAML: .*(Is a directory|No such file)"):
            read(path)


def test_a_template_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("__use_yte__: true\nseed: ?1 + 1\n")
    with pytest.raises(ConfigError, match=r"config.yaml: __use_yte__: a config is data"):
        read(tmp_path / "config.yaml")


def test_merged_mappings_may_be_overridden(tmp_path):
    text = "a: {b: &x {<<: &y {k: 1, l: 3}, k: 2}}\nc: {<<: [*x, *y], l: 4}\nd: &d [*d]\n"
    (tmp_path / "config.yaml").write_text(text)
    found = read(tmp_path / "config.yaml")
    assert (found["a"], found["c"]) == ({"b": {"k": 2, "l": 3}}, {"k": 2, "l": 4})


# words that YAML 1.1 takes for something else than text -> the key that shows it
TRAPS = {
    "study: no": "study",
    "study: 2024-01-01": "study",
    "study: 1_000": "study",
    "seed: 1e3": "seed",
    "seed: 1_0.0": "seed",
    "seed: .inf": "seed",
    "seed: ~": "seed",
    "device: off": "device",
    "run: [digits_mlp]": "run",
    "run: {settings: digits_mlp}": "run.settings",
    "run: {settings: [on]}": "run.settings[0]",
    "methods: {on: {kind: trak}}": "methods[True]",
    "methods: {~: {kind: trak}}": "methods[None]",
    "methods: {12: {kind: trak}}": "methods[12]",
    "methods: {influence: {damping: 1e-5}}": "methods.influence.damping",
    "methods: {influence: {damping: [1.e-5, 1.0e5]}}": "methods.influence.damping[1]",  # 1.0e+5 is a number
    "methods: {influence: {damping: 1:30:00.5x}}": "methods.influence.damping",
    "methods: {grad_dot: {epoch: yes}}": "methods.grad_dot.epoch",
    "methods: {grad_dot: {parameters: *}}": None,
    "methods: {grad_dot: {target: null}}": "methods.grad_dot.target",
    "yes: 1": "config[True]",
}


@pytest.mark.parametrize(("text", "path"), TRAPS.items())
def test_what_yaml_takes_for_something_else_is_refused_with_its_key(tmp_path, text, path):
    (tmp_path / "study.yaml").write_text(text + "\n")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(FULL))
    with pytest.raises(ConfigError) as caught:
        check(read(tmp_path / "config.yaml", tmp_path / "study.yaml"), SCHEMA)
    (line,) = caught.value.errors
    if path is None:  # an alias
        assert "not YAML" in line
    else:
        assert line.startswith(f"{path}: ")


# --- through snakemake ---------------------------------------------------------------------------------------

RUN = {
    "a wrong value": ("damping: [0.01, 0.1]", "damping: [0.01, -1]", "methods.influence.damping[1]: must be a number"),
    "a misspelt key": ("epochs: 4", "epoch: 4", "settings.digits_mlp.recipe.epoch: unknown"),
    "a name for a shell": ("  trak:", "  $(touch owned):", "methods['$(touch owned)']: a name must be"),
    "a figure without a table": ("evaluation:", "run: {figures: [mislabel]}\nevaluation:", "run.figures: 'mislabel'"),
    "one subset": ("count: 6", "count: 1", "ground_truth.subsets.count: 1 subset"),
}  # fmt: skip


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Project:
    return Project.create(tmp_path_factory.mktemp("bad") / "project")


@pytest.mark.parametrize(("old", "new", "line"), RUN.values(), ids=RUN)
def test_snakemake_says_one_line_and_writes_nothing(empty, old, new, line):
    (empty.folder / "config.yaml").write_text(TINY)
    empty.edit("config.yaml", old, new)
    failed = empty.snakemake("--dry-run", check=False)
    assert failed.returncode == 1
    said = [each for each in (failed.stdout + failed.stderr).splitlines() if "config: " in each]
    assert len(said) == 1
    assert said[0].startswith(f"config: {line}")
    assert "Traceback" not in failed.stderr
    assert not any((empty.folder / name).exists() for name in ("specs", "results", "owned"))
