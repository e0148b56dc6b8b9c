"""Ensembles that cannot be are refused before anything runs, in one line that says what would be right."""

import pytest
import yaml
from conftest import TINY
from test_config import SCHEMA

from attriflow.config import ConfigError, check

DROPOUT = {"count": 2, "masks": 3}
ALONE = {"grad_dot": {}, "influence": {"damping": 0.1}, "trak": {"proj_dim": 4, "damping": 0.1}}


def refused(entry: dict, methods: dict | None = None, name: str = "mine", **model) -> list[str]:
    """The errors of the tiny config with one ensemble and these methods, and with changes to its model."""
    config = yaml.safe_load(TINY)
    config["ensembles"] = {name: entry}
    config["methods"] = ALONE if methods is None else methods
    config["settings"]["digits_mlp"]["model"] |= model
    if model.get("kind") == "logistic":
        config["settings"]["digits_mlp"]["model"] = model
    try:
        check(config, SCHEMA)
    except ConfigError as error:
        return error.errors
    return []


SIZES = {
    "no size": ([0], "ensembles.mine.sizes[0]: must be at least 1, not 0"),
    "half a word": (["2x"], "ensembles.mine.sizes[0]: must be a whole number of at least 1, so many models, or a word such as 5x3"),
    "no masks": ([1, "2x0"], "ensembles.mine.sizes[1]: must be a whole number of at least 1"),
    "too many models": (["3x3"], "ensembles.mine.sizes[0]: 3x3 is more than its 2 models"),
    "too many masks": (["2x4"], "ensembles.mine.sizes[0]: 2x4 is more than the 3 members of each model"),
    "a size twice": ([2, "2x3"], "ensembles.mine.sizes: 2 and '2x3' are one size"),
}  # fmt: skip


@pytest.mark.parametrize(("sizes", "message"), SIZES.values(), ids=SIZES)
def test_a_wrong_size_is_refused_with_its_place(sizes, message):
    (found,) = refused({"kind": "dropout"} | DROPOUT | {"sizes": sizes})
    assert found.startswith(message)


def test_sizes_are_numbers_of_models_or_words():
    assert refused({"kind": "dropout"} | DROPOUT | {"sizes": [1, "1x1", "2x1", "2x2", 2]}) == []


WRONG = {
    "no masks": ({"kind": "dropout", "masks": 0}, "ensembles.mine.masks: must be a whole number of at least 1, not 0"),
    "masks not said": ({"kind": "dropout"}, "ensembles.mine.masks: missing; dropout needs it"),
    "no projections": ({"kind": "projection", "projections": 0}, "ensembles.mine.projections: must be a whole number of at least 1, not 0"),
    "a rate of one": ({"kind": "gaussian", "masks": 2, "rate": 1.0}, "ensembles.mine.rate: must be a number from 0 to below 1"),
    "an epoch that is not kept": ({"kind": "checkpoints", "epochs": [2, 3]}, "ensembles.mine.epochs: settings.digits_mlp does not keep epoch 3; its checkpoints: [2, 'last']"),
    "an epoch that is none": ({"kind": "checkpoints", "epochs": ["first"]}, "ensembles.mine.epochs: must be a list, each an epoch that the setting keeps"),
}  # fmt: skip


@pytest.mark.parametrize(("entry", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_ensemble_is_refused_with_the_keys_path(entry, message):
    found = refused(entry)
    assert any(line.startswith(message) for line in found), found


@pytest.mark.parametrize("kind", ["dropout", "dropout_kernel", "gaussian"])
def test_masks_need_dropout_in_the_model(kind):
    (found,) = refused({"kind": kind, "masks": 2}, kind="logistic")
    assert found.startswith(
        "ensembles.mine: settings.digits_mlp has a logistic, which has no nn.Dropout to mask; add layers nn.Dropout(p) to "
        "its `build`"
    )
    (found,) = refused({"kind": kind, "masks": 2}, dropout=0.0)
    assert (
        found
        == "ensembles.mine.rate: settings.digits_mlp has dropout 0, so a mask drops nothing; give a rate, such as 0.1"
    )
    assert refused({"kind": kind, "masks": 2, "rate": 0.1}, dropout=0.0) == []
    assert refused({"kind": kind, "masks": 2, "skip": ["digits_mlp"]}, kind="logistic") == []


def test_projections_and_checkpoints_need_no_dropout():
    assert refused({"kind": "projection", "projections": 2}, kind="logistic") == []
    assert refused({"kind": "checkpoints", "epochs": ["last", 2]}, kind="logistic") == []


def test_a_method_without_residuals_cannot_follow_masks_of_the_forward_pass():
    found = refused({"kind": "dropout_forward"} | DROPOUT)
    assert [line.split(":")[0] for line in found] == ["methods.grad_dot", "methods.influence"]
    assert found[0] == (
        "methods.grad_dot: grad_dot has no residuals, and the members of ensembles.mine differ in these alone; let it "
        "score other ensembles `only`, or that ensemble `skip` its settings; these have residuals: ['trak']"
    )
    config = yaml.safe_load(TINY)
    config["ensembles"]["mine"] = {"kind": "dropout_forward"} | DROPOUT
    only = {"only": {"ensembles": ["independent"]}}
    config["methods"] |= {"grad_dot": only, "influence": {"damping": 0.1} | only}
    check(config, SCHEMA)


@pytest.mark.parametrize("method", ["dvemb", "datamodel"])
def test_a_method_that_scores_trainings_refuses_members_that_change_models(method):
    (found,) = refused({"kind": "dropout"} | DROPOUT, {method: {} if method == "dvemb" else {"penalty": 0.1}})[:1]
    assert found.startswith(f"methods.{method}")


def test_a_member_that_ended_before_the_epoch_of_a_method_is_refused():
    assert refused({"kind": "checkpoints", "epochs": [2]}, {"grad_dot": {"epoch": [2, "last"]}}) == []
    config = yaml.safe_load(TINY)
    config["settings"]["digits_mlp"]["checkpoints"] = [2, 3]
    config["ensembles"]["ends"] = {"kind": "checkpoints", "epochs": ["last", 2]}
    config["methods"]["grad_dot"] = {"epoch": 3}
    with pytest.raises(ConfigError) as caught:
        check(config, SCHEMA)
    assert caught.value.errors == [
        "methods.grad_dot.epoch: ensembles.ends has members that end at epoch 2, before epoch 3; let it score other "
        "ensembles `only`, or take the epoch 'last'"
    ]
