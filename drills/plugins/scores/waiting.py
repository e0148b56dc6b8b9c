"""Scores by the length of the training gradient, in whose jobs a drill can act.

While a file `hold` lies in the folder that names one of their two steps, its jobs wait, the scores when a part of them
is written already; the file `held` says which process waits. A file `hungry` says how many bytes of memory the scores
take.
"""

import os
import time
from pathlib import Path

import numpy as np

from attriflow.gradients import per_example
from attriflow.hyperparameters import Positive
from attriflow.scores import running_mean


def prepare(member, split):
    """Squared norms (n,)."""
    _wait("prepare")
    norms = per_example(member.model(), split.train_x, split.train_y, "loss").squared_norms().numpy()
    return {"norms": norms, "m": split.test_y}


def score(members, *, power: Positive = 0.5):
    """The norms to a power, for every test example (n, m); at the power 1 a drill may act."""
    if power == 1:
        _wait("score")
        if Path("hungry").exists():
            np.ones(int(Path("hungry").read_text()), np.uint8)
    return running_mean(member["norms"][:, None] ** power + 0 * member["m"] for member in members)


def _wait(step: str):
    hold = Path("hold")
    if hold.exists() and hold.read_text() == step:
        Path("held").write_text(str(os.getpid()))
        while hold.exists():
            time.sleep(0.02)
