"""Attacks: no file of data runs code, takes memory or writes elsewhere; no word of a config reaches a shell."""

import ast
import hashlib
import io as streams
import json
import os
import re
import shlex
import shutil
import tarfile
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
import yaml
from conftest import ROOT, TINY, Project

from attriflow import io, provenance, study
from attriflow.config import ConfigError, check
from attriflow.data import _raw, cifar2
from attriflow.models._checkpoint import read
from attriflow.registry import Registry

pytestmark = pytest.mark.slow

SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())


class Attack:
    """An object whose pickle touches a file when it is loaded."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return (os.system, (f"touch {shlex.quote(str(self.marker))}",))


# --- code that reads -----------------------------------------------------------------------------------------

# calls that may run what they read -> the files that have one, and why it may be there
ALLOWED = {
    "pickle.Unpickler": {"src/attriflow/data/cifar2.py": "a subclass that finds arrays and nothing else"},
    "importlib.import_module": {
        "src/attriflow/registry.py": "a kind of ours, whose file was found in its room",
        "benchmarks/one_run.py": "a library of the benchmark's own list",
    },
    "loader.exec_module": {"src/attriflow/registry.py": "a kind in the folder that the config names as `plugins`"},
    "__import__": {"src/attriflow/warm.py": "libraries of a fixed list"},
    "runpy.run_path": {"src/attriflow/warm.py": "the script that a rule names"},
    "os.execv": {"src/attriflow/warm.py": "the same, by the Python that runs already"},
}
NAMED = {"eval", "exec", "compile", "__import__", "execfile"}
DOTTED = re.compile(
    r"(c?pickle|dill|cloudpickle|marshal|shelve|joblib|jsonpickle)\..*|pandas\.(read_pickle|read_hdf|eval)"
    r"|yaml\.(load|load_all|unsafe_load|full_load|Loader|FullLoader|UnsafeLoader)|torch\.(hub|jit)\..*"
    r"|os\.(system|popen|exec\w+|spawn\w+|posix_spawnp?)|subprocess\.(getoutput|getstatusoutput)|pty\..*|commands\..*"
    r"|(importlib|runpy)\.\w+|.*\.exec_module|.*\.extract(all)?|shutil\.unpack_archive|tempfile\.mktemp|.*\.from_pretrained"
)
HARMLESS = {
    "pickle.UnpicklingError",
    "importlib.util.spec_from_file_location",
    "importlib.util.module_from_spec",
    "importlib.metadata.version",
}
# a function -> the argument without which it runs what it reads
NO_PICKLE = ("allow_pickle", False)
SAFE_BY = {
    "torch.load": ("weights_only", True),
    "numpy.load": NO_PICKLE,
    "numpy.lib.format.read_array": NO_PICKLE,
    "numpy.lib.format.write_array": NO_PICKLE,
}


def calls(path: Path):
    """Every call in a file, by its full name where imports tell it, with its node."""
    tree, known = ast.parse(path.read_text()), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                known |= {each.asname: each.name} if each.asname else {(top := each.name.partition(".")[0]): top}
        elif isinstance(node, ast.ImportFrom):
            known |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    for node in ast.walk(tree):
        bases = node.bases if isinstance(node, ast.ClassDef) else [node.func] if isinstance(node, ast.Call) else []
        for base in bases:
            first, dot, rest = ast.unparse(base).partition(".")
            yield f"{known.get(first, first)}{dot}{rest}", node


def python_files() -> list[Path]:
    return sorted(path for folder in ("src", "workflow", "benchmarks") for path in (ROOT / folder).rglob("*.py"))


def dangers(path: Path) -> list[str]:
    found = []
    for name, node in calls(path):
        keywords = {each.arg: each.value for each in node.keywords}
        if name in SAFE_BY:
            argument, value = SAFE_BY[name]
            given = keywords.get(argument)
            if not (isinstance(given, ast.Constant) and given.value is value):
                found.append(f"{name} without {argument}={value}")
        shell = keywords.get("shell")
        if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
            found.append(f"{name} with a shell")
        if name in NAMED or (DOTTED.fullmatch(name) and name not in HARMLESS):
            known = next((allowed for allowed in ALLOWED if name == allowed or name.endswith(f".{allowed}")), name)
            if str(path.relative_to(ROOT)) not in ALLOWED.get(known, {}):
                found.append(name)
    return found


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_of_ours_runs_what_it_reads(path):
    assert dangers(path) == []


def test_what_is_allowed_is_there():
    there = {(name, str(path.relative_to(ROOT))) for path in python_files() for name, _ in calls(path)}
    for allowed, files in ALLOWED.items():
        for file in files:
            assert any(name.endswith(allowed) and path == file for name, path in there), f"{file} has no {allowed} now"


@pytest.mark.parametrize(
    "line",
    [
        "import torch; torch.load(p)",
        "from torch import load; load(p, weights_only=False)",
        "import numpy as n; n.load(p)",
        "import numpy as np; np.load(p, allow_pickle=x)",
        "import pickle as p; p.loads(b)",
        "from pickle import Unpickler\nclass A(Unpickler): ...",
        "import yaml; yaml.load(t, Loader=yaml.SafeLoader)",
        "import os; os.system(x)",
        "from os import popen; popen(x)",
        "import subprocess; subprocess.run(x, shell=True)",
        "import subprocess as s; s.Popen(x, shell=yes)",
        "import pandas as pd; pd.read_pickle(x)",
        "archive.extractall()",
        "__import__(x)",
        "eval(x)",
    ],
)
def test_the_search_finds_what_runs_code(tmp_path, monkeypatch, line):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "a.py").write_text(line + "\n")
    assert dangers(tmp_path / "a.py") != []


def test_rules_have_no_python_of_their_own():
    for path in sorted([ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]):
        text = path.read_text()
        assert not re.search(
            r"^\s*(run|script|notebook|wrapper):|\b(eval|exec|system|subprocess)\b", text, re.MULTILINE
        )
        # all that a command is made of: our script, its quoted spec, and numbers
        for command in re.findall(r"shell:\s*(.*)", text):
            assert re.fullmatch(r"""'python "\$SCRIPTS/\w+\.py" \{input\.spec:q\} --threads \{threads\}'""", command), (
                path
            )


# --- checkpoints ---------------------------------------------------------------------------------------------


def forged(project: Project, stem: str, output: str, write):
    """Replace a result, and make the file beside it say that this is what was made."""
    made = project.folder / f"results/{stem}.made.json"
    content = provenance.read(made)
    paths = {name: project.folder / path for name, path in content["spec"]["outputs"].items()}
    write(paths[output])
    provenance.write(made, content["spec"], paths, content["cost"], inputs=content["inputs"])


def test_code_in_a_model_whose_record_is_forged_too_is_not_run(project):
    marker = project.folder / "owned"
    forged(project, "models/digits_mlp/full-0", "model", lambda path: torch.save({"checkpoints": Attack(marker)}, path))
    shutil.rmtree(project.folder / "results/scores")
    failed = project.snakemake("scores", check=False)
    assert failed.returncode != 0
    assert "results/models/digits_mlp/full-0.pt is damaged, or holds code or objects" in failed.stderr
    assert not marker.exists()


def test_code_in_arrays_whose_record_is_forged_too_is_not_run(project):
    marker = project.folder / "owned"
    hostile = lambda path: np.savez(path, train_x=np.array([Attack(marker)], dtype=object))  # noqa: E731
    forged(project, "data/digits", "data", hostile)
    shutil.rmtree(project.folder / "results/models")
    failed = project.snakemake("models", check=False)
    assert failed.returncode != 0
    assert re.search(r"results/data/digits.npz is .*'train_x.npy' holds Python objects", failed.stderr)
    assert not marker.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_users_own_file_is_not_run(tmp_path, suffix, protocol):
    import pickle

    path, marker = tmp_path / f"m{suffix}", tmp_path / "owned"
    beside = {"state_dict": {"w": torch.zeros(2)}, "more": Attack(marker)}
    for content in (Attack(marker), {"w": Attack(marker)}, beside):
        for write in (
            lambda content: torch.save(content, path, pickle_protocol=protocol),
            lambda content: torch.save(content, path, _use_new_zipfile_serialization=False, pickle_protocol=protocol),
            lambda content: path.write_bytes(pickle.dumps(content, protocol)),
        ):
            write(content)
            with pytest.raises(ValueError, match=f"m{suffix} is damaged"):
                read(path)
    assert not marker.exists()


def test_a_compressed_checkpoint_is_refused_before_it_takes_memory(tmp_path):
    torch.save({"w": torch.zeros(1000)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain:
        members = {name: plain.read(name) for name in plain.namelist()}
    with zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    with pytest.raises(ValueError, match=r"m.pt is damaged, or holds .*'plain/data.pkl' in it is compressed"):
        read(tmp_path / "m.pt")


WEIGHTS = {"w": torch.ones(3, 4)}
ARRAYS = {"x": np.arange(12.0).reshape(3, 4), "y": np.array(["a", "b"]), "z": np.array(3)}
SAVED = {
    "a.npz": (lambda path: io.save_arrays(path, ARRAYS), io.load_arrays),
    "a.pt": (lambda path: io.save_weights(path, {"checkpoints": {1: WEIGHTS}, "rates": {1: 0.1}}), io.load_weights),
    "b.pt": (lambda path: torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False), read),
    "a.safetensors": (lambda path: safetensors.torch.save_file(WEIGHTS, path), read),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SAVED)
def test_damaged_bytes_are_read_or_refused_by_name(tmp_path, name):
    path, (save, load) = tmp_path / name, SAVED[name]
    save(path)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for turn in range(400):
        damaged = bytearray(whole)
        for place in random.integers(len(whole), size=turn % 3 + 1):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged if turn % 4 else damaged[: random.integers(len(whole))])
        try:
            load(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 100


# --- arrays --------------------------------------------------------------------------------------------------


def header(shape: str, dtype: str = "<f8") -> bytes:
    """The beginning of a file of an array, whatever follows."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return np.lib.format.magic(1, 0) + len(text).to_bytes(2, "little") + text


