"""Mislabelled examples: how well a number a training example tells those whose label was flipped from the others.

Koh and Liang 2017, arXiv:1703.04730, section 5.4, and Pruthi et al. 2020, arXiv:2002.08484, section 4.1, look for them
by self-influence: large for an example that the rest does not predict. The training loss itself is what any method must
beat. The area under the ROC curve is the chance that a flipped example has the larger number, ties counted half.
"""

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from attriflow.data import Split
from attriflow.device import inputs, labels
from attriflow.io import expect_finite, expect_shape
from attriflow.models import Trained
from attriflow.outputs import loss
from attriflow.streams import stream


def flipped(split: Split) -> np.ndarray:
    """Which training labels are not the clean ones, (n,). Raises ValueError where none are, or all."""
    found = split.train_y != split.clean_y
    if found.all() or not found.any():
        raise ValueError(
            f"{found.sum()} of {len(found)} training labels are flipped; an AUC needs flipped ones and others"
        )
    return found


def resampled(wrong: np.ndarray, count: int, seed: int) -> np.ndarray:
    """How often each example is drawn in each of `count` bootstrap resamples, (count, n); the same for every method.

    Flipped examples are drawn among the flipped ones, the others among the others: every resample has as many of each.
    """
    random = stream(seed, "mislabel", "bootstrap", len(wrong), int(wrong.sum()))
    drawn = np.empty((count, len(wrong)), np.float32)
    for part in (wrong, ~wrong):
        drawn[:, part] = random.multinomial(part.sum(), np.full(part.sum(), 1 / part.sum()), count)
    return drawn


def detection(suspicion: np.ndarray, wrong: np.ndarray, drawn: np.ndarray, confidence: float) -> dict[str, float]:
    """The AUC of numbers (n,) that are high for flipped examples; low and high, the ends of its bootstrap interval; and
    how many of how many labels are flipped."""
    suspicion = np.asarray(suspicion, np.float64)
    expect_shape("suspicions", suspicion, wrong.shape, "training examples")
    expect_finite("suspicions", suspicion)
    low, high = np.quantile(_aucs(suspicion, wrong, drawn), [(1 - confidence) / 2, (1 + confidence) / 2])
    found = {"auc": float(roc_auc_score(wrong, suspicion)), "low": float(low), "high": float(high)}
    return found | {"flipped": int(wrong.sum()), "n": len(wrong), "confidence": confidence}


def _aucs(suspicion: np.ndarray, wrong: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The AUC of every resample (count,): the others, drawn so often, that lie below each flipped example."""
    order = np.argsort(suspicion[~wrong])
    below = np.pad(np.cumsum(drawn[:, ~wrong][:, order], axis=1), ((0, 0), (1, 0)))  # (count, others + 1)
    others = suspicion[~wrong][order]
    first, last = (np.searchsorted(others, suspicion[wrong], side) for side in ("left", "right"))
    wins = ((below[:, first] + below[:, last]) / 2 * drawn[:, wrong]).sum(1, dtype=np.float64)
    return wins / (wrong.sum() * (~wrong).sum())


def losses(member: Trained, split: Split, epoch: int | str) -> np.ndarray:
    """The loss of every training example at its label, flipped or not, after an epoch, (n,)."""
    model = member.model(epoch, part="residuals")
    with torch.no_grad():
        return loss(model(inputs(model, split.train_x)), labels(model, split.train_y)).numpy(force=True)
