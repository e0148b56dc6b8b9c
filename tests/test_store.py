"""A store in place of a common folder: jobs that share nothing else make what one machine makes, and nothing stale."""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from conftest import Project
from moto.server import ThreadedMotoServer
from project import DIGITS
from tables import same_tables

pytestmark = pytest.mark.slow

MINI = (
    DIGITS
    + """
ground_truth:
  subsets: {count: 6, repeats: 2, fraction: 0.5, block: 6}
ensembles:
  independent: {count: 2, sizes: [1, 2], block: 1}
methods:
  grad_dot:
  trak: {proj_dim: [4, 8], damping: 0.1}
evaluation: {resamples: 100}
run: {figures: [lds_by_method]}
"""
)
STORE = ("--default-storage-provider", "s3", "--default-storage-prefix", "s3://lab/run")
SCORES = "results/scores/digits_mlp/independent/grad_dot/epoch=last+parameters=all+target=loss"
# every job in a folder of its own, with nothing of this machine but its commands
SUBMIT = """#!/bin/sh
machine=$(mktemp -d {folder}/XXXXXX)
cp "$1" "$machine/jobscript"
cd "$machine" && (env -i PATH="$PATH" HOME="$machine" sh jobscript > log 2>&1; echo $? > code) > /dev/null 2>&1 &
echo "$machine"
"""
STATUS = """#!/bin/sh
[ -f "$1/code" ] || { echo running; exit; }
[ "$(cat "$1/code")" = 0 ] && echo success || echo failed
"""


class Lab(Project):
    """A project whose results lie in a store."""

    def snakemake(self, *arguments: str, **options):
        return super().snakemake(*STORE, *arguments, **options)

    def planned(self, *arguments: str) -> set[str]:
        text = self.snakemake(*arguments, "--dry-run", "--quiet", "host")
        return set(re.findall(r"s3://lab/run/results/(\S+)\.made\.json \(send to storage\)", text.stdout + text.stderr))


@pytest.fixture(scope="module")
def bucket() -> Iterator:
    """A server like Amazon's, its address and keys in the variables that Snakemake reads, and a bucket of it."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"ENDPOINT_URL": url, "ACCESS_KEY": "key", "SECRET_KEY": "secret"}.items():
            patch.setenv(f"SNAKEMAKE_STORAGE_S3_{name}", value)
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        yield boto3.resource("s3", endpoint_url=url, **keys).Bucket("lab")
    server.stop()


@pytest.fixture(scope="module")
def machines(tmp_path_factory) -> Path:
    """A folder with a folder for each job that was submitted."""
    return tmp_path_factory.mktemp("machines")


@pytest.fixture(scope="module")
def lab(tmp_path_factory, bucket, machines) -> Lab:
    """A study made by jobs of machines that share nothing with this one but the store, and measured here."""
    lab = Lab.create(tmp_path_factory.mktemp("lab"), MINI)
    lab.git("init", "-q")
    lab.git("add", "-A")  # what git lists is what other machines get
    commands = tmp_path_factory.mktemp("commands")
    for name, script in {"submit": SUBMIT.replace("{folder}", str(machines)), "status": STATUS}.items():
        (commands / name).write_text(script)
        (commands / name).chmod(0o755)
    cluster = ("--cluster-generic-submit-cmd", str(commands / "submit"))
    cluster += ("--cluster-generic-status-cmd", str(commands / "status"), "--seconds-between-status-checks", "1")
    alone = ("--executor", "cluster-generic", "--jobs", "2", "--shared-fs-usage", "none", "--job-deploy-sources")
    groups = ("--groups", "prepare=prepare", "--group-components", "prepare=4")
    lab.snakemake("ground_truth", "scores", *alone, *cluster, *groups)
    lab.snakemake()  # what is left, here
    return lab


@pytest.fixture(scope="module")
def folder(tmp_path_factory, lab, bucket) -> Project:
    """A project with the files of the store as its own."""
    folder = Project.create(tmp_path_factory.mktemp("folder"), MINI)
    for entry in bucket.objects.filter(Prefix="run/results/"):
        path = folder.folder / entry.key.removeprefix("run/")
        path.parent.mkdir(parents=True, exist_ok=True)
        bucket.download_file(entry.key, str(path))
    return folder


@pytest.fixture
def copy(tmp_path, lab) -> Lab:
    """The folder from which the jobs were submitted, elsewhere."""
    return Lab(lab.copy(tmp_path / "copy").folder)


def test_other_machines_make_what_this_one_makes(tmp_path, folder, machines):
    here = Project.create(tmp_path, MINI)
    here.snakemake()
    same_tables(here.folder, folder.folder)
    submitted = [script.read_text() for script in machines.glob("*/jobscript")]
    assert sum('"type": "group"' in script for script in submitted) == 1  # of four jobs that prepare
    assert not any("dataset" in script for script in submitted)  # raw files, and mirrors of them, are on this machine
    assert len(submitted) == 9


def test_what_a_store_holds_is_up_to_date_there_and_in_a_folder(copy, folder):
    assert copy.planned() == set()
    assert folder.planned() == set()


def test_an_edit_runs_what_it_touches(copy, folder, tmp_path):
    elsewhere = folder.copy(tmp_path / "elsewhere")
    for project in (copy, elsewhere):
        project.edit("config.yaml", "proj_dim: [4, 8]", "proj_dim: [4, 16]")
    planned = copy.planned()
    assert planned == elsewhere.planned()
    assert any("trak" in stem for stem in planned)
    assert not any("grad_dot" in stem or stem.startswith("ground_truth") for stem in planned)
    copy.edit("config.yaml", "proj_dim: [4, 16]", "proj_dim: [4, 8]")
    assert copy.planned() == set()


def test_results_of_a_folder_and_copies_of_a_store_are_kept_apart(copy, folder, tmp_path):
    done = Lab(folder.folder).snakemake(check=False)
    assert "default-storage-provider: results is here already, and is not of this store" in done.stderr
    done = Project(copy.folder).snakemake(check=False)
    assert "results: these are copies of what lies in a store; name it" in done.stderr
    assert "delete the links results and logs" in done.stderr


# the same store, whose lists say that they are whole and leave everything out
FORGETFUL = """
from snakemake_storage_plugin_s3 import *
from snakemake_storage_plugin_s3 import StorageObject as Whole, StorageProvider as Provider


