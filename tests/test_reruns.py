"""Reruns: what must run again does, and nothing else. A silent stale result is the worst that could happen."""

import hashlib
import os
import shutil
import signal
import subprocess
import time

import pytest
from conftest import ROOT, Project

from attriflow import provenance
from attriflow.fingerprint import digest

pytestmark = pytest.mark.slow

SCORES = "scores/digits_mlp/independent"
EVALUATION = "evaluation/digits_mlp/independent"
DRAWN = (  # of one setting
    "dimension", "examples", "heatmaps", "lds_by_hyperparameter", "lds_by_method", "sensitivity_ranking"
)  # fmt: skip
FIGURES = {f"figures/{name}" for name in DRAWN}
AFTER_SCORES = {
    "evaluation/summary", "evaluation/outcome", "evaluation/sensitivity", "evaluation/examples/digits_mlp", *FIGURES
}  # fmt: skip
POINTS = {
    "grad_dot": "grad_dot/epoch=last+parameters=all+target=loss",
    "influence": "influence/curvature=fisher+epoch=last+parameters=all+target=loss",
    "trak": "trak/projection=gaussian+epoch=last+parameters=all",
}


def scored(*methods: str) -> set[str]:
    """The jobs from the scores of these methods on."""
    points = [POINTS[method] for method in methods]
    return {f"{SCORES}/{point}" for point in points} | {f"{EVALUATION}/{point}" for point in points} | AFTER_SCORES


def prepared(*methods: str) -> set[str]:
    """The jobs from the preparation of these methods on."""
    return {f"{SCORES}/{POINTS[method]}/{block}" for method in methods for block in (0, 1)} | scored(*methods)


def everything(project: Project) -> set[str]:
    return {
        str(path.relative_to(project.folder / "results")).removesuffix(".made.json")
        for path in (project.folder / "results").rglob("*.made.json")
    }


def test_a_second_run_does_nothing(project):
    assert project.planned() == set()
    assert "Nothing to be done" in project.snakemake().stderr


def test_one_damping_more_scores_that_method_again_and_prepares_nothing(project):
    project.edit("config.yaml", "influence: {damping: [0.01, 0.1]}", "influence: {damping: [0.01, 0.1, 1.0]}")
    assert project.planned() == scored("influence")


def test_one_changed_damping_runs_the_jobs_it_touches_and_they_find_the_new_value(project):
    project.edit("config.yaml", "influence: {damping: [0.01, 0.1]}", "influence: {damping: [0.01, 0.2]}")
    project.snakemake()
    assert project.planned() == set()
    summary = (project.folder / "results/evaluation/summary.csv").read_text()
    assert ",0.2," in summary
    assert ",fisher,0.1," not in summary


def test_a_smaller_projection_is_a_prefix_but_a_larger_one_is_prepared(project):
    project.edit("config.yaml", "proj_dim: [4, 8]", "proj_dim: [2, 8]")
    assert project.planned() == scored("trak")
    project.edit("config.yaml", "proj_dim: [2, 8]", "proj_dim: [2, 16]")
    assert project.planned() == prepared("trak")


def test_editing_the_code_of_trak_runs_trak_evaluation_and_figures(project):
    project.edit("src/attriflow/scores/trak.py", "damping * torch.eye", "2 * damping * torch.eye")
    assert project.planned() == prepared("trak")


def test_editing_a_helper_runs_the_methods_that_import_it(project):
    project.edit("src/attriflow/projection.py", "* 2 - 1", "* 2.0 - 1.0")
    assert project.planned() == prepared("trak")
    project.edit("src/attriflow/gradients/__init__.py", "_ROWS = 1024", "_ROWS = 512")
    assert project.planned() == prepared("grad_dot", "influence", "trak")


def test_a_folder_that_is_left_over_hides_no_module_and_runs_nothing(project):
    (project.folder / "src/attriflow/projection/__pycache__").mkdir(parents=True)
    (project.folder / "src/attriflow/scores/trak").mkdir()
    assert project.planned() == set()
    project.edit("src/attriflow/projection.py", "* 2 - 1", "* 2.0 - 1.0")
    assert project.planned() == prepared("trak")


def test_editing_what_hands_out_seeds_runs_everything_and_what_keeps_clocks_nothing(project):
    project.edit(
        "src/attriflow/running.py", "round(time.monotonic() - started, 3)", "round(time.monotonic() - started, 2)"
    )
    assert project.planned() == set()
    project.edit("src/attriflow/job.py", 'self.settings["seed"]', 'self.settings["seed"] + 1')
    assert project.planned() == everything(project)


