"""Fingerprints: what a job runs is in them, by whatever way it is imported, and nothing that only looks like it."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, TINY

from attriflow import fingerprint, imports, source, study
from attriflow.config import ConfigError

SCRIPT = ROOT / "workflow/scripts/dataset.py"
OURS = ROOT / "src/attriflow"


def said(*files: Path, plugins: Path | None = None) -> dict:
    """The fingerprint of files as they are now, after what was read of them before is forgotten."""
    for module in (fingerprint, imports, source):
        for each in list(vars(module).values()):
            if hasattr(each, "cache_clear"):
                each.cache_clear()
    return fingerprint.fingerprint(*files, plugins=plugins)


def write(folder: Path, files: dict[str, str]) -> Path:
    """Files of Python in a folder, which is returned."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def python(code: str, *arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Python at work in a folder, with our package on its path."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True,
        env=kept | {"PYTHONPATH": str(ROOT / "src")} | environment,
    )  # fmt: skip


# --- where names lead ----------------------------------------------------------------------------------------


def test_a_folder_that_is_no_package_does_not_hide_a_module(tmp_path):
    write(tmp_path, {"top/helper.py": "", "top/packed/__init__.py": "", "top/packed.py": "", "top/spread/inner.py": ""})
    write(tmp_path, {"top/__init__.py": ""})
    (tmp_path / "top/helper/__pycache__").mkdir(parents=True)  # what git leaves of a branch on which it was a package
    find = lambda name: [str(path.relative_to(tmp_path)) for _, path in imports.modules(tmp_path, name)]  # noqa: E731
    assert find("top.helper") == ["top/__init__.py", "top/helper.py"]
    assert find("top.packed") == ["top/__init__.py", "top/packed/__init__.py"]
    assert find("top.spread.inner") == ["top/__init__.py", "top/spread/inner.py"]
    assert find("top.helper.value") == ["top/__init__.py", "top/helper.py"]


@pytest.mark.parametrize(
    "way",
    [
        "from . import _shared",
        "from ._shared import SCALE",
        "from attriflow_plugins.data import _shared",
        "def load(folder):\n    from ._shared import SCALE",
        "import sys; from pathlib import Path\nsys.path.insert(0, str(Path(__file__).parent))\nimport _shared",
        "import sys, os\nHERE = os.path.dirname(os.path.abspath(__file__))\nsys.path.append(HERE)\nimport _shared",
        "import sys; from pathlib import Path\nsys.path += [str(Path(__file__).parents[0])]\nimport _shared",
        "import importlib, sys\nsys.path.append(__file__.rsplit('/', 1)[0])\nfrom . import _shared",
        "import importlib.util as u; from pathlib import Path\n"
        "spec = u.spec_from_file_location('s', Path(__file__).with_name('x').parent / '_shared.py')",
        "import sys\nsys.path.insert(0, 'mine/data')\nimport importlib\nimportlib.import_module('_shared')",
        "from . import between",
        "import importlib\nimportlib.import_module('._shared', __package__)",
        "import importlib\nimportlib.import_module('..data._shared', __package__)",
    ],
)
def test_a_helper_that_a_plugin_imports_is_in_its_fingerprint(tmp_path, monkeypatch, way):
    monkeypatch.chdir(tmp_path)
    plugins = write(
        tmp_path / "mine",
        {"data/a.py": way, "data/_shared.py": "SCALE = 1\n", "data/between.py": "from . import _shared\n"},
    )
    before = said(SCRIPT, plugins / "data/a.py", plugins=plugins)
    write(plugins, {"data/_shared.py": "SCALE = 2\n"})
    after = said(SCRIPT, plugins / "data/a.py", plugins=plugins)
    (changed,) = (name for name in after["code"] if after["code"][name] != before["code"][name])
    assert "_shared" in changed
    assert str(tmp_path) not in str(after)  # the same on every machine


def test_what_a_helper_imports_in_turn_is_in_the_fingerprint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = "import sys; from pathlib import Path\nsys.path.insert(0, str(Path(__file__).parent.parent / 'lib'))\n"
    write(
        tmp_path,
        {"lib/lab/__init__.py": "from .deep import f\n", "lib/lab/deep.py": "from lab import leaf\ndef f(): ...\n"},
    )
    write(tmp_path, {"lib/lab/leaf.py": "X = 1\n", "lib/spread/one.py": "import lab\n"})
    plugins = write(tmp_path, {"data/a.py": f"{path}import spread.one\n"})
    code = said(SCRIPT, plugins / "data/a.py", plugins=plugins)["code"]
    assert {"lab", "lab.deep", "lab.leaf", "spread.one"} <= code.keys()


def installed(folder: Path, monkeypatch, version: str, origin: str = "") -> Path:
    """A library `lab`, released as `lab-tools`, in a folder of packages."""
    packages = write(folder / "site-packages", {"lab/__init__.py": "from lab import core\n", "lab/core.py": "X = 1\n"})
    described = packages / f"lab_tools-{version}.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: lab-tools\nVersion: {version}\n")
    (described / "RECORD").write_text("lab/__init__.py,,\nlab/core.py,,\n")
    if origin:
        (described / "direct_url.json").write_text(origin)
    monkeypatch.syspath_prepend(str(packages))
    libraries = (*source._libraries(), f"{packages}/")
    monkeypatch.setattr(source, "_libraries", lambda: libraries)
    return packages


