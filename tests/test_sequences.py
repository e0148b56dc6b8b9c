"""Sequences: tokens in, a label at every position or one for all of them, a transformer, measured outputs."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import reference
import torch
from conftest import RECIPE, Project

from attriflow import engine
from attriflow.data import PADDING
from attriflow.engine import initial_weights
from attriflow.gradients import factored_layers, per_example
from attriflow.models import builder, transformer
from attriflow.registry import Registry
from attriflow.runs import Run

pytestmark = pytest.mark.slow

TOKENS = '''"""Sequences of three tokens, each mostly followed by the next one."""

import numpy as np

from attriflow.data import Raw


def load(folder):
    random = np.random.default_rng(0)
    text = np.cumsum(random.choice([0, 1, 2], 601, p=[0.1, 0.8, 0.1])) % 3
    return Raw(text[:-1].reshape(100, 6), text[1:].reshape(100, 6), classes=4)
'''

CONFIG = """
seed: 0
plugins: mine
datasets:
  tokens: {train: 60, test: 12}
settings:
  tokens_transformer:
    dataset: tokens
    model: {kind: transformer, width: 8}
    recipe: {learning_rate: 0.05, momentum: 0.9, batch_size: 16, epochs: 4}
ground_truth:
  subsets: {count: 8, repeats: 1, fraction: 0.5, block: 8}
ensembles:
  halves: {kind: independent, count: 2, fraction: 0.5, sizes: [2], block: 2}
methods:
  ekfac: {damping: 0.01}
  trak: {proj_dim: 8, damping: 0.1}
  datamodel:
evaluation: {resamples: 100}
run: {figures: [examples]}
"""


@pytest.fixture(scope="module")
def sequences(tmp_path_factory) -> Project:
    """A project with sequences, after its first run."""
    project = Project.create(tmp_path_factory.mktemp("sequences") / "project")
    (project.folder / "mine/data").mkdir(parents=True)
    (project.folder / "mine/data/tokens.py").write_text(TOKENS)
    (project.folder / "config.yaml").write_text(CONFIG)
    project.snakemake()
    return project


def test_sequences_run_from_data_to_figures(sequences):
    table = pd.read_csv(sequences.folder / "results/evaluation/summary.csv")
    assert set(table.method) == {"datamodel", "ekfac", "trak"}
    assert (sequences.folder / "results/figures/examples.png").stat().st_size > 0


def test_the_loss_of_a_sequence_and_of_its_last_token_are_measured(sequences):
    table = pd.read_csv(sequences.folder / "results/evaluation/summary.csv")
    assert set(table.output) == {"loss", "margin", "last_token_loss"}
    values = table[table.method == "ekfac"].set_index("output").value
    assert values["loss"] != values["last_token_loss"]


# --- one label for a sequence --------------------------------------------------------------------------------


def phrases(count: int = 24, length: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (N, length) of 2 to `length` of 9 tokens, padded at the end, and labels (N,)."""
    random = np.random.default_rng(0)
    x = random.integers(1, 9, (count, length))
    x[np.arange(length) >= random.integers(2, length + 1, count)[:, None]] = PADDING
    return x, random.integers(0, 2, count)


def classifier(pool: str, length: int = 6) -> torch.nn.Module:
    build = partial(transformer.build, (length,), 2, 9, width=8, layers=2, pool=pool)
    return initial_weights(build, 0, Run("a")).double().eval()


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_a_label_is_read_from_the_words_and_not_from_the_padding(pool):
    """By hand, one sequence at a time, cut where it ends."""
    x, _ = phrases()
    model = classifier(pool)
    found = model(torch.from_numpy(x))
    for row, logits in zip(x, found, strict=True):
        words = torch.from_numpy(row[row != PADDING])
        states = model.norm(model.blocks(model.tokens(words) + model.positions[: len(words)]))
        expected = model.head(states.mean(0) if pool == "mean" else states[-1])
        torch.testing.assert_close(logits, expected)
    assert found.shape == (len(x), 2)


def test_more_padding_changes_nothing():
    x, _ = phrases()
    short, long = classifier("mean", 6), classifier("mean", 10)
    weights = short.state_dict()
    longer = torch.cat([weights["positions"], torch.randn(4, 8).double()])
    long.load_state_dict(weights | {"positions": longer})
    padded = np.pad(x, ((0, 0), (0, 4)), constant_values=PADDING)
    torch.testing.assert_close(long(torch.from_numpy(padded)), short(torch.from_numpy(x)))


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_gradients_of_a_label_for_a_sequence_are_those_of_one_backward_pass_an_example(pool):
    x, y = phrases()
    model = classifier(pool)
    assert {"tokens", "head"} < set(factored_layers(model, torch.from_numpy(x)))
    for output in ("loss", "margin"):
        gradients, expected = per_example(model, x, y, output), reference.gradients(model, x, y, output)
        torch.testing.assert_close(gradients.gram(gradients), expected @ expected.T)


def test_classifiers_of_sequences_train_together_as_alone():
    x, y = phrases()
    build = partial(transformer.build, (6,), 2, 9, width=8, layers=1, dropout=0.1, pool="mean")
    runs = [Run("a"), Run("b")]
    (together,) = engine.train(build, x, y, runs, RECIPE, 0, stack=2)
    for place, run in enumerate(runs):
        alone = reference.train_one(build, x, y, run, RECIPE, 0)
        for name, value in together.state(place, RECIPE["epochs"]).items():
            torch.testing.assert_close(value, alone[name], rtol=1e-4, atol=1e-5)
    measured = engine.measure(build, together.weights[RECIPE["epochs"]], x, y)
    assert measured.keys() == {"loss", "margin"}
    assert measured["loss"].shape == (2, len(x))


def test_the_number_of_tokens_comes_from_the_data():
    entry = {"kind": "transformer", "width": 8, "pool": "last"}
    model = builder(Registry(), entry, (6,), 2, 9)()
    assert (model.tokens.num_embeddings, model.head.out_features) == (9, 2)
    assert builder(Registry(), {"kind": "mlp"}, (6,), 2, 9)()[-1].out_features == 2


@pytest.mark.parametrize(
    ("tokens", "pool", "message"),
    [
        (0, "mean", "sequences with a label at every position need pool 'none', not 'mean'"),
        (9, "none", "sequences with one label need pool 'mean' or 'last', not 'none'"),
    ],
)
def test_a_pool_that_does_not_go_with_the_labels_is_refused(tokens, pool, message):
    with pytest.raises(ValueError, match=message):
        transformer.build((6,), 2, tokens, pool=pool)
