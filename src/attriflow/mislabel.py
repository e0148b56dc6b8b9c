"""Mislabelled examples: how well a number a training example tells those whose label was flipped from the others.

Koh and Liang 2017, arXiv:1703.04730, section 5.4, and Pruthi et al. 2020, arXiv:2002.08484, section 4.1, look for them
by self-influence: large for an example that the rest does not predict. The training loss itself is what any method must
beat. The area under the ROC curve is the chance that a flipped example has the larger number, ties counted half.
"""

import numpy as np
import torch

from attriflow.data import Split
from attriflow.device import inputs, labels
from attriflow.intervals import area
from attriflow.io import expect_finite, expect_shape
from attriflow.models import Trained
from attriflow.outputs import loss


def flipped(split: Split) -> np.ndarray:
    """Which training labels are not the clean ones, (n,). Raises ValueError where none are, or all."""
    found = split.train_y != split.clean_y
    if found.all() or not found.any():
        raise ValueError(
            f"{found.sum()} of {len(found)} training labels are flipped; an AUC needs flipped ones and others"
        )
    return found


def detection(suspicion: np.ndarray, wrong: np.ndarray, confidence: float) -> dict[str, float]:
    """The AUC of numbers (n,) that are high for flipped examples, ties counted half; low and high, the ends of its
    interval (`intervals.area`); and how many of how many labels are flipped.

    Raises ValueError for suspicions that are not finite.
    """
    suspicion = np.asarray(suspicion, np.float64)
    expect_shape("suspicions", suspicion, wrong.shape, "training examples")
    expect_finite("suspicions", suspicion)
    flipped, others = suspicion[wrong], suspicion[~wrong]
    found, below = placements(flipped, others), 1 - placements(others, flipped)
    low, high = area(found, below, confidence)
    counts = {"flipped": len(flipped), "n": len(wrong), "confidence": confidence}
    return {"auc": float(found.mean()), "low": low, "high": high} | counts


def placements(numbers: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The share of `others` (b,) that lies below each of `numbers` (a,), ties counted half, (a,).

    >>> placements(np.array([1.0, 3.0]), np.array([0.0, 1.0]))
    array([0.75, 1.  ])
    """
    ordered = np.sort(others)
    return (np.searchsorted(ordered, numbers, "left") + np.searchsorted(ordered, numbers, "right")) / (2 * len(others))


def losses(member: Trained, split: Split, epoch: int | str) -> np.ndarray:
    """The loss of every training example at its label, flipped or not, after an epoch, (n,)."""
    model = member.model(epoch, part="residuals")
    with torch.no_grad():
        return loss(model(inputs(model, split.train_x)), labels(model, split.train_y)).numpy(force=True)
