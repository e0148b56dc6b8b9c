"""A plugin's hyperparameter may be called as it likes: it reaches its function, or the config is refused with why."""

import csv
import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, TINY
from project import Project
from test_config import SCHEMA

from attriflow.config import ConfigError, check
from attriflow.config.kinds import COLUMNS, kind_errors, own_keys
from attriflow.registry import ROOMS, Registry

# words that jobs, specs, functions of ours or the config use for something else somewhere
WORDS = (
    "seed", "raw", "dataset", "plugins", "name", "shape", "classes", "tokens", "inputs", "outputs", "settings", "job",
    "spec", "rule", "folder", "files", "hyperparameters", "model", "recipe", "runs", "run", "number", "epoch",
    "parameters", "target", "relative", "train", "test", "standardise", "label_noise", "size", "sizes", "block", "only",
    "skip", "kind", "n", "m", "member", "members", "split", "registry", "options", "self", "path", "study", "dtype",
)  # fmt: skip
OWN = own_keys(SCHEMA)
FREE = {room: [word for word in WORDS if word not in own] for room, own in OWN.items()}
# some, of which the name of a folder is made
FREE["scores"] = ["seed", "raw", "name", "shape", "inputs", "epoch", "parameters", "target", "m", "path", "run", "self"]
VALUES = {word: place for place, word in enumerate(WORDS, 1)}


def taking(function: str, positional: str, room: str) -> str:
    """The head of a function that takes every free word of a room, and fails unless each has its value."""
    words = FREE[room]
    wanted = {word: VALUES[word] for word in words}
    return (
        f"def {function}({positional}*, {', '.join(f'{word}: Index = 0' for word in words)}):\n"
        f"    given = dict(locals())\n"
        f"    wrong = {{word: given[word] for word, value in {wanted}.items() if given[word] != value}}\n"
        f"    if wrong:\n"
        f"        raise ValueError(f'{room} {function} got {{wrong}}')\n"
    )


HEAD = "import numpy as np\nfrom attriflow.hyperparameters import Index\n"
KINDS = {
    "data": "from attriflow.data import Raw\n"
    + taking("load", "_folder, /, ", "data")
    + "    random = np.random.default_rng(0)\n"
    + "    x = random.normal(size=(90, 3)).astype(np.float32)\n"
    + "    return Raw(x, (x[:, 0] > 0).astype(np.int64), features=True)\n",
    "models": "from torch import nn\n"
    + taking("build", "_shape, _classes, /, ", "models")
    + "    return nn.Sequential(nn.Flatten(), nn.Linear(3, 2))\n",
    "ground_truth": "from attriflow.ground_truth import subsets\n"
    + taking("runs", "_n, _name, _seed, /, ", "ground_truth")
    + "    return subsets.runs(_n, _name, _seed, count=4, repeats=1, fraction=0.5)\n"
    + "def collect(runs, outputs, n, seed):\n    return subsets.collect(runs, outputs, n, seed)\n",
    "ensembles": "from attriflow.ensembles import independent\n"
    + taking("members", "", "ensembles")
    + "    return independent.members(count=1)\n",
    "scores": taking("prepare", "_member, _split, /, ", "scores")
    + "    places = np.arange(len(_split.train_y))[:, None] + np.arange(len(_split.test_y))\n"
    + "    return {'scores': np.sin(places)}\n"
    + "def score(members):\n    return (member['scores'] for member in members)\n"
    + "def memory(size, **given):\n    return 1000 * given['seed']\n",
    "evaluation": "from attriflow.evaluation import lds\nTRUTH = 'mine'\n"
    + "def evaluate(scores, truth, *, seed, resamples, confidence):\n"
    + "    return lds.evaluate(scores, truth, seed=seed, resamples=resamples, confidence=confidence)\n",
}


def written(folder: Path, kinds: dict[str, str]) -> Path:
    """A folder of plugins, a kind `mine` in each of these rooms."""
    for room, text in kinds.items():
        (folder / room).mkdir(parents=True, exist_ok=True)
        (folder / room / "mine.py").write_text(HEAD + text)
    return folder


def config() -> dict:
    """A study that takes every kind from the plugins, with a value of its own for each hyperparameter."""
    given = {room: {word: VALUES[word] for word in words} for room, words in FREE.items()}
    return {
        "plugins": "mine",
        "datasets": {"mine": {"train": 60, "test": 12} | given["data"]},
        "settings": {
            "mine": {
                "dataset": "mine",
                "model": {"kind": "mine"} | given["models"],
                "recipe": {"learning_rate": 0.1, "batch_size": 20, "epochs": 2},
            }
        },
        "ground_truth": {"mine": given["ground_truth"]},
        "ensembles": {"mine": given["ensembles"]},
        "methods": {"mine": given["scores"]},
        "evaluation": {"resamples": 100},
    }


@pytest.mark.slow
def test_every_hyperparameter_of_every_room_reaches_its_function(tmp_path):
    project = Project.create(tmp_path, yaml.safe_dump(config()))
    written(tmp_path / "mine", KINDS)
    project.snakemake("results/evaluation/summary.csv")
    with open(tmp_path / "results/evaluation/summary.csv") as file:
        row = next(row for row in csv.DictReader(file) if row["output"] == "loss")
    assert {word: int(row[word]) for word in FREE["scores"]} == {word: VALUES[word] for word in FREE["scores"]}
    assert row["setting"] == row["method"] == "mine"
    project.edit("config.yaml", f"seed: {VALUES['seed']}", "seed: 99")
    failed = project.snakemake(
        "results/evaluation/summary.csv", check=False
    )  # with the values of the config and no others
    assert failed.returncode
    assert re.search(r"got \{'seed': 99\}", failed.stdout + failed.stderr)