HEADERS = {
    "more than the file": (header("(1000000000000000,)"), r"'x.npy' is 0 bytes, not \(1000000000000000,\) of float64"),
    "more than a number": (header("(9223372036854775807, 9223372036854775807)"), "'x.npy' is 0 bytes, not"),
    "one huge item": (header("()", "<U400000000"), "'x.npy' is 0 bytes, not"),
    "fewer than nothing": (header("(-5, 3)"), r"'x.npy' is 0 bytes, not \(-5, 3\)"),
    "two less than nothing": (header("(-1, -1)") + bytes(8), "'x.npy' is 8 bytes, not"),
    "into the next": (header("(2,)") + bytes(8), "'x.npy' is 8 bytes, not"),
    "less than is there": (header("(1,)") + bytes(16), "'x.npy' is 16 bytes, not"),
    "a call for a shape": (header("(__import__('os').system('touch owned'),)"), "malformed node"),
    "a word for a shape": (header("('many',)"), "shape is not valid"),
    "objects": (header("(1,)", "|O") + bytes(8), "'x.npy' holds Python objects"),
    "a long header": (np.lib.format.magic(2, 0) + (2**31).to_bytes(4, "little"), "truncated or not an archive"),
    "no header": (b"", "truncated or not an archive"),
}


@pytest.mark.parametrize(("content", "message"), HEADERS.values(), ids=HEADERS)
def test_a_header_that_says_more_than_the_file_holds_is_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("a.npz", "w") as archive:
        archive.writestr("x.npy", content)
        archive.writestr("y.npy", header("(1,)") + bytes(8))
    with pytest.raises(ValueError, match=f"a.npz.*{message}"):
        io.load_arrays(Path("a.npz"))
    assert sorted(os.listdir()) == ["a.npz"]


