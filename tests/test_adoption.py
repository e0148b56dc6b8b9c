"""A user's own checkpoint as the final model of a setting: read without running code, fitted or refused by name."""

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from conftest import ROOT, TINY, Project
from torch import nn

from attriflow.config import ConfigError
from attriflow.io import load_arrays, load_json, load_weights
from attriflow.models import Trained
from attriflow.models._checkpoint import adopted, read
from attriflow.provenance import sha256
from attriflow.scores import tracin
from attriflow.study import plan_of

pytestmark = pytest.mark.slow


class Normalised(nn.Sequential):
    """A module with counters and running means among its weights."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def module() -> nn.Module:
    torch.manual_seed(1)
    return Normalised()


def weights() -> dict[str, torch.Tensor]:
    return module().state_dict()


def fitted(path: Path) -> dict[str, torch.Tensor]:
    return adopted(path, sha256(path), module)


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "hyperparameters": {"rate": 0.1}},
        lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": []}},
        lambda state: {"checkpoints": {1: {"w": torch.zeros(1)}, 4: state}, "rates": {}, "device": "cpu"},
    ],
    ids=["bare", "state_dict", "model", "ours"],
)
def test_a_state_dict_is_found_where_people_put_it(tmp_path, suffix, wrap):
    path = tmp_path / f"m{suffix}"
    torch.save(wrap(weights()), path)
    assert equal(fitted(path), weights())


def test_safetensors_are_read(tmp_path):
    safetensors.torch.save_file(weights(), tmp_path / "m.safetensors")
    assert equal(fitted(tmp_path / "m.safetensors"), weights())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_become_the_modules(tmp_path, dtype):
    given = {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights().items()}
    torch.save(given, tmp_path / "m.pt")
    found = fitted(tmp_path / "m.pt")
    assert found["1.weight"].dtype == torch.float32
    assert torch.equal(found["1.weight"], given["1.weight"].float())
    assert found["2.num_batches_tracked"].dtype == torch.int64


def test_a_view_of_a_large_tensor_does_not_bring_all_of_it(tmp_path):
    large = torch.randn(1000, 4)
    torch.save(weights() | {"1.weight": large[:3]}, tmp_path / "m.pt")
    found = fitted(tmp_path / "m.pt")["1.weight"]
    assert torch.equal(found, large[:3])
    assert found.untyped_storage().nbytes() == 48


@pytest.mark.parametrize("key", ["net", "model_state_dict", "weights"])
def test_the_only_state_dict_in_a_file_is_found_under_any_key(tmp_path, key):
    torch.save({key: weights(), "epoch": 3, "optimizer": {"state": {}, "param_groups": []}}, tmp_path / "m.pt")
    assert equal(fitted(tmp_path / "m.pt"), weights())


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "net.0."])
def test_a_prefix_of_all_weights_is_taken_off_and_said(tmp_path, suffix, prefix, caplog):
    path = tmp_path / f"m{suffix}"
    given = {f"{prefix}{name}": value for name, value in weights().items()}
    safetensors.torch.save_file(given, path) if suffix == ".safetensors" else torch.save(given, path)
    assert equal(fitted(path), weights())
    assert f"the prefix '{prefix}' of all its weights is taken off" in caplog.text


def test_a_prefix_that_the_module_has_itself_stays(tmp_path, caplog):
    build = lambda: nn.Sequential(nn.Sequential(nn.Linear(4, 2)))  # noqa: E731 (both names begin with "0.0.")
    torch.save(build().state_dict(), tmp_path / "m.pt")
    assert adopted(tmp_path / "m.pt", sha256(tmp_path / "m.pt"), build).keys() == {"0.0.weight", "0.0.bias"}
    assert not caplog.text


def test_a_prefix_of_some_weights_stays_and_is_named(tmp_path):
    given = {f"module.{name}" if name[0] == "1" else name: value for name, value in weights().items()}
    torch.save(given, tmp_path / "m.pt")
    with pytest.raises(
        ValueError, match=r"1.bias: missing, expected \(3,\).*; module.1.bias: \(3,\), expected nothing"
    ):
        fitted(tmp_path / "m.pt")


class Tied(nn.Module):
    """Two layers with one weight, and one layer under two names."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.second.weight = self.first.weight
        self.last = self.head

    def forward(self, x):
        return self.last(self.second(self.first(x)))