SCORE = "def prepare(member, split): ...\ndef score(members, {0}): ...\n"
TRUTH = "TRUTH = 'subsets'\n"
REFUSED = {
    "an own key of data": (
        "data",
        "def load(folder, *, train: Index = 0): ...",
        "load takes 'train', which in an entry of `datasets`",
    ),
    "an own key of models": (
        "models",
        "def build(shape, classes, *, kind: Index): ...",
        "build takes 'kind', which in an entry of `settings.*.model`",
    ),
    "an own key of truths": (
        "ground_truth",
        "def runs(n, name, seed, *, block: Index): ...\ndef collect(runs, outputs, n, seed): ...",
        "runs takes 'block'",
    ),
    "an own key of ensembles": (
        "ensembles",
        "def members(*, sizes: Index): ...",
        "members takes 'sizes', which in an entry of `ensembles`",
    ),
    "an own key of scores": (
        "scores",
        SCORE.format("*, skip: Index"),
        "score takes 'skip', which in an entry of `methods`",
    ),
    "a column": (
        "scores",
        SCORE.format("*, value: Index"),
        "score takes 'value', which is a column of the tables of results",
    ),
    "the size": ("scores", SCORE.format("*, size: Index"), "score takes 'size', which is a column"),
    "a list of a method": (
        "scores",
        SCORE.format("*, widths: list[Index]"),
        "score: 'widths' is a list; a list in `methods` is several values",
    ),
    "a default of several words": (
        "scores",
        SCORE.format("*, how: str = 'a, b'"),
        "score: the default of 'how' must be at most 100 letters",
    ),
    "a default that does not fit": (
        "data",
        "def load(folder, *, part: Index = -1): ...",
        "load: the default of 'part' must be a whole number of at least 0, not -1",
    ),
    "one by position": (
        "data",
        "def load(folder, length): ...",
        "load takes ['folder', 'length'] by position and is called with",
    ),
    "one in place of the folder": (
        "data",
        "def load(*, length: Index = 3): ...",
        "load takes [] by position and is called with ['folder']",
    ),
    "no classes": (
        "models",
        "def build(shape, /, *, width: Index = 3): ...",
        "build takes ['shape'] by position and is called with ['shape', 'classes']",
    ),
    "tokens first": (
        "models",
        "def build(tokens, shape, classes): ...",
        "build takes ['tokens', 'shape', 'classes'] by position; 'tokens' comes after ['shape', 'classes']",
    ),
    "two defaults": (
        "scores",
        "def prepare(member, split, *, k: Index = 1): ...\ndef score(members, *, k: Index = 2): ...",
        "prepare and score take 'k' with another annotation or default",
    ),
    "a spectrum of its own": (
        "scores",
        SCORE.format("") + "def spectrum(member, *, k: Index = 1): ...",
        "spectrum takes ['k'], which score does not",
    ),
    "memory of something else": (
        "scores",
        SCORE.format("*, k: Index = 1") + "def memory(size, *, k): ...",
        "memory takes ['k'], which prepare does not",
    ),
    "a metric that needs more": (
        "evaluation",
        TRUTH + "def evaluate(scores, truth, *, seed, resamples, confidence, power): ...",
        "evaluate needs ['power'], which nothing gives",
    ),
    "a metric that takes less": (
        "evaluation",
        TRUTH + "def evaluate(scores, truth, *, seed): ...",
        "evaluate must take the keywords ['resamples', 'confidence']",
    ),
}


@pytest.mark.parametrize(("room", "text", "message"), REFUSED.values(), ids=REFUSED)
def test_a_signature_whose_hyperparameters_could_not_arrive_is_refused_with_the_reason(tmp_path, room, text, message):
    written(tmp_path, {room: text})
    with pytest.raises(ConfigError) as caught:
        check(yaml.safe_load(TINY) | {"plugins": str(tmp_path)}, SCHEMA)
    (line,) = caught.value.errors
    assert line.startswith(f"plugins: {tmp_path}/{room}/mine.py: {message}")


TAKEN = {
    "any keywords": ("data", "def load(folder, **options): ..."),
    "positional only": ("models", "def build(shape, classes, tokens, /, *, width: Index = 3): ..."),
    "one with a default by position": ("data", "def load(folder, cache=None): ..."),
    "all arguments": ("data", "def load(*arguments): ..."),
    "a metric without annotations": (
        "evaluation",
        TRUTH + "def evaluate(scores, truth, *, seed, resamples, confidence, power=2): ...",
    ),
    "a metric of any keywords": ("evaluation", TRUTH + "def evaluate(scores, truth, **options): ..."),
}


@pytest.mark.parametrize(("room", "text"), TAKEN.values(), ids=TAKEN)
def test_a_signature_that_can_be_called_is_taken(tmp_path, room, text):
    written(tmp_path, {room: text})
    check(yaml.safe_load(TINY) | {"plugins": str(tmp_path)}, SCHEMA)


@pytest.mark.parametrize(("room", "kind"), [(room, kind) for room in ROOMS for kind in Registry().kinds(room)])
def test_our_own_kinds_have_signatures_that_can_be_called(room, kind):
    assert [*kind_errors(Registry(), room, kind, OWN)] == []


def test_every_column_of_the_tables_of_methods_is_kept_from_hyperparameters():
    registry, columns = Registry(), set()
    for name in ("summary", "mislabel", "selection", "stability", "mechanism"):
        with open(ROOT / f"docs/results/default/{name}.csv") as file:
            columns |= set(next(csv.reader(file)))
    ours = {
        word
        for kind in registry.kinds("scores")
        for function in ("prepare", "score")
        for word in registry.hyperparameters("scores", kind, function)
    }
    assert columns - ours <= COLUMNS
