"""BERT by the optional library transformers: tiny, with random weights."""

import sys
from functools import partial

import numpy as np
import pytest
import reference
import torch
from conftest import RECIPE
from test_sequences import phrases

from attriflow import engine
from attriflow.engine import initial_weights
from attriflow.gradients import per_example
from attriflow.models import bert
from attriflow.models._checkpoint import adopted
from attriflow.provenance import sha256
from attriflow.runs import Run

TINY = {"width": 8, "layers": 2, "heads": 2, "inner": 16, "positions": 12}
build = partial(bert.build, (6,), 2, 9, **TINY)


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r"bert needs transformers: pip install 'attriflow\[text\]'"):
        build()


@pytest.mark.parametrize(
    ("shape", "tokens", "options", "message"),
    [
        ((1, 8, 8), 9, {}, r"bert takes sequences .* not inputs \(1, 8, 8\)"),
        ((6,), 0, {}, "with one label each"),
        ((600,), 9, {}, "sequences of 600 tokens, but 512 positions"),
        ((6,), 9, {"heads": 5}, "5 heads do not divide a width of 768"),
    ],
)
def test_what_bert_cannot_take_is_refused(shape, tokens, options, message):
    with pytest.raises(ValueError, match=message):
        bert.build(shape, 2, tokens, **options)


@pytest.mark.text
def test_logits_are_those_of_the_library_and_see_no_padding():
    from transformers import BertForSequenceClassification

    x = torch.from_numpy(phrases()[0])
    model = initial_weights(build, 0, Run("a")).eval()
    theirs = BertForSequenceClassification(model.config).eval()
    theirs.load_state_dict(model.state_dict())
    expected = theirs(input_ids=x, attention_mask=(x != 0).long()).logits
    torch.testing.assert_close(model(x), expected)
    torch.testing.assert_close(model(torch.nn.functional.pad(x, (0, 4))), expected)


@pytest.mark.text
def test_gradients_of_bert_are_those_of_one_backward_pass_an_example():
    x, y = phrases()
    model = initial_weights(build, 0, Run("a")).double().eval()
    gradients, expected = per_example(model, x, y, "loss"), reference.gradients(model, x, y, "loss")
    torch.testing.assert_close(gradients.gram(gradients), expected @ expected.T)


@pytest.mark.text
def test_berts_train_together_as_alone():
    x, y = phrases()
    runs = [Run("a"), Run("b")]
    small = partial(build, dropout=0.1)
    (together,) = engine.train(small, x, y, runs, RECIPE, 0, stack=2)
    for place, run in enumerate(runs):
        alone = reference.train_one(small, x, y, run, RECIPE, 0)
        for name, value in together.state(place, RECIPE["epochs"]).items():
            torch.testing.assert_close(value, alone[name], rtol=1e-3, atol=1e-4)


@pytest.mark.text
def test_a_folder_that_the_library_saved_is_a_checkpoint(tmp_path):
    model = initial_weights(build, 0, Run("a"))
    model.save_pretrained(tmp_path / "tuned")
    path = tmp_path / "tuned/model.safetensors"
    found = adopted(path, sha256(path), build)
    assert found.keys() == model.state_dict().keys()
    assert all(np.array_equal(found[name], value) for name, value in model.state_dict().items())
