"""What the numbers of a model say before anything is attributed to it: its quality, beside that of a constant guess."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from attriflow.data import Split
from attriflow.device import inputs
from attriflow.models import built, fill
from attriflow.models._outputs import probabilities, two_logits

_LOOKED_AT = 500  # test examples
_ERRORS = 2  # standard errors by which an accuracy must be above that of one class


def outputs_remark(build: Callable[[], nn.Module], state: dict[str, Tensor], split: Split) -> str:
    """What is odd about a classifier's outputs on test examples; nothing where they may be logits."""
    if split.regression:
        return ""
    module = built(build).eval()
    one = two_logits in module._forward_hooks.values()
    fill(module, state, "that is looked at")
    with torch.no_grad():
        logits = module(inputs(module, split.test_x[:_LOOKED_AT]))
    reason = probabilities(logits, one=one)
    expected = "a logit: leave the Sigmoid out" if one else "logits: leave the Softmax out"
    return f"outputs look like probabilities ({reason}), expected {expected}" if reason else ""


def said(measured: dict[str, float], split: Split) -> str:
    """Loss and accuracy, or R², of a model on both parts, each beside a constant guess's: `train_loss`, ..."""
    guessed = guess(split)
    found = []
    for part, word in (("train", "training"), ("test", "test")):
        figures = [name for name in ("loss", "accuracy", "r2") if f"{part}_{name}" in measured]
        numbers = [f"{name} {measured[f'{part}_{name}']:.3g}{_beside(guessed, part, name)}" for name in figures]
        found.append(f"{word} {', '.join(numbers)}")
    return "; ".join(found)


def quality_remark(measured: dict[str, float], split: Split) -> str:
    """Why a model looks as if it had learned nothing of these data; nothing where it does not."""
    guessed, reasons = guess(split), []
    for part, word, count in (("train", "training", len(split.train_y)), ("test", "test", len(split.test_y))):
        if measured[f"{part}_loss"] > guessed[f"{part}_loss"]:
            reasons.append(f"the {word} loss is above a constant guess's")
        if f"{part}_accuracy" in guessed:
            share = guessed[f"{part}_accuracy"]
            if measured[f"{part}_accuracy"] <= share + _ERRORS * np.sqrt(share * (1 - share) / count):
                reasons.append(f"the {word} accuracy is near chance")
    return " and ".join(reasons)


def guess(split: Split) -> dict[str, float]:
    """Loss, and accuracy of classes, of the guess that is the same for all inputs and best on the training labels."""
    if split.regression:
        centre = float(split.train_y.mean())
        parts = (("train", split.train_y), ("test", split.test_y))
        return {f"{part}_loss": float(np.square(y - centre).mean()) for part, y in parts}
    train, test = (y[y >= 0] for y in (split.train_y, split.test_y))  # without what does not count
    counts = np.bincount(train, minlength=split.classes)
    with np.errstate(divide="ignore"):
        losses = -np.log(counts / counts.sum())
    return {
        name: value
        for part, y in (("train", train), ("test", test))
        for name, value in (
            (f"{part}_loss", float(losses[y].mean())),
            (f"{part}_accuracy", float((y == counts.argmax()).mean())),
        )
    }


def _beside(guessed: dict[str, float], part: str, name: str) -> str:
    return f" (a constant guess: {guessed[f'{part}_{name}']:.3g})" if f"{part}_{name}" in guessed else ""
