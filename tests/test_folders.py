"""Folders that a run writes to: what lies in their place, and a home folder that cannot be written."""

import folders
import pytest
from conftest import Project


@pytest.mark.parametrize("name", ["results", "specs", "logs", "results/scores"])
def test_a_file_in_the_place_of_a_folder_is_named_in_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folders.expect_folders()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    with pytest.raises(OSError, match=rf"^{name} is a file, and a run writes to a folder of that name; move the file"):
        folders.expect_folders()
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("gone")
    with pytest.raises(OSError, match=rf"^{name} is a link to gone, where no folder is; remove the link"):
        folders.expect_folders()


def test_a_home_that_can_be_written_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
    assert folders.usable_caches() == {}


def test_without_such_a_home_caches_are_kept_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/dev/null")
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
    found = folders.usable_caches()
    assert found["XDG_CACHE_HOME"] == str(tmp_path / ".snakemake/caches")
    assert set(found) == {"XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    assert "XDG_CACHE_HOME" not in folders.usable_caches()


def test_plain_snakemake_and_dvc_work_without_a_home(tmp_path):
    project = Project.create(tmp_path / "project")
    done = project.snakemake("--dry-run", "data", HOME="/dev/null", XDG_CACHE_HOME="")
    assert "dataset" in done.stdout + done.stderr
    project.git("init", "-q")
    failed = project.run("python", "workflow/commands/record.py", check=False, HOME="/dev/null")
    (line,) = failed.stderr.splitlines()
    assert "jobs are not up to date" in line


def test_snakemake_says_in_one_line_that_results_is_a_file(tmp_path):
    project = Project.create(tmp_path / "project")
    (project.folder / "results").write_text("")
    failed = project.snakemake("--dry-run", check=False)
    assert failed.returncode == 1
    said = failed.stdout + failed.stderr
    assert "\nresults is a file, and a run writes to a folder of that name; move the file away\n" in said
    assert "Traceback" not in said