def test_of_an_installed_library_the_release_counts(tmp_path, monkeypatch):
    installed(tmp_path, monkeypatch, "1.2")
    plugins = write(tmp_path, {"data/a.py": "def load(folder):\n    import lab.core\n"})
    found = said(SCRIPT, plugins / "data/a.py", plugins=plugins)
    assert found["software"]["lab"] == "1.2"
    assert not [name for name in found["code"] if name.startswith("lab")]


@pytest.mark.parametrize("origin", ['{"url": "file:///lab", "dir_info": {}}', '{"url": "https://x", "vcs_info": {}}'])
def test_of_a_library_installed_from_a_folder_or_a_repository_the_code_counts(tmp_path, monkeypatch, origin):
    packages = installed(tmp_path, monkeypatch, "1.2", origin)
    plugins = write(tmp_path, {"data/a.py": "import lab\n"})
    before = said(SCRIPT, plugins / "data/a.py", plugins=plugins)
    write(packages, {"lab/core.py": "X = 2\n"})
    after = said(SCRIPT, plugins / "data/a.py", plugins=plugins)
    assert before["code"]["lab.core"] != after["code"]["lab.core"]


def test_optional_libraries_of_ours_are_in_the_fingerprint():
    transformers = said(SCRIPT, OURS / "models/bert.py")["software"]["transformers"]
    try:
        assert transformers == importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        assert transformers == "missing"
    assert said(SCRIPT, OURS / "data/digits.py")["software"]["sklearn"] == importlib.metadata.version("scikit-learn")


# --- what counts ---------------------------------------------------------------------------------------------


def test_what_hands_out_seeds_and_settings_counts_and_what_keeps_logs_does_not():
    code = said(SCRIPT, OURS / "data/digits.py")["code"]
    assert {"attriflow", "attriflow.job", "attriflow.io", "attriflow.registry", "attriflow.data"} <= code.keys()
    assert not fingerprint.WITHOUT_NUMBERS & code.keys()


def test_a_kind_is_fingerprinted_with_the_packages_that_it_is_in():
    code = said(ROOT / "workflow/scripts/summarise.py", OURS / "ground_truth/subsets.py")["code"]
    assert "attriflow.ground_truth" in code


@pytest.mark.parametrize("name", ["src/sklearn.py", "src/json.py", "src/sitecustomize.py", "workflow/scripts/json.py"])
def test_a_file_that_hides_a_library_is_refused_by_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "workflow/scripts", {"nothing.py": ""}).parents[1] / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    monkeypatch.setattr(imports, "_ROOT", tmp_path / "src")
    if path.stem == "sitecustomize":
        monkeypatch.setattr(sys, "stdlib_module_names", {*sys.stdlib_module_names})
    imports._entries.cache_clear()
    with pytest.raises(ImportError, match=f"{name} has the name of (a module of Python's own|an installed library)"):
        imports.refuse_hiding(tmp_path / "workflow/scripts")


def test_a_helper_that_hides_a_library_is_refused_when_the_plan_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    method = "import sys\nsys.path.insert(0, 'mine/lib')\nimport numpy\n"
    method += "def prepare(member, split): ...\ndef score(members): ...\n"
    write(tmp_path, {"mine/scores/fine.py": method, "mine/lib/numpy.py": ""})
    config = yaml.safe_load(TINY) | {"plugins": "mine", "methods": {"fine": {}, "grad_dot": {}}}
    with pytest.raises(ConfigError, match=r"mine/lib/numpy.py has the name of an installed library, 'numpy'"):
        study.plan(ROOT, config)


def test_a_job_refuses_another_release_and_other_code_than_were_planned():
    files = (SCRIPT, OURS / "data/digits.py")
    spec = said(*files)
    fingerprint.refuse_changed(spec, *files)
    with pytest.raises(RuntimeError, match=r"planned with numpy 1.0, but this job runs with numpy 2"):
        fingerprint.refuse_changed(spec | {"software": spec["software"] | {"numpy": "1.0"}}, *files)
    with pytest.raises(RuntimeError, match=r"the code of attriflow\.io changed since this job was planned; run again"):
        fingerprint.refuse_changed(spec | {"code": spec["code"] | {"attriflow.io": "0"}}, *files)
    with pytest.raises(RuntimeError, match=rf"the code of \S+, \S+, \S+ and {len(spec['code']) - 3} more changed"):
        fingerprint.refuse_changed(spec | {"code": {}}, *files)


def test_a_job_says_which_helper_was_on_the_path_of_the_plan_alone(tmp_path, monkeypatch):
    write(tmp_path, {"job.py": "import helper_of_a_lab", "lab/helper_of_a_lab.py": ""})
    with monkeypatch.context() as planning:
        planning.syspath_prepend(tmp_path / "lab")
        spec = said(tmp_path / "job.py")
    assert "helper_of_a_lab" in spec["code"]
    said(tmp_path / "job.py")  # forgets what the plan found
    with pytest.raises(RuntimeError, match=r"helper_of_a_lab was there when .* PYTHONPATH .* sys.path in the file"):
        fingerprint.refuse_changed(spec, tmp_path / "job.py")