def test_a_value_written_in_another_way_runs_nothing(project):
    project.edit("config.yaml", "damping: [0.1, 1.0]", "damping: [0.1, 1]")
    assert project.planned() == set()


def test_a_model_that_is_made_again_alone_runs_what_used_it_once_its_bytes_differ(project):
    path = project.folder / "results/models/digits_mlp/full-0.pt"
    made = path.with_suffix(".made.json")
    said = provenance.read(made)
    outputs = {name: project.folder / each for name, each in said["spec"]["outputs"].items()}
    provenance.write(made, said["spec"], outputs, said["cost"] | {"seconds": 99.0}, inputs=said["inputs"])
    assert project.planned() == set()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    provenance.write(made, said["spec"], outputs, said["cost"], inputs=said["inputs"])
    blocks = {f"{SCORES}/{point}/0" for point in POINTS.values()}
    assert blocks | {"ensembles/digits_mlp/independent"} <= project.planned()
    assert project.planned().isdisjoint({"models/digits_mlp/full-0", f"{SCORES}/{POINTS['trak']}/1"})


def test_editing_comments_docstrings_and_layout_runs_nothing(project):
    project.edit("src/attriflow/engine/__init__.py", '"""The batched', '"""An even better batched')
    project.edit(
        "src/attriflow/scores/trak.py",
        "    model = member.model(epoch, parameters)\n",
        "    # why\n\n    model = member.model(epoch, parameters)\n",
    )
    assert project.planned() == set()


def test_editing_what_estimates_memory_runs_nothing(project):
    project.edit("src/attriflow/memory.py", "24 * self.factors", "25 * self.factors")
    project.edit("src/attriflow/resources.py", "_TORCH = 400", "_TORCH = 500")
    assert project.planned() == set()


def test_editing_the_engine_retrains_everything(project):
    project.edit("src/attriflow/engine/dropout.py", "_LEVELS = 2**16", "_LEVELS = 2**15")
    assert project.planned() == everything(project) - {"data/digits"}


def test_editing_a_figure_draws_that_figure(project):
    project.edit("src/attriflow/figures/lds_by_method.py", "figsize=(4.2", "figsize=(4.4")
    assert project.planned() == {"figures/lds_by_method"}


def test_figures_are_drawn_whatever_draws_on_the_users_screen(project):
    for path in (project.folder / "results/figures").rglob("lds_by_method*"):
        path.unlink()
    project.snakemake(MPLBACKEND="no such thing")
    assert project.planned() == set()


def test_editing_a_metric_evaluates_again(project):
    project.edit("src/attriflow/evaluation/lds.py", "sign=1, ranks=True", "sign=1.0, ranks=True")
    assert project.planned() == {f"{EVALUATION}/{point}" for point in POINTS.values()} | AFTER_SCORES


def test_more_repeats_keep_the_blocks_that_are_there(project):
    project.edit("config.yaml", "subsets: {count: 6, repeats: 2", "subsets: {count: 6, repeats: 3")
    truth = "ground_truth/digits_mlp/subsets"
    assert project.planned() - AFTER_SCORES - {f"{EVALUATION}/{point}" for point in POINTS.values()} == {
        f"{truth}/2.0", f"{truth}/2.1", truth,
    }  # fmt: skip


def test_one_member_more_prepares_that_member(project):
    project.edit("config.yaml", "{count: 2, sizes: [1, 2], block: 1}", "{count: 3, sizes: [1, 3], block: 1}")
    planned = project.planned()
    assert {stem for stem in planned if stem.startswith("models/")} == {"models/digits_mlp/full-2"}
    assert {stem for stem in planned if stem.count("/") == 5 and stem.startswith("scores")} == {
        f"{SCORES}/{point}/2" for point in POINTS.values()
    }
    assert not {stem for stem in planned if stem.startswith("ground_truth")}


def test_swapped_values_are_seen(project):
    # tools that compare the set of values without their names would see no change
    project.edit("config.yaml", "learning_rate: 0.05, momentum: 0.9", "learning_rate: 0.9, momentum: 0.05")
    assert project.planned() == everything(project) - {"data/digits"}