def test_compressed_arrays_are_refused_before_they_take_memory(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(10**6))
    with pytest.raises(ValueError, match=r"a.npz .*'x.npy' is compressed"):
        io.load_arrays(tmp_path / "a.npz")


def test_names_of_arrays_are_no_files(tmp_path, monkeypatch):
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    io.save_arrays(Path("a.npz"), {"../evil": np.ones(2), "/tmp/attriflow-evil": np.ones(2)})
    assert set(io.load_arrays(Path("a.npz"))) == {"../evil", "/tmp/attriflow-evil"}
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["inside", "inside/a.npz"]
    assert not Path("/tmp/attriflow-evil.npy").exists()


# --- archives ------------------------------------------------------------------------------------------------

OUTSIDE = ["../evil", "../../evil", "/tmp/attriflow-evil", "a/../../evil", "..\\evil", "C:\\evil", "evil\n"]


def linked(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
    member.type, member.linkname = kind, target
    return member


@pytest.fixture
def enclosed(tmp_path, monkeypatch):
    """A working folder beside a secret; what is there afterwards must be what was."""
    (tmp_path / "secret").write_bytes(b"\x80\x04}\x94.")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv(_raw.MIRROR, raising=False)
    before = everything(tmp_path)
    yield tmp_path
    added = everything(tmp_path) - before
    assert all(path.startswith("here/") and "evil" not in path for path in added), added
    assert not Path("/tmp/attriflow-evil").exists()


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


MEMBERS = {
    "a link outside": linked("data_batch_1", tarfile.SYMTYPE, "../../secret"),
    "a link to a whole path": linked("data_batch_1", tarfile.SYMTYPE, "/etc/passwd"),
    "a hard link": linked("data_batch_1", tarfile.LNKTYPE, "../secret"),
    "a link to itself": linked("data_batch_1", tarfile.SYMTYPE, "data_batch_1"),
    "a device": linked("data_batch_1", tarfile.CHRTYPE, ""),
    "a pipe": linked("data_batch_1", tarfile.FIFOTYPE, ""),
    "a folder": linked("data_batch_1", tarfile.DIRTYPE, ""),
}


@pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS)
def test_what_is_no_file_in_an_archive_of_images_is_refused(enclosed, member):
    with tarfile.open("cifar-10-python.tar.gz", "w:gz") as archive:
        for name in OUTSIDE:
            archive.addfile(tarfile.TarInfo(name), streams.BytesIO(b""))
        archive.addfile(member)
    with pytest.raises(ValueError, match=r"'data_batch_1' is missing, damaged or holds more .*\(it is no file"):
        cifar2.read_official(Path("cifar-10-python.tar.gz"))
    assert os.listdir() == ["cifar-10-python.tar.gz"]