def tied(path: Path, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    safetensors.torch.save_file(given, path) if path.suffix == ".safetensors" else torch.save(given, path)
    return adopted(path, sha256(path), Tied)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    "missing", [["second.weight", "last.weight", "last.bias"], ["first.weight", "head.weight", "head.bias"], []]
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_tied_weights_are_filled_from_whichever_name_is_there(tmp_path, suffix, missing, prefix):
    state = {name: value.clone() for name, value in Tied().state_dict().items()}
    given = {f"{prefix}{name}": value for name, value in state.items() if name not in missing}
    found = tied(tmp_path / f"m{suffix}", given)
    assert equal(found, state)
    Tied().load_state_dict(found)
    trained = Trained("own", 0, Tied, {0: {name: found[name] for name in found if name not in missing}}, {}).model()
    assert trained.second.weight is trained.first.weight
    assert equal(dict(trained.float().state_dict()), state)


def test_tied_weights_that_differ_are_refused_by_both_names(tmp_path):
    state = {name: value.clone() for name, value in Tied().state_dict().items()}
    state["second.weight"][0, 0] += 1
    message = "m.pt: 'first.weight' and 'second.weight' are one weight of the model, which ties them, but differ"
    with pytest.raises(ValueError, match=message):
        tied(tmp_path / "m.pt", state)


# --- what is refused -----------------------------------------------------------------------------------------


def test_names_of_another_model_are_refused_in_one_line_with_the_remedy(tmp_path):
    torch.save({f"encoder.{name}x": value for name, value in weights().items()}, tmp_path / "m.pt")
    with pytest.raises(ValueError) as caught:
        fitted(tmp_path / "m.pt")
    assert "none of its 9 weights has a name of the model's 9: they are called such as 'encoder.1.biasx'" in str(
        caught.value
    )
    assert "rename them: torch.save(" in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


def test_of_many_weights_that_do_not_fit_the_first_are_named_and_the_others_counted(tmp_path):
    torch.save({"1.bias": torch.zeros(3)}, tmp_path / "m.pt")
    with pytest.raises(ValueError, match=r"1.weight: missing, expected \(3, 4\); .*; and 2 more$"):
        fitted(tmp_path / "m.pt")


def test_two_state_dicts_under_keys_of_no_name_are_refused(tmp_path):
    torch.save({"online": weights(), "average": weights()}, tmp_path / "m.pt")
    with pytest.raises(ValueError, match=r"holds a state dict under each of \['online', 'average'\]"):
        read(tmp_path / "m.pt")


def test_every_weight_that_does_not_fit_is_named(tmp_path):
    given = weights()
    del given["1.bias"]
    torch.save(given | {"3.weight": torch.zeros(2, 4), "head.weight": torch.zeros(1)}, tmp_path / "m.pt")
    with pytest.raises(ValueError) as caught:
        fitted(tmp_path / "m.pt")
    assert str(caught.value).endswith(
        "m.pt does not fit the model of its setting: 1.bias: missing, expected (3,); "
        "3.weight: (2, 4), expected (2, 3); head.weight: (1,), expected nothing"
    )


@pytest.mark.parametrize(("number", "count"), [(float("nan"), 2), (float("inf"), 2), (1e300, 2)])
def test_weights_that_are_not_finite_are_named(tmp_path, number, count):
    bad = weights()["3.weight"].double()
    bad[:, 1] = number
    torch.save(weights() | {"3.weight": bad}, tmp_path / "m.pt")
    with pytest.raises(ValueError, match=rf"3.weight: {count} of 6 numbers are not finite"):
        fitted(tmp_path / "m.pt")


def test_another_kind_of_number_is_refused(tmp_path):
    torch.save(weights() | {"1.bias": torch.zeros(3, dtype=torch.int64)}, tmp_path / "m.pt")
    with pytest.raises(ValueError, match=r"1.bias: torch.int64, expected torch.float32"):
        fitted(tmp_path / "m.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2)], "holds no state dict but a list"),
        ({}, "holds no weights"),
        ({"epoch": 3}, "'epoch' is of type int, expected tensors"),
        ({"model": {"w": torch.zeros(1)}, "state_dict": {"w": torch.zeros(1)}}, "under each of"),
        ({"w": torch.zeros(2).to_sparse()}, "'w' is sparse, quantised or without numbers"),
        ({"w": torch.zeros(2, device="meta")}, "'w' is sparse, quantised or without numbers"),
    ],
    ids=["list", "empty", "numbers", "two", "sparse", "meta"],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(ValueError, match=f"m.pt.*{message}"):
        read(tmp_path / "m.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_a_truncated_file_is_refused_by_name(tmp_path, suffix, share):
    path = tmp_path / f"m{suffix}"
    safetensors.torch.save_file(weights(), path) if suffix == ".safetensors" else torch.save(weights(), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=f"m{suffix} is damaged"):
        read(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_of_something_else_is_refused(tmp_path, suffix):
    (tmp_path / f"m{suffix}").write_bytes(b"<html>not found</html>" * 9)
    with pytest.raises(ValueError, match=f"m{suffix} is damaged"):
        read(tmp_path / f"m{suffix}")


def test_a_file_of_another_name_is_refused(tmp_path):
    (tmp_path / "m.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=r"m.h5 ends in '.h5'; expected one of \['.pt'"):
        read(tmp_path / "m.h5")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("inside", [lambda attack: attack, lambda attack: weights() | {"extra": attack}])
def test_code_in_a_checkpoint_is_not_run(tmp_path, legacy, inside):
    class Attack:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    torch.save(inside(Attack()), tmp_path / "m.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r"m.pt is damaged, or holds code or objects that are not loaded.*state_dict"):
        read(tmp_path / "m.pt")
    assert not (tmp_path / "owned").exists()


def test_a_whole_module_is_refused_with_the_remedy(tmp_path):
    torch.save(module(), tmp_path / "m.pt")
    with pytest.raises(ValueError, match=r"save the weights alone: torch.save\(model.state_dict\(\), path\)"):
        read(tmp_path / "m.pt")


def test_a_file_that_changed_since_the_plan_is_refused(tmp_path):
    torch.save(weights(), tmp_path / "m.pt")
    with pytest.raises(ValueError, match=r"m.pt has SHA-256 .* when this job was planned; run again"):
        adopted(tmp_path / "m.pt", hashlib.sha256(b"").hexdigest(), module)


def test_tracin_says_that_it_needs_learning_rates(members, split):
    stranger = Trained("own", 0, members[0].build, {0: members[0].checkpoints[3]}, {})
    with pytest.raises(ValueError, match="tracin: the learning rates of member own are not known"):
        tracin.prepare(stranger, split)


# --- in a config ---------------------------------------------------------------------------------------------

OWN = {"dataset": "digits", "model": {"kind": "mlp", "hidden": [8], "dropout": 0.1}, "checkpoint": "own/a.pt"}


def config(**changes) -> dict:
    """The tiny config with a checkpoint in place of a recipe, and without retraining."""
    content = yaml.safe_load(TINY)
    del content["methods"]["trak"]
    return content | {
        "settings": {"digits_own": dict(OWN)},
        "ground_truth": {},
        "ensembles": {"independent": {"count": 1}},
    } | changes  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A project folder with two files under own/."""
    (tmp_path / "workflow").symlink_to(Path(__file__).parent.parent / "workflow")
    (tmp_path / "own").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"own/{name}.pt").write_bytes(name.encode())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(folder: Path, content: dict):
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return plan_of(folder)


def test_the_plan_adopts_and_trains_nothing(folder):
    plan = planned(folder, config())
    assert {job.rule for job in plan.room("models")} == {"adopt"}
    job = plan.jobs["models/digits_own/adopted/full-0"]
    assert job.settings["sha256"] == hashlib.sha256(b"a").hexdigest()


def test_member_k_takes_the_kth_file(folder):
    own = {"digits_own": OWN | {"checkpoint": ["own/b.pt", "own/a.pt"]}}
    plan = planned(folder, config(settings=own, ensembles={"independent": {"count": 2, "sizes": [1, 2]}}))
    assert [job.settings["file"] for job in plan.room("models")] == ["own/b.pt", "own/a.pt"]


def test_a_changed_file_changes_the_specs_of_what_depends_on_it(folder):
    both = {"digits_own": OWN, "digits_other": OWN | {"checkpoint": "own/b.pt"}}
    before = planned(folder, config(settings=both))
    (folder / "own/b.pt").write_bytes(b"another")
    after = planned(folder, config(settings=both))
    changed = {stem for stem in before.jobs if before.jobs[stem].digest != after.jobs[stem].digest}
    summaries = {job.stem for job in after.jobs.values() if job.rule in ("summarise", "outcome", "sensitivity", "draw")}
    assert changed - summaries == {stem for stem in before.jobs if "digits_other" in stem}


SUBSETS = {"subsets": {"count": 4, "block": 4}}
WRONG = {
    "missing file": (
        {"settings": {"digits_own": OWN | {"checkpoint": "own/c.pt"}}},
        "settings.digits_own.checkpoint: 'own/c.pt' is no file; expected one relative to /",
    ),
    "no file named": ({"settings": {"digits_own": OWN | {"checkpoint": []}}}, "settings.digits_own.checkpoint: "),
    "neither": (
        {"settings": {"digits_own": OWN | {"checkpoint": None}}},
        "settings.digits_own: 'recipe' missing, how it is trained, or 'checkpoint', the file of a trained model",
    ),
    "both": (
        {"settings": {"digits_own": OWN | {"recipe": {"learning_rate": 0.1, "batch_size": 8, "epochs": 2}}}},
        "settings.digits_own: a setting with a 'checkpoint' is not trained; leave out ['recipe']",
    ),
    "kept epochs": ({"settings": {"digits_own": OWN | {"checkpoints": [2]}}}, "leave out ['checkpoints']"),
    "subsets": (
        {"ground_truth": SUBSETS},
        "ground_truth.subsets: subsets trains from scratch, but settings.digits_own starts from a checkpoint",
    ),
    "leave-one-out": (
        {"ground_truth": {"loo": {"kind": "leave_one_out", "examples": 2}}},
        "ground_truth.loo: leave_one_out trains from scratch, but settings.digits_own",
    ),
    "too many members": (
        {"ensembles": {"independent": {"count": 3}}},
        "ensembles.independent: member 2 (from 0), but settings.digits_own.checkpoint names 1",
    ),
    "parts of the data": (
        {"ensembles": {"halves": {"kind": "independent", "count": 1, "fraction": 0.5}}},
        "ensembles.halves: members see parts of the data, but settings.digits_own starts from a checkpoint",
    ),
    "removal": (
        {"removal": {"methods": ["influence"], "dampings": {"a": 0.01}, "tests": 2}, "ground_truth": SUBSETS},
        "removal: it trains from scratch, but settings.digits_own",
    ),
    "an epoch": ({"methods": {"influence": {"damping": 0.1, "epoch": 2}}}, "settings.digits_own does not keep epoch 2"),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_what_a_checkpoint_cannot_have_is_a_config_error_that_names_it(folder, changes, message):
    with pytest.raises(ConfigError) as caught:
        planned(folder, config(**changes))
    assert any(message in line for line in caught.value.errors), caught.value.errors


def test_a_setting_that_does_not_run_needs_no_file(folder):
    trained = yaml.safe_load(TINY)
    trained["settings"]["digits_own"] = OWN | {"checkpoint": "own/c.pt"}
    planned(folder, trained | {"run": {"settings": ["digits_mlp"]}})


# --- through the pipeline ------------------------------------------------------------------------------------

BLOCK = re.compile(r"```(python|yaml)\n(.*?)```", re.DOTALL)
STUDY = ("--configfile", "studies/own.yaml")


def state(seed: int) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    shapes = {"body.1.weight": (6, 64), "body.1.bias": (6,), "head.weight": (10, 6), "head.bias": (10,)}
    return {name: 0.3 * torch.randn(shape, generator=random) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Project:
    """The example of the docs with two files, one .pt and one .safetensors, after its first run."""
    build, study, *_ = [text for _, text in BLOCK.findall((ROOT / "docs/own_model.md").read_text())]
    files = "[mine/first.pt, mine/second.safetensors]"
    for old, new in {"mine/own.pt": files, "count: 1": "count: 2, sizes: [1, 2], block: 2"}.items():
        assert old in study
        study = study.replace(old, new)
    project = Project.create(tmp_path_factory.mktemp("own") / "project")
    for name, text in {"mine/models/own.py": build, "studies/own.yaml": study}.items():
        (project.folder / name).parent.mkdir(parents=True)
        (project.folder / name).write_text(text)
    project.edit("config.yaml", "damping: [0.01, 0.1]", "damping: [0.01, select]")
    torch.save(state(0), project.folder / "mine/first.pt")
    safetensors.torch.save_file(state(1), project.folder / "mine/second.safetensors")
    project.snakemake(*STUDY)
    return project


def test_scores_are_those_of_the_users_weights(own):
    data = load_arrays(own.folder / "results/data/digits.npz")
    weights = {name: value.double() for name, value in state(0).items()}

    def gradients(x, y):
        rows = []
        for one, label in zip(torch.tensor(np.array(x)).double(), y, strict=True):
            free = {name: value.clone().requires_grad_() for name, value in weights.items()}
            hidden = torch.tanh(free["body.1.weight"] @ one.flatten() + free["body.1.bias"])
            logits = free["head.weight"] @ hidden + free["head.bias"]
            loss = torch.logsumexp(logits, 0) - logits[int(label)]
            rows.append(torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(free.values()))]))
        return torch.stack(rows)

    expected = gradients(data["train_x"], data["train_y"]) @ gradients(data["test_x"], data["test_y"]).T
    (path,) = (own.folder / "results/scores/digits_own/own/grad_dot").glob("*.npz")
    found = np.array(load_arrays(path)["size=1"])
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-6)


def test_the_models_are_the_users_in_order_and_measured(own):
    for place in (0, 1):
        path = own.folder / f"results/models/digits_own/adopted/full-{place}.pt"
        found = load_weights(path)
        assert found["rates"] == {}
        assert equal(found["checkpoints"][0], state(place))
        measured = load_json(path.with_suffix(".json"))
        assert measured["parameters"] == 64 * 6 + 6 + 60 + 10
        assert measured["checkpoints"]["0"].keys() == {"train_loss", "train_accuracy", "test_loss", "test_accuracy"}


def test_the_quality_of_the_users_models_is_printed_beside_a_constant_guess_with_what_to_look_at(own):
    log = (own.folder / "logs/models/digits_own/adopted/full-0.log").read_text()
    line = r"mine/first.pt: training loss [\d.]+ \(a constant guess: [\d.]+\), accuracy 0.\d+ \(a constant guess: 0."
    remark = "WARNING: the training loss is above a constant guess's and the training accuracy is near chance"
    assert re.search(line, log)
    assert "`standardise` of the data set" in log
    assert remark in log
    report = own.run("python", "workflow/commands/report.py", "own").stdout
    assert re.search(f"settings.digits_own: {line}", report)
    assert report.count("mine/first.pt: training loss") == report.count("mine/second.safetensors: training loss") == 1
    assert "WARNING: settings.digits_own: the training loss is above" in report


def test_without_ground_truth_there_are_scores_and_chosen_dampings_and_nothing_to_compare_with(own):
    assert own.planned(*STUDY) == set()
    ensemble = load_json(own.folder / "results/ensembles/digits_own/own.json")
    assert [member["run"] for member in ensemble["members"]] == [None, None]
    (chosen,) = (own.folder / "results/scores/digits_own/own/influence").glob("*/selection.json")
    assert "damping" in chosen.read_text()
    tables = (own.folder / "results/evaluation").rglob("*.csv")
    assert {path.name for path in tables} == {"stability.csv"}  # it compares choices with choices


def test_a_changed_file_reruns_what_depends_on_it(own, tmp_path):
    project = own.copy(tmp_path / "project")
    torch.save(state(2), project.folder / "mine/first.pt")
    planned = project.planned(*STUDY)
    assert "models/digits_own/adopted/full-0" in planned
    assert "models/digits_own/adopted/full-1" not in planned
    assert "data/digits" not in planned
    project.snakemake("models", *STUDY)
    found = load_weights(project.folder / "results/models/digits_own/adopted/full-0.pt")
    assert equal(found["checkpoints"][0], state(2))


def test_a_checkpoint_that_does_not_fit_stops_the_run_with_the_reason(own, tmp_path):
    project = own.copy(tmp_path / "project")
    torch.save(state(0) | {"head.bias": torch.zeros(9)}, project.folder / "mine/first.pt")
    failed = project.snakemake("models", *STUDY, check=False)
    assert failed.returncode != 0
    assert "mine/first.pt does not fit the model of its setting: head.bias: (9,), expected (10,)" in failed.stderr


def test_a_missing_file_stops_snakemake_before_it_begins(own, tmp_path):
    project = own.copy(tmp_path / "project")
    (project.folder / "mine/first.pt").unlink()
    failed = project.snakemake(*STUDY, check=False)
    assert failed.returncode != 0
    assert "config: settings.digits_own.checkpoint: 'mine/first.pt' is no file" in failed.stdout + failed.stderr