def test_a_reverted_edit_runs_nothing(project):
    content = (project.folder / "config.yaml").read_text()
    project.edit("config.yaml", "repeats: 2", "repeats: 3")
    assert project.planned()
    (project.folder / "config.yaml").write_text(content)
    assert project.planned() == set()
    assert "Nothing to be done" in project.snakemake().stderr


def test_touching_sources_and_results_runs_nothing(project):
    for path in [*project.folder.rglob("*.py"), *project.folder.rglob("*.yaml"), project.folder / "Snakefile"]:
        os.utime(path)
    for path in sorted(
        (project.folder / "results").rglob("*"), key=lambda path: hashlib.md5(path.name.encode()).digest()
    ):
        os.utime(path)
    assert project.planned() == set()


@pytest.mark.parametrize("years", [-30, 30])
def test_results_with_a_clock_that_was_wrong_run_only_what_changed(project, years):
    for path in (project.folder / "results").rglob("*"):
        os.utime(path, (time.time() + years * 3e7, time.time() + years * 3e7))
    assert project.planned() == set()
    project.edit("config.yaml", "influence: {damping: [0.01, 0.1]}", "influence: {damping: [0.01, 0.2]}")
    assert project.planned() == scored("influence")


def test_jobs_end_well_though_their_inputs_are_dated_in_the_future(project):
    for path in (project.folder / "results").rglob("*"):
        os.utime(path, (time.time() + 3e8, time.time() + 3e8))
    project.edit("src/attriflow/figures/lds_by_method.py", "figsize=(4.2", "figsize=(4.4")
    project.snakemake()
    assert project.planned() == set()


def test_results_of_one_config_under_another_are_seen_even_if_that_ran_before(project, tmp_path):
    """Run A, run B, bring A's results back under the config of B: a tool that remembers having run B must not
    believe its memory."""
    results_of_a = shutil.copytree(project.folder / "results", tmp_path / "a")
    project.edit("config.yaml", "influence: {damping: [0.01, 0.1]}", "influence: {damping: [0.01, 0.2]}")
    project.snakemake()
    shutil.rmtree(project.folder / "results")
    shutil.copytree(results_of_a, project.folder / "results")
    assert project.planned() == scored("influence")
    project.snakemake()
    assert ",0.2," in (project.folder / "results/evaluation/summary.csv").read_text()


def test_a_result_that_was_cut_short_is_made_again(project):
    path = project.folder / f"results/{SCORES}/{POINTS['trak']}.npz"
    path.write_bytes(path.read_bytes()[:-100])
    assert project.planned() == scored("trak")


def test_a_flipped_bit_in_an_input_is_refused_with_the_file_and_the_remedy(project):
    path = project.folder / f"results/{SCORES}/{POINTS['trak']}/0.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    project.edit("config.yaml", "damping: [0.1, 1.0]", "damping: [0.1, 2.0]")
    failed = project.snakemake(check=False)
    assert failed.returncode != 0
    assert f"results/{SCORES}/{POINTS['trak']}/0.npz was altered after it was made" in failed.stderr
    assert f"delete results/{SCORES}/{POINTS['trak']}/0.made.json and run again" in failed.stderr
    (project.folder / f"results/{SCORES}/{POINTS['trak']}/0.made.json").unlink()
    project.snakemake()
    assert project.planned() == set()


def test_a_deleted_intermediate_result_is_made_when_needed_and_then_all_that_used_it(project):
    """Only the same numbers would make the rest still right, and nobody knows that before they are made."""
    everything_there = everything(project)
    (project.folder / "results/data/digits.npz").unlink()
    (project.folder / "results/data/digits.made.json").unlink()
    assert project.planned() == set()
    project.edit("config.yaml", "proj_dim: [4, 8]", "proj_dim: [4, 16]")
    assert project.planned() == everything_there


def test_a_changed_value_of_a_missing_intermediate_result_is_seen(project):
    shutil.rmtree(project.folder / "results/models")
    project.edit("config.yaml", "learning_rate: 0.05", "learning_rate: 0.06")
    assert project.planned() == everything(project) - {"data/digits"} | {
        "models/digits_mlp/full-0", "models/digits_mlp/full-1",
    }  # fmt: skip