@pytest.mark.parametrize("name", ["evil", *(f"folder/{name}" for name in OUTSIDE)])
def test_a_member_of_an_archive_gets_the_name_that_we_give_it(enclosed, monkeypatch, name):
    content = b"the official file"
    written = streams.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr(name, content)
        link = zipfile.ZipInfo("folder/wanted")
        link.external_attr = 0o120777 << 16  # a symbolic link, whose content is its target
        archive.writestr(link, content)
    monkeypatch.setattr(_raw, "_retrieve", lambda url, file: file.write(written.getvalue()))
    folder = _raw.fetch("toy", {"wanted": hashlib.sha256(content).hexdigest()}, ("https://example.org/all.zip",))
    assert os.listdir(folder) == ["wanted"]
    assert not (folder / "wanted").is_symlink()
    assert (folder / "wanted").read_bytes() == content


def test_an_archive_that_is_locked_is_refused_with_the_remedy(enclosed, monkeypatch):
    written = streams.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("wanted", b"x")
    packed = bytearray(written.getvalue())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.index(signature) + flags] |= 1  # encrypted
    monkeypatch.setattr(_raw, "_retrieve", lambda url, file: file.write(packed))
    with pytest.raises(ValueError, match=r"wanted could not be fetched .*encrypted.*set ATTRIFLOW_DATA_MIRROR"):
        _raw.fetch("toy", {"wanted": "0" * 64}, ("https://example.org/all.zip",))


# --- plugins -------------------------------------------------------------------------------------------------

SCORE = "def prepare(model, split): ...\ndef score(members): ...\n"


@pytest.fixture
def plugins(tmp_path, monkeypatch) -> Path:
    """A folder of plugins beside files that nobody named."""
    monkeypatch.chdir(tmp_path)
    others = ("mine/scores/_helper.py", "mine/loose.py", "mine/other/loose.py", "scores/other.py", "os.py")
    for name in ("mine/scores/fine.py", *others):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        marker = tmp_path / f"owned-{path.stem}"
        path.write_text(f"open({str(marker)!r}, 'w').close()\n{SCORE}")
    return tmp_path


