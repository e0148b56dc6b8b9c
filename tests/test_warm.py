"""Jobs that are forked from a process with the libraries imported behave as those that start alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attriflow import warm

SCRIPT = """
import os, sys
print("module" if "torch" in sys.modules else "alone", __name__, sys.argv[1:], os.getcwd(), os.environ["MINE"])
print(sys.stdin.read(), file=sys.stderr)
import neighbour
print(neighbour.__file__, ours.__file__ if (ours := __import__("ours")) else None, "attriflow" in sys.modules)
sys.exit(3)
"""
WAITS = """
import pathlib, time
pathlib.Path("begun").touch()
try:
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path("interrupted").touch()
    raise
"""


@pytest.fixture(scope="module")
def process():
    """What ATTRIFLOW_WARM is where the process runs; and the process."""
    starter = subprocess.Popen(
        [sys.executable, "-c", f"import sys, time; sys.path.insert(0, {str(Path(warm.__file__).parents[1])!r})\n"
         "from attriflow import warm; print(warm.start(), flush=True); time.sleep(600)"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    yield starter.stdout.readline().strip(), starter
    starter.kill()
    starter.wait()


def begin(folder: Path, script: str, *arguments: str, place: str = "", **options) -> subprocess.Popen:
    for name, text in (("script.py", script), ("neighbour.py", ""), ("library/ours.py", "")):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    environment = os.environ | {"MINE": "a value", "PYTHONPATH": str(folder / "library"), warm.WARM: place}
    return subprocess.Popen(
        [sys.executable, warm.__file__, str(folder / "script.py"), *arguments],
        cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        **options,
    )  # fmt: skip


def test_a_script_sees_what_it_sees_alone(process, tmp_path):
    alone, forked = (begin(tmp_path, SCRIPT, "one", "two words", place=place) for place in ("", process[0]))
    (out, err), (out_alone, err_alone) = forked.communicate("given"), alone.communicate("given")
    assert out.startswith("module")  # or nothing is saved
    assert out.removeprefix("module") == out_alone.removeprefix("alone")
    assert err == err_alone == "given\n"
    assert (forked.returncode, alone.returncode) == (3, 3)


def test_libraries_come_from_the_environment_whatever_stands_on_the_path_of_who_starts_the_process(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/threadpoolctl.py").write_text("")
    code = f"import sys, time; sys.path.insert(0, {str(Path(warm.__file__).parents[1])!r})\n"
    code += "from attriflow import warm; print(warm.start(), flush=True); sys.stdin.read()"
    starter = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "elsewhere")},
    )  # fmt: skip
    script = "import sys; print(sys.modules['threadpoolctl'].__file__)"
    out, _ = begin(tmp_path, script, place=starter.stdout.readline().strip()).communicate()
    assert "site-packages" in out
    starter.communicate()


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ("", 0, ""),
        ("import sys; sys.exit('no such file')", 1, "no such file\n"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os; os.kill(os.getpid(), 9)", 137, "script.py: killed; unless somebody did that, memory ran"),
    ],
)
def test_exit_statuses_are_passed_on(process, tmp_path, script, status, said):
    job = begin(tmp_path, script, place=process[0])
    _, err = job.communicate()
    assert job.returncode == status
    assert said in err


def test_a_signal_reaches_the_script(process, tmp_path):
    job = begin(tmp_path, WAITS, place=process[0])
    wait_for(tmp_path / "begun")
    job.send_signal(signal.SIGINT)
    job.communicate(timeout=60)
    assert job.returncode == 1
    assert (tmp_path / "interrupted").exists()


def test_who_is_killed_takes_the_script_along(process, tmp_path):
    job = begin(tmp_path, "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)", place=process[0])
    pid = int(wait_for(tmp_path / "pid").read_text())
    job.kill()
    job.communicate()
    until(lambda: not Path(f"/proc/{pid}").exists())


def test_jobs_end_with_the_process_that_they_were_forked_from(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(Path(warm.__file__).parents[1])!r})\n"
    code += "from attriflow import warm; print(warm.start(), flush=True); sys.stdin.read()"
    starter = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    script = "import os, time; open('pid', 'w').write(f'{os.getpid()} {os.getppid()}'); time.sleep(60)"
    job = begin(tmp_path, script, place=starter.stdout.readline().strip())
    pid, parent = map(int, wait_for(tmp_path / "pid").read_text().split())
    os.kill(parent, signal.SIGKILL)
    _, err = job.communicate(timeout=60)
    assert job.returncode == 137
    assert "killed along with the process that it was forked from" in err
    until(lambda: not Path(f"/proc/{pid}").exists())
    starter.communicate()


def test_jobs_run_side_by_side(process, tmp_path):
    meet = "import pathlib, sys, time\npathlib.Path(sys.argv[1]).touch()\n"
    meet += "while not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.01)"
    jobs = [begin(tmp_path, meet, *names, place=process[0]) for names in (("a", "b"), ("b", "a"))]
    assert [job.wait(60) for job in jobs] == [0, 0]


@pytest.mark.parametrize("place", ["", "nowhere", f"/another/python{os.pathsep}nowhere"])
def test_without_the_process_a_script_runs_alone(tmp_path, place):
    job = begin(tmp_path, SCRIPT, place=place)
    out, _ = job.communicate("")
    assert out.startswith("alone __main__ []")
    assert job.returncode == 3


def test_the_process_ends_with_who_started_it_once_its_jobs_have(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(Path(warm.__file__).parents[1])!r})\n"
    code += "from attriflow import warm; print(warm.start(), flush=True); sys.stdin.read()"
    starter = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    place = starter.stdout.readline().strip()
    slow = "import pathlib, time; pathlib.Path('begun').touch(); time.sleep(1); pathlib.Path('ended').touch()"
    job = begin(tmp_path, slow, place=place)
    wait_for(tmp_path / "begun")
    starter.kill()
    starter.communicate()
    assert job.wait(60) == 0
    assert (tmp_path / "ended").exists()
    until(lambda: not Path(place.partition(os.pathsep)[2]).parent.exists())


def wait_for(path: Path) -> Path:
    until(lambda: path.exists() and (path.name != "pid" or path.read_text()))
    return path


def until(true):
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)