def test_a_config_error_stops_before_anything_runs_even_over_old_results(project):
    project.edit("config.yaml", "trak: {proj_dim: [4, 8], damping: [0.1, 1.0]}", "trak: {proj_dim: 4, dampng: 1}")
    failed = project.snakemake(check=False)
    assert failed.returncode != 0
    assert (
        "methods.trak.dampng: trak takes ['damping', 'epoch', 'parameters', 'proj_dim', 'projection'], not 'dampng'"
        in failed.stderr
    )


def test_a_study_has_its_own_summary_shares_the_rest_and_can_be_published(project):
    (project.folder / "studies").mkdir()
    (project.folder / "studies/small.yaml").write_text("study: small\nmethods: {trak: {damping: [0.1, 1.0]}}\n")
    study = ("--configfile", "studies/small.yaml")
    assert project.planned(*study) == {
        "evaluation/small/summary", "evaluation/small/outcome", "evaluation/small/sensitivity",
        "evaluation/small/examples/digits_mlp",
        *(f"figures/small/{name}" for name in DRAWN),
    }  # fmt: skip
    project.snakemake(*study)
    assert project.planned(*study) == set()
    assert project.planned() == set()
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    project.run("git", "init", "-q")
    project.run(*git, "commit", "-q", "--allow-empty", "-m", "none")
    done = project.run("python", "workflow/commands/publish.py", "small")
    assert "published ['dimension.png', 'examples.png', 'heatmaps.png', 'lds_by_hyperparameter.png'," in done.stdout
    assert "'sensitivity.csv', 'sensitivity.interactions.csv', 'sensitivity.transfer.csv'" in done.stdout


# --- new kinds and raw files ---------------------------------------------------------------------------------

PLUGIN_METHOD = '''
"""Scores by the length of the training gradient."""
from attriflow.gradients import per_example
from attriflow.hyperparameters import Positive
from attriflow.scores import running_mean

def prepare(member, split):
    """Squared norms (n,)."""
    norms = per_example(member.model(), split.train_x, split.train_y, "loss").squared_norms().numpy()
    return {"norms": norms, "m": split.test_y}

def score(members, *, power: Positive = 0.5):
    """(n, m)."""
    return running_mean(member["norms"][:, None] ** power + 0 * member["m"] for member in members)
'''

PLUGIN_DATA = '''
"""Pixels in one raw file."""
import numpy as np
from attriflow.data import Raw

FILES = {"pixels.npy": "SUM"}
ADDRESSES = ()

def load(folder):
    """100 images."""
    x = np.load(folder / "pixels.npy").astype(np.float32)
    return Raw(x, np.arange(len(x)) % 3)
'''


def test_a_new_method_is_one_file_and_one_line(project):
    folder = project.folder / "mine/scores"
    folder.mkdir(parents=True)
    (folder / "length.py").write_text(PLUGIN_METHOD)
    project.edit("config.yaml", "seed: 0\n", "seed: 0\nplugins: mine\n")
    project.edit("config.yaml", "  grad_dot:\n", "  grad_dot:\n  length: {power: [0.5, 1.0]}\n")
    added = {
        f"{SCORES}/length/base/0", f"{SCORES}/length/base/1", f"{SCORES}/length/base", f"{EVALUATION}/length/base",
        *AFTER_SCORES,
    }  # fmt: skip
    assert project.planned() == added
    project.snakemake()
    assert "digits_mlp,independent,2,2,1,length" in (project.folder / "results/evaluation/summary.csv").read_text()
    (folder / "length.py").write_text(PLUGIN_METHOD.replace("** power", "** (2 * power)"))
    assert project.planned() == added
    (folder / "_helper.py").write_text("TWO = 2\n")
    (folder / "length.py").write_text(
        PLUGIN_METHOD.replace("** power", "** (TWO * power)") + "\nfrom ._helper import TWO\n"
    )
    project.snakemake()
    assert project.planned() == set()
    (folder / "_helper.py").write_text("TWO = 3\n")
    assert project.planned() == added


