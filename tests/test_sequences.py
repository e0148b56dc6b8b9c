"""Sequences through the whole pipeline: tokens in, a label at every position, a transformer, measured outputs."""

import pandas as pd
import pytest
from conftest import Project

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