def refused(**changes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check(yaml.safe_load(TINY) | changes, SCHEMA)
    return caught.value.errors


KINDS = [
    "../loose", "loose", "os", "_helper", "__init__", "other", "fine.py", "mine.scores.fine", "../../scores/other",
    "/etc/passwd", "fine\n", "torch",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_a_file_of_its_room_and_no_other(plugins, kind):
    (line,) = refused(plugins="mine", methods={"mine": {"kind": kind}})
    assert line.startswith("methods.mine.kind: ")
    with pytest.raises(ValueError, match="unknown scores"):
        Registry("mine").load("scores", kind)
    assert not list(plugins.glob("owned-*"))


def test_what_nobody_named_is_not_imported(plugins):
    config = yaml.safe_load(TINY) | {"plugins": "mine", "methods": {"fine": {}, "grad_dot": {}}}
    study.plan(ROOT, config)
    assert not list(plugins.glob("owned-*"))
    Registry("mine").load("scores", "fine")
    assert [path.name for path in plugins.glob("owned-*")] == ["owned-fine"]


BAD, TAKING = "scores/bad.py", lambda argument: SCORE.replace("(members", f"(members, *, {argument}")
WRONG = {
    "no Python": (BAD, "def prepare(:\n", "bad.py, line 1: no Python (invalid syntax)"),
    "bytes": (BAD, b"\xff\xfe\x00", "bad.py: no file of Python ("),
    "a NUL": (BAD, "a = 1\x00\n", "bad.py"),
    "a folder": ("scores/bad.py/x.py", SCORE, "bad.py: no file of Python ([Errno 21] Is a directory"),
    "nested too deep": (BAD, "(" * 5000 + ")" * 5000, "bad.py"),
    "half a method": (BAD, "def score(members): ...\n", "bad.py: it has no function 'prepare'; scores have"),
    "no annotation": (BAD, TAKING("power"), "bad.py: score: hyperparameter 'power' has no annotation"),
    "another annotation": (
        BAD,
        TAKING("power: complex"),
        "bad.py: score, 'power': hyperparameter annotation 'complex' is",
    ),
    "code for a default": (
        BAD,
        TAKING("power: float = exit()"),
        "bad.py: score: the default of 'power' must be a plain",
    ),
    "a relative import": (BAD, f"from . import _helper\n{SCORE}", "bad.py, line 1: relative import of"),
    "a far one": (BAD, f"from ...x import y\n{SCORE}", "bad.py, line 1: relative import from above"),
    "ours": ("scores/trak.py", SCORE, "trak.py: scores 'trak' exists in attriflow already"),
    "a name for a shell": (
        "figures/$(touch owned).py",
        "def draw(): ...\n",
        "$(touch owned).py: a kind's name must be",
    ),
    "no truth": ("evaluation/bad.py", "def evaluate(): ...\n", "bad.py: it has no constant TRUTH"),
    "no figure": ("figures/bad.py", "\n", "bad.py: it has no function 'draw'"),
}


@pytest.mark.parametrize(("name", "text", "message"), WRONG.values(), ids=WRONG)
def test_a_plugin_that_is_none_is_refused_in_one_line(tmp_path, monkeypatch, name, text, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    (line,) = refused(plugins=str(tmp_path / "mine"))
    assert line.startswith(f"plugins: {tmp_path}/mine/{name.partition('/')[0]}/{message}")
    assert line.isprintable()


@pytest.mark.parametrize("folder", ["nowhere", "file", "", "a\0b", "$(touch owned)", "mine/scores/fine.py"])
def test_a_folder_of_plugins_that_is_none_is_refused_in_one_line(plugins, folder):
    (plugins / "file").write_text("")
    (line,) = refused(plugins=folder)
    assert line.startswith("plugins: ")
    assert not (plugins / "owned").exists()


# --- a hostile project, whole --------------------------------------------------------------------------------

FOLDER = """a b'c"d$(touch owned)`touch owned`$HOME;touch owned&é#%s<img src=x onerror=alert(1)>"""
PLUGINS = "plug in's $(touch owned) {z}"
CHECKPOINT = """own 'w"eights' $(touch owned);{0}.pt"""
NAMES = ("<script>alert(1)</script>", "=1+1", "US$ in $^{", "@SUM(1)\n\x1b[31m", "a`touch owned`")
DATA = f"""
import os
from pathlib import Path
import numpy as np
from attriflow.data import Raw

def load(folder) -> Raw:
    random = np.random.default_rng(0)
    x = random.standard_normal((60, 5)).astype(np.float32)
    return Raw(x, (x.sum(1) > 0).astype(np.int64), features=True, names={NAMES!r})
"""
HOSTILE = f"""
study: default
device: cpu
plugins: {json.dumps(PLUGINS)}
datasets:
  hostile: {{train: 30, test: 6}}
settings:
  hostile_mlp:
    dataset: hostile
    model: {{kind: mlp, hidden: [3], dropout: 0.0}}
    recipe: {{learning_rate: 0.05, batch_size: 16, epochs: 2}}
  hostile_own: {{dataset: hostile, model: {{kind: logistic}}, checkpoint: {json.dumps(CHECKPOINT)}}}
ground_truth:
  subsets: {{count: 4, block: 4, skip: [hostile_own]}}
ensembles:
  independent: {{count: 1}}
methods:
  grad_dot: {{parameters: ["*", "?.[a-z]*"], only: {{settings: [hostile_mlp]}}}}
  grad_cos:
evaluation: {{resamples: 100}}
run: {{figures: [examples, lds_by_method]}}
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Project:
    """A project in a folder of that name, after a run, with files in it that Python could take for others."""
    project = Project.create(tmp_path_factory.mktemp("hostile") / FOLDER)
    (project.folder / "config.yaml").write_text(HOSTILE)
    (project.folder / PLUGINS / "data").mkdir(parents=True)
    (project.folder / PLUGINS / "data/hostile.py").write_text(DATA)
    weights = {"1.weight": torch.zeros(2, 5), "1.bias": torch.zeros(2)}
    torch.save(weights, project.folder / CHECKPOINT)
    for name in ("sitecustomize", "usercustomize", "score", "attriflow_plugins"):
        (project.folder / f"{name}.py").write_text("open('owned', 'w').close()\n")
    project.snakemake()
    return project


def test_a_run_in_a_folder_with_every_letter_makes_everything_and_nothing_else(hostile):
    assert hostile.planned() == set()
    assert (hostile.folder / "results/figures/examples.png").stat().st_size > 1000
    assert (hostile.folder / "results/models/hostile_own/adopted/full-0.pt").exists()
    assert not list(hostile.folder.parent.rglob("owned"))


@pytest.mark.parametrize("name", ["a{b}", "a:b"])
def test_a_folder_that_would_be_read_as_something_else_is_refused_in_one_line(tmp_path, name):
    project = Project.create(tmp_path / name)
    failed = project.snakemake("--dry-run", check=False)
    assert failed.returncode == 1
    (line,) = [line for line in (failed.stdout + failed.stderr).splitlines() if "config: " in line]
    assert "in its path; give it another name" in line
    assert not (project.folder / "specs").exists()


def test_every_command_is_our_script_its_spec_and_a_number(hostile):
    text = hostile.snakemake("--dry-run", "--forceall", "--printshellcmds", "--quiet", "host")
    commands = re.findall(r"^Shell command: (python .*)$", text.stdout + text.stderr, re.MULTILINE)
    assert len(commands) > 10
    for command in commands:
        python, script, spec, flag, threads = shlex.split(command)
        assert re.fullmatch(r"\$SCRIPTS/\w+\.py", script)
        assert (hostile.folder / spec).is_file()
        assert (python, flag, threads) == ("python", "--threads", "1")


def test_no_cell_of_a_table_is_a_formula(hostile, finished):
    tables = [path for each in (hostile, finished) for path in (each.folder / "results").rglob("*.csv")]
    assert len(tables) > 10
    for path in tables:
        for column, values in pd.read_csv(path, dtype=str, keep_default_na=False).items():
            for text in (column, *values.unique()):
                assert not re.match(r"[=+@\t\r]|-(?![\d.])", text), (path, column, text)
                assert "<" not in text, (path, column, text)


def test_the_report_of_snakemake_has_no_code_of_ours_or_of_data(hostile):
    hostile.snakemake("--report", "report.html")
    page = (hostile.folder / "report.html").read_text()
    assert "onerror=alert" not in page.replace(json.dumps(FOLDER)[1:-1], "")
    for name in NAMES:
        assert name not in page
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=[\"']?(https?:)?//", page)


# --- words of the config and of the command line -------------------------------------------------------------

ATTACKS = [
    "$(touch owned)", "`touch owned`", "x; touch owned", "x' ; touch owned; '", 'x" ; touch owned; "', "x\ntouch owned",
    "| touch owned", "{wildcards}",
]  # fmt: skip
SETTING = ("settings", "digits_mlp")
TEXTS = [
    ("study",), ("device",), ("dtype",), ("plugins",), (*SETTING, "dataset"), (*SETTING, "access"),
    (*SETTING, "model", "kind"), (*SETTING, "recipe", "optimiser"), (*SETTING, "checkpoint"),
    ("datasets", "digits", "kind"), ("ground_truth", "subsets", "kind"), ("ensembles", "independent", "kind"),
    ("methods", "trak", "projection"), ("methods", "trak", "parameters"), ("methods", "influence", "damping"),
    ("methods", "trak", "epoch"), ("run", "figures", 0), ("run", "methods", 0),
]  # fmt: skip


@pytest.mark.parametrize("place", TEXTS, ids=lambda place: ".".join(map(str, place)))
def test_no_text_of_a_config_may_be_a_command(place):
    for attack in ATTACKS:
        config = yaml.safe_load(TINY) | {"run": {"figures": ["examples"], "methods": ["trak"]}}
        inside = config
        for key in place[:-1]:
            inside = inside[key]
        inside[place[-1]] = attack
        with pytest.raises(ConfigError) as caught:
            check(config, SCHEMA)
        assert all(line.isprintable() for line in caught.value.errors)


@pytest.mark.parametrize("argument", ["device='cpu; touch owned'", "study='$(touch owned)'", "plugins='`touch owned`'"])
def test_no_word_of_the_command_line_may_be_a_command(project, argument):
    key, _, value = argument.partition("=")
    failed = project.snakemake("--dry-run", "--config", f"{key}={value}", check=False)
    assert failed.returncode == 1
    assert f"config: {key}: " in failed.stdout + failed.stderr
    assert not list(project.folder.rglob("owned"))


def make(project: Project, *arguments: str, **options):
    """make, with the environment that runs the tests, which comes next in PATH, in place of .venv."""
    return project.run("make", "-o", ".venv/.installed", *arguments, **options)


@pytest.mark.parametrize(
    "name", ["$$(touch owned)", "`touch owned`", 'x"; touch owned; "', "x'; touch owned; '", "../config"]
)
def test_no_name_of_a_study_may_be_a_command(project, name):
    failed = make(project, "study", f"NAME={name}", check=False)
    assert failed.returncode == 2
    assert not list(project.folder.rglob("owned"))


def test_make_works_in_such_a_folder_and_refuses_templates(hostile):
    done = make(hostile, "run")
    assert "Nothing to be done" in done.stdout + done.stderr
    (hostile.folder / "studies").mkdir(exist_ok=True)
    (hostile.folder / "studies/code.yaml").write_text("__use_yte__: true\nstudy: ?open('owned', 'w').name\n")
    failed = make(hostile, "study", "NAME=code", check=False)
    assert "config: studies/code.yaml: __use_yte__: a config is data" in failed.stderr
    assert not list(hostile.folder.parent.rglob("owned"))


def test_make_refuses_an_environment_of_several_words(hostile):
    failed = make(hostile, "VENV=a b", "help", check=False)
    assert failed.returncode == 2
    assert "VENV='a b': the path of the environment must be one word" in failed.stderr


def test_the_package_needs_no_library_that_runs_what_it_reads():
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.match(r"[\w-]+", each)[0] for each in needed}
    assert not names & {"dill", "cloudpickle", "joblib", "jsonpickle", "shelve"}