def test_a_raw_file_that_changes_makes_its_data_anew_and_is_refused_if_it_is_not_the_pinned_one(project):
    import io

    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(0).integers(0, 255, (100, 1, 4, 4), np.uint8))
    official = buffer.getvalue()
    mirror = project.folder / "mirror/strokes"
    mirror.mkdir(parents=True)
    (mirror / "pixels.npy").write_bytes(official)
    (project.folder / "mine/data").mkdir(parents=True)
    (project.folder / "mine/data/strokes.py").write_text(
        PLUGIN_DATA.replace("SUM", hashlib.sha256(official).hexdigest())
    )
    project.edit("config.yaml", "seed: 0\n", "seed: 0\nplugins: mine\n")
    project.edit("config.yaml", "digits: {train: 60, test: 12}", "strokes: {train: 60, test: 12}")
    project.edit("config.yaml", "dataset: digits", "dataset: strokes")
    environment = {"ATTRIFLOW_DATA_MIRROR": str(project.folder / "mirror")}
    project.snakemake("data", **environment)
    assert project.planned("data") == set()
    raw = project.folder / "data/raw/strokes/pixels.npy"
    os.utime(raw)
    assert project.planned("data") == set()
    raw.write_bytes(official[:-1] + b"x")
    assert project.planned("data") == {"data/strokes"}
    failed = project.snakemake("data", check=False, **environment)
    assert "data/raw/strokes/pixels.npy is altered or truncated" in failed.stderr
    raw.write_bytes(official)
    project.snakemake("data", **environment)


# --- a failed and a killed run -------------------------------------------------------------------------------


def test_a_failed_jobs_message_names_the_log_and_the_cause(project):
    project.edit("config.yaml", "learning_rate: 0.05", "learning_rate: 1.0e+30")
    failed = project.snakemake("models", "--keep-going", check=False)
    assert failed.returncode != 0
    log = "logs/models/digits_mlp/full-0.log"
    assert f"failed, log {log}: Diverged: training models/full-0: the loss is" in failed.stderr
    assert "at epoch 1, step" in failed.stderr
    assert "Traceback" in (project.folder / log).read_text()
    assert not list((project.folder / "results").rglob("*.partial"))


def test_a_run_killed_during_retraining_resumes_and_ends_with_the_same_numbers(finished, tmp_path):
    project = Project.create(tmp_path / "killed")
    running = subprocess.Popen(
        ("snakemake", "--cores", "1", "ground_truth"),
        cwd=project.folder,
        env=project.environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    blocks = project.folder / "results/ground_truth/digits_mlp/subsets"
    deadline = time.monotonic() + 120
    while len(finished_blocks := list(blocks.glob("*.made.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert 2 <= len(finished_blocks) < 4
    finished_blocks.sort(key=lambda path: path.stat().st_mtime)
    kept = {path: path.read_bytes() for path in finished_blocks[:-1]}  # Snakemake may not have heard of the last yet
    assert "locked" in project.snakemake(check=False).stderr.lower()
    project.snakemake("--unlock")
    project.snakemake()
    for path, content in kept.items():
        assert path.read_bytes() == content, "a finished block was trained again"
    assert project.results() == finished.results()


def test_blocks_change_no_number(finished, project):
    project.edit("config.yaml", "fraction: 0.5, block: 3}", "fraction: 0.5, block: 4}")
    project.edit("config.yaml", "repeats: 1, block: 5}", "repeats: 1, block: 2}")
    project.snakemake("ground_truth")
    for truth in ("subsets", "leave_one_out"):
        name = f"results/ground_truth/digits_mlp/{truth}.npz"
        assert (project.folder / name).read_bytes() == (finished.folder / name).read_bytes()


# --- fingerprints --------------------------------------------------------------------------------------------


def test_a_fingerprint_sees_code_and_not_words(tmp_path):
    def of(text: str) -> str:
        path = tmp_path / f"{hashlib.md5(text.encode()).hexdigest()}.py"
        path.write_text(text)
        return digest(path)

    base = of('"""Doc."""\ndef f(x):\n    """Doc."""\n    return x + 1\n')
    assert of("def f(x):\n\n    # words\n    return (x + 1)\n") == base
    assert of("def f(x):\n    return x + 2\n") != base
    assert of("def f(x):\n    return x - 1\n") != base
    assert of("def f(x):\n    return 'x + 1'\n") != base
    assert of("x = None") != of("x = False") != of("x = 0")


def test_every_rules_literal_paths_are_those_of_the_plan(finished):
    """The plan and the rules name the same files: every job's outputs are made by the rule it belongs to."""
    listed = finished.snakemake("--dry-run", "--forceall", "--quiet", "host").stdout
    for stem in everything(finished):
        assert f"results/{stem}.made.json" in listed


def test_the_package_does_not_know_snakemake():
    for path in (ROOT / "src").rglob("*.py"):
        assert "snakemake" not in path.read_text().lower(), path
