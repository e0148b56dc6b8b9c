"""A plugin reads the files that it declares, and no others that the user may edit: an edit would rerun nothing."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT, TINY
from test_config import SCHEMA

from attriflow import study
from attriflow.config import ConfigError, check
from attriflow.hyperparameters import handed
from attriflow.reads import UndeclaredFile
from attriflow.registry import Registry

HEAD = "import ctypes, io, os, json, sqlite3\nfrom pathlib import Path\nimport numpy as np\nimport pandas as pd\n"
WAYS = {
    "numpy's text": "np.loadtxt('mine/table.csv', delimiter=',')",
    "pandas": "pd.read_csv('mine/table.csv')",
    "open": "open('mine/table.csv').read()",
    "bytes for a name": "open(b'mine/table.csv').read()",
    "a path": "Path('mine/table.csv').read_text()",
    "a path of its own": "Path(__file__).parent.parent.joinpath('table.csv').read_bytes()",
    "numpy's bytes": "np.fromfile('mine/table.csv', np.uint8)",
    "to write, too": "open('mine/table.csv', 'r+').read()",
    "the system's open": "os.read(os.open('mine/table.csv', os.O_RDONLY), 1)",
    "a link": "open('link.csv').read()",
    "a database": "sqlite3.connect('mine/table.csv')",
    "a database's address": "sqlite3.connect('file:mine/table.csv?mode=ro', uri=True)",
    "a compiled library": "ctypes.CDLL(os.path.abspath('mine/table.csv'))",
}


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Path:
    """A user's folder with a table, a link to it, and plugins."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.startswith("attriflow_plugins.")]:
        monkeypatch.delitem(sys.modules, name)
    for room in ("data", "models", "scores", "evaluation"):
        (tmp_path / "mine" / room).mkdir(parents=True)
    (tmp_path / "mine/table.csv").write_text("1,2\n3,4\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "mine/table.csv")
    yield tmp_path / "mine"
    for name in [name for name in sys.modules if name.startswith("attriflow_plugins.")]:
        del sys.modules[name]


def written(mine: Path, room: str, text: str):
    """A kind `mine` of a room, imported."""
    (mine / room / "mine.py").write_text(HEAD + text)
    return Registry(mine).load(room, "mine")


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_file_that_a_loader_does_not_declare_is_refused_with_the_way_to_declare_it(mine, way):
    kind = written(mine, "data", f"def load(folder):\n    return {way}\n")
    with pytest.raises(UndeclaredFile, match=r"data 'mine' \(load\) reads .*(table|link).csv, .* in FILES"):
        kind.load(None)


CALLS = {
    "models": ("def build(shape, classes):\n    {0}\n", lambda kind: kind.build((2,), 2)),
    "scores": ("def prepare(member, split): {0}\ndef score(members): ...\n", lambda kind: kind.prepare(None, None)),
    "evaluation": ("def evaluate(scores, truth):\n    {0}\n    yield 1\n", lambda kind: [*kind.evaluate(0, 0)]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "call"), CALLS.values(), ids=CALLS)
def test_so_is_one_that_another_kind_reads(mine, request, text, call):
    room = request.node.callspec.id
    kind = written(mine, room, text.format("np.loadtxt('mine/table.csv', delimiter=',')"))
    with pytest.raises(UndeclaredFile, match=f"{room} 'mine' .* reads mine/table.csv"):
        call(kind)


def test_so_is_one_that_a_kind_reads_when_it_is_imported_or_hides(mine):
    with pytest.raises(UndeclaredFile, match=r"\(its top\) reads mine/table.csv"):
        written(mine, "data", "TABLE = np.loadtxt('mine/table.csv', delimiter=',')\ndef load(folder): ...\n")
    text = "def load(folder):\n    try:\n        open('mine/table.csv')\n    except Exception:\n        return 0\n"
    with pytest.raises(UndeclaredFile, match=r"\(load\) reads mine/table.csv"):
        written(mine, "data", text).load(None)


def test_declared_files_are_read_and_arrive_as_paths(mine):
    kind = written(
        mine, "data", "def load(folder, *, table: Path, more: list[Path] = ()):\n    return table.read_text()\n"
    )
    assert kind.load(None, table="mine/table.csv") == "1,2\n3,4\n"
    assert kind.load(None, table="link.csv", more=["mine/table.csv"]) == "1,2\n3,4\n"


def test_the_files_of_a_data_set_are_read_and_no_others_beside_them(mine):
    folder = mine.parent / "data/raw/mine"
    folder.mkdir(parents=True)
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text("1,2\n")
    text = "FILES = {'a.csv': None}\ndef load(folder, *, name: str):\n    return (folder / name).read_text()\n"
    kind = written(mine, "data", text)
    assert kind.load(folder, name="a.csv") == "1,2\n"
    with pytest.raises(UndeclaredFile, match=r"reads .*b.csv"):
        kind.load(folder, name="b.csv")


def test_what_no_user_edits_is_read_and_so_is_anything_outside_of_a_kind(mine, tmp_path_factory):
    other = tmp_path_factory.mktemp("temporary") / "a.npy"
    np.save(other, np.ones(3))
    text = (
        f"def load(folder):\n    from sklearn.datasets import load_iris\n    load_iris()\n    np.load({str(other)!r})\n"
        f"    open('/proc/meminfo').read()\n    open(__file__).read()\n    open('mine/new.csv', 'w').write('1')\n"
        f"    return os.path.exists('mine/table.csv')\n"
    )
    assert written(mine, "data", text).load(None)
    assert (mine / "table.csv").read_text()


def test_hidden_folders_of_a_home_are_caches_and_its_other_folders_are_not(mine, monkeypatch):
    monkeypatch.setenv("HOME", str(mine.parent))
    for name in (".cache/library/a.txt", "data/a.txt"):
        (mine.parent / name).parent.mkdir(parents=True)
        (mine.parent / name).write_text("a")
    kind = written(mine, "data", "def load(folder, *, name: str):\n    return open(name).read()\n")
    assert kind.load(None, name=".cache/library/a.txt") == "a"
    with pytest.raises(UndeclaredFile, match=r"reads data/a.txt"):
        kind.load(None, name="data/a.txt")


def test_a_generator_is_watched_while_it_runs_and_not_while_it_waits(mine):
    text = "def prepare(member, split): ...\ndef score(members):\n    for each in members:\n        yield each\n"
    for each in written(mine, "scores", text).score(iter([1, 2])):
        assert (mine / "table.csv").read_text(), each


@pytest.mark.parametrize("value", ["mine/nowhere.csv", "mine"])
def test_a_file_that_is_not_there_is_refused_when_the_config_is_read(mine, value):
    (mine / "data/mine.py").write_text(HEAD + "def load(folder, *, table: Path): ...\n")
    config = yaml.safe_load(TINY) | {"plugins": "mine"}
    config["datasets"]["mine"] = {"train": 60, "test": 12, "table": value}
    check(config, SCHEMA)  # nothing takes it
    config["settings"]["mine"] = config["settings"]["digits_mlp"] | {"dataset": "mine"}
    with pytest.raises(ConfigError) as caught:
        check(config, SCHEMA)
    assert caught.value.errors == [f"datasets.mine.table: '{value}' is no file; expected one relative to {mine.parent}"]
    config["datasets"]["mine"]["table"] = "mine/table.csv"
    check(config, SCHEMA)


def test_texts_become_paths_where_the_annotation_says_so():
    assert handed("a.csv", "Path") == Path("a.csv")
    assert handed("last", "Literal['last'] | Path") == "last"
    assert handed(["a.csv"], "list[Path]") == [Path("a.csv")]
    assert os.fspath(handed("a.csv", "Path | None")) == "a.csv"


def test_an_edited_file_changes_the_specs_of_what_is_made_of_it_and_of_nothing_else(mine):
    (mine / "words.txt").write_text("a\n")
    (mine / "data/mine.py").write_text(HEAD + "def load(folder, *, table: Path): ...\n")
    (mine / "models/mine.py").write_text(HEAD + "def build(shape, classes, *, words: Path): ...\n")
    config = yaml.safe_load(TINY) | {"plugins": "mine"}
    config["datasets"]["mine"] = {"train": 60, "test": 12, "table": "mine/table.csv"}
    plain = config["settings"]["digits_mlp"]
    config["settings"]["mine_mlp"] = plain | {"dataset": "mine"}
    config["settings"]["digits_mine"] = plain | {"model": {"kind": "mine", "words": "mine/words.txt"}}
    digests = [{stem: job.digest for stem, job in study.plan(ROOT, config).jobs.items()}]
    for name in ("table.csv", "words.txt"):
        (mine / name).write_text("5,6\n")
        digests.append({stem: job.digest for stem, job in study.plan(ROOT, config).jobs.items()})
    for setting, before, after in zip(("mine_mlp", "digits_mine"), digests, digests[1:], strict=False):
        changed = {stem.split("/")[1] for stem in before if before[stem] != after[stem] and stem.startswith("models/")}
        assert changed == {setting}