# --- what really ran -----------------------------------------------------------------------------------------


def edited(path: Path, old: str, new: str):
    """Other text of the same size at the same time, as a copy that keeps times leaves it."""
    before = path.stat()
    path.write_text(path.read_text().replace(old, new))
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


BY_PATH = """
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("helper", "lib/helper.py")
helper = module_from_spec(spec)
spec.loader.exec_module(helper)
"""


@pytest.mark.parametrize("way", ["import helper", BY_PATH])
def test_old_bytecode_is_not_run(tmp_path, way):
    write(tmp_path, {"lib/helper.py": "X = 'old'\n"})
    python("import sys; sys.path.append('lib'); import helper", folder=tmp_path)
    edited(tmp_path / "lib/helper.py", "old", "new")
    code = f"import sys; sys.path.append('lib')\n{way}\nprint(helper.X)"
    assert python(code, folder=tmp_path).stdout == "old\n"  # Python's own way
    assert python(f"import attriflow\n{code}", folder=tmp_path).stdout == "new\n"


def test_old_bytecode_of_what_prevents_it_is_refused(tmp_path):
    package = tmp_path / "attriflow"
    package.mkdir()
    for name in ("__init__.py", "source.py"):
        (package / name).write_text((OURS / name).read_text() + "X = 'old'\n")
    code = "import attriflow; attriflow.source.refuse_kept(attriflow, attriflow.source); print(attriflow.source.X)"
    here = {"PYTHONPATH": str(tmp_path)}
    assert python(code, folder=tmp_path, **here).stdout == "old\n"
    edited(package / "source.py", "X = 'old'", "X = 'new'")
    failed = python(code, folder=tmp_path, **here)
    assert "Python runs old bytecode of" in failed.stderr and "source.py; delete" in failed.stderr


WATCHED = """
import importlib, sys
sys.path.append("lib")
"before" in sys.argv[1] and importlib.import_module("before")
from pathlib import Path
from attriflow import fingerprint
files = (Path("scripts/job.py"), Path("mine/scores/a.py"))
fingerprint.fingerprint(*files, plugins=Path("mine"))
exec(sys.argv[1])
fingerprint.refuse_others(*files, plugins=Path("mine"))
"""
RUNS_TEXT = "from . import _b\ndef score(name):\n    exec(open(name).read())\n"


@pytest.mark.parametrize(
    ("code", "unseen"),
    [
        ("import json, numpy", None),
        ("from attriflow.registry import Registry; Registry('mine').load('scores', 'a')", None),
        ("importlib.import_module('hel' + 'per')", "lib/helper.py"),
        (
            "from attriflow.registry import Registry; Registry('mine').load('scores', 'a').score('lib/hel' + 'per.py')",
            "lib/helper.py",
        ),
        ("importlib.import_module('attriflow.outcome')", "attriflow/outcome.py"),
        ("importlib.import_module('sourceless')", "lib/sourceless.pyc"),
        ("sys.modules['before']", "lib/before.py"),
    ],
)
def test_what_ran_and_is_in_no_fingerprint_is_refused_at_the_end_of_a_job(tmp_path, code, unseen):
    import py_compile

    write(
        tmp_path,
        {"scripts/job.py": "", "mine/scores/a.py": RUNS_TEXT, "mine/scores/_b.py": "", "lib/helper.py": ""},
    )
    write(tmp_path, {"lib/other.py": "", "lib/before.py": ""})
    py_compile.compile(str(tmp_path / "lib/other.py"), str(tmp_path / "lib/sourceless.pyc"))
    done = python(WATCHED, code, folder=tmp_path)
    if unseen is None:
        assert done.returncode == 0, done.stderr
    else:
        assert f"{unseen} ran, but is in no fingerprint" in done.stderr
        assert "from . import _name" in done.stderr


def test_code_that_changes_between_its_import_and_the_check_is_refused(tmp_path):
    write(tmp_path, {"scripts/job.py": "", "mine/scores/a.py": "from . import _b\n", "mine/scores/_b.py": "X = 1\n"})
    code = "from attriflow.registry import Registry; Registry('mine').load('scores', 'a')\n"
    before = WATCHED.replace("fingerprint.fingerprint(*files", f"{code}Path('mine/scores/_b.py').write_text('X = 2')\n"
                             "fingerprint.fingerprint(*files")  # fmt: skip
    assert "mine/scores/_b.py changed while this job was starting" in python(before, "", folder=tmp_path).stderr


def test_a_style_of_the_users_changes_no_figure(tmp_path):
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 9\nfont.family: serif\n")
    code = "from attriflow.figures._style import plt; print(*map(plt.rcParams.get, ('lines.linewidth', 'font.size')))"
    assert python(code, folder=tmp_path).stdout == "1.5 8.0\n"