class StorageProvider(Provider):
    pass


class StorageObject(Whole):
    async def inventory(self, cache):
        cache.exists_in_storage[self.get_inventory_parent()] = True
"""


def test_what_a_list_leaves_out_is_asked_for(copy, tmp_path, monkeypatch):
    plugin = tmp_path / "plugins/snakemake_storage_plugin_forgetful/__init__.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(FORGETFUL)
    monkeypatch.setenv("PYTHONPATH", str(plugin.parent.parent))
    for name in ("ENDPOINT_URL", "ACCESS_KEY", "SECRET_KEY"):
        monkeypatch.setenv(f"SNAKEMAKE_STORAGE_FORGETFUL_{name}", os.environ[f"SNAKEMAKE_STORAGE_S3_{name}"])
    for link in ("results", "logs"):  # copies of this store lie elsewhere
        (copy.folder / link).unlink()
    forgetful = ("--default-storage-provider", "forgetful")
    assert copy.planned(*forgetful) == set()
    copy.edit("config.yaml", "proj_dim: [4, 8]", "proj_dim: [4, 16]")
    planned = copy.planned(*forgetful)
    (copy.folder / "results").unlink()
    (copy.folder / "logs").unlink()
    assert planned == copy.planned() != set()


def test_a_truncated_result_is_made_again_here_and_an_altered_one_refused(copy, bucket):
    figure = bucket.Object("run/results/figures/lds_by_method.png")
    whole = figure.get()["Body"].read()
    figure.put(Body=whole[:100])
    assert copy.planned() == {"figures/lds_by_method"}
    copy.snakemake()
    assert figure.content_length > 100
    assert copy.planned() == set()

    scores = bucket.Object(f"run/{SCORES}.npz")
    content = bytearray(scores.get()["Body"].read())
    content[-40] ^= 1
    scores.put(Body=bytes(content))
    copy.edit("config.yaml", "resamples: 100", "resamples: 101")
    done = copy.snakemake(check=False)
    assert done.returncode != 0
    assert f"{SCORES}.npz was altered after it was made" in done.stderr
    content[-40] ^= 1
    scores.put(Body=bytes(content))
