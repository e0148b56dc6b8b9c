"""A misspelt word is one error, which names the nearest word that exists."""

import copy
import re

import pytest
import yaml
from conftest import TINY
from test_config import SCHEMA, SETTING, errors

from attriflow.config import ConfigError, check
from attriflow.registry import Registry

NEAREST = {
    "a rule for a damping": (("methods", "influence", "damping", "selct"), "methods.influence.damping", "select"),
    "a rule in a list": (
        ("methods", "trak", {"proj_dim": 4, "damping": [0.1, "mean_mod"]}),
        "methods.trak.damping[1]",
        "mean_mode",
    ),
    "a method of a run": (("run", "methods", ["infulence"]), "run.methods", "influence"),
    "a kind of a method": (("methods", "infulence", {"damping": 0.1}), "methods.infulence", "influence"),
    "a kind of a model": ((*SETTING, "model", {"kind": "mpl"}), "settings.digits_mlp.model.kind", "mlp"),
    "a kind of a truth": (("ground_truth", "subset", {"count": 2}), "ground_truth.subset", "subsets"),
    "a kind of an ensemble": (("ensembles", "dropuot", {"count": 2}), "ensembles.dropuot", "dropout"),
    "a figure": (("run", "figures", ["heatmap"]), "run.figures", "heatmaps"),
    "a setting to skip": (("methods", "grad_dot", {"skip": ["digits_mpl"]}), "methods.grad_dot.skip", "digits_mlp"),
    "an ensemble to score": (
        ("methods", "grad_dot", {"only": {"ensembles": ["independant"]}}),
        "methods.grad_dot.only.ensembles",
        "independent",
    ),
    "a data set": ((*SETTING, "dataset", "digit"), "settings.digits_mlp.dataset", "digits"),
    "a key of the schema": (
        (*SETTING, "recipe", "optimizer", "adam"),
        "settings.digits_mlp.recipe.optimizer",
        "optimiser",
    ),
    "a word of the schema": (
        (*SETTING, "recipe", "optimiser", "adamW"),
        "settings.digits_mlp.recipe.optimiser",
        "adamw",
    ),
    "a word of a kind": (("methods", "influence", "curvature", "fischer"), "methods.influence.curvature", "fisher"),
    "a key of every data set": (
        ("datasets", "digits", "standardize", True),
        "datasets.digits.standardize",
        "standardise",
    ),
    "a key of every ensemble": (("ensembles", "independent", "size", [1]), "ensembles.independent.size", "sizes"),
    "a required key": (("datasets", "digits", {"trian": 60, "test": 12}), "datasets.digits.train", "trian"),
}


@pytest.mark.parametrize(("change", "where", "nearest"), NEAREST.values(), ids=NEAREST)
def test_a_misspelt_word_is_one_error_that_names_the_nearest(change, where, nearest):
    (found,) = errors(*change)
    assert found.startswith(f"{where}: ")
    assert re.search(f"[Dd]id you mean (it by )?'{nearest}'( of the [a-z ]+)?[?]$", found)


def test_a_misspelt_rule_is_answered_with_the_words_that_exist_and_a_misspelt_key_with_where_it_belongs():
    (found,) = errors("methods", "influence", "damping", "selct")
    assert found == (
        "methods.influence.damping: unknown 'selct'; a number, or one of ['select', 'select_0', 'mean_eigenvalue', "
        "'mean_mode', 'effective_dimension']; did you mean 'select'?"
    )
    (found,) = errors("datasets", "digits", "standardize", True)
    assert found == (
        "datasets.digits.standardize: digits takes no hyperparameters, not 'standardize'; did you mean 'standardise' "
        "of the data set?"
    )


def test_a_word_that_is_near_none_is_answered_with_all_there_are():
    (found,) = errors("methods", "qqq", {})
    assert found == f"methods.qqq: unknown scores 'qqq'; known: {sorted(Registry().kinds('scores'))}"
    (found,) = errors("methods", "influence", "damping", "small")
    assert found.startswith("methods.influence.damping: must be a number of at least 0, not 'small'")


REMOVAL = {"methods": ["influence", "trak"], "dampings": {"fixed": 0.1}, "tests": 2, "counts": [2]}


def removal_errors(**changes) -> list[str]:
    config = yaml.safe_load(TINY) | {"removal": REMOVAL} | changes
    with pytest.raises(ConfigError) as caught:
        check(config, SCHEMA)
    return caught.value.errors


def test_a_removal_that_is_left_in_for_a_checkpoint_is_one_error_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.pt").write_bytes(b"weights")
    own = {"own": {"dataset": "digits", "model": {"kind": "mlp"}, "checkpoint": "own.pt"}}
    methods = {"grad_dot": {}, "influence": {"damping": [0.1]}, "trak": {"proj_dim": 4, "damping": [0.1]}}
    alone = {"settings": own, "methods": methods, "ensembles": {"independent": {"count": 1}}}
    (found,) = removal_errors(**alone, ground_truth={})
    assert found == (
        "removal: it trains from scratch, but settings.own starts from a checkpoint and is not trained; write "
        "`removal: null`"
    )
    both = copy.deepcopy(alone)
    both["settings"] |= yaml.safe_load(TINY)["settings"]
    truths = {name: each | {"skip": ["own"]} for name, each in yaml.safe_load(TINY)["ground_truth"].items()}
    (found,) = removal_errors(**both, ground_truth=truths)
    assert found.endswith("['influence', 'trak'] must skip it, or write `removal: null`")


def test_a_removal_of_methods_that_do_not_run_is_one_error_with_the_remedy():
    (found,) = removal_errors(run={"methods": ["grad_dot"]})
    assert found == (
        "removal.methods: none of ['influence', 'trak'] is a method of the run, ['grad_dot']; write `removal: null`"
    )


def test_a_hyperparameter_by_position_is_answered_with_the_way_to_make_it_one(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine.py").write_text("def load(folder, length=3): ...\n")
    config = yaml.safe_load(TINY) | {"plugins": str(tmp_path)}
    config["datasets"]["mine"] = {"train": 9, "test": 2, "length": 4}
    with pytest.raises(ConfigError) as caught:
        check(config, SCHEMA)
    (found,) = caught.value.errors
    assert found.endswith("not 'length'; load takes it by position: write it behind `*`, with an annotation")
