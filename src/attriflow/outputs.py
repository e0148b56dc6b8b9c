"""Measured outputs of a model, one number an example: what attribution explains and retraining measures.

A classifier has logits (n, ..., c) and labels (n, ...) of whole numbers; the positions of a sequence, where there are
any, are averaged, without those whose label is `IGNORED`. A regression has outputs (n, 1) and labels (n,) of a floating
dtype: that is what tells them apart.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

IGNORED = -100  # the label of a position that does not count, as torch's cross-entropy has it


class WrongLabel(ValueError):
    """A label that the outputs have no place for, at an example counted from the first of the labels."""

    def __init__(self, example: int, reason: str):
        super().__init__(f"labels: example {example} {reason}")
        self.example, self.reason = example, reason


def logits_only(_module: nn.Module, _inputs: tuple, output: object) -> Tensor:
    """What a model returns, as logits: a forward hook of every model that is built (`models.made`).

    Of a dataclass, named tuple or mapping its `logits`, of another tuple or a list its first entry. Raises TypeError
    where that is no tensor.
    """
    found = output
    if isinstance(output, Mapping):
        found = output.get("logits")
    elif not isinstance(output, Tensor) and hasattr(output, "logits"):
        found = output.logits
    elif isinstance(output, tuple | list):
        found = output[0] if output else None
    if not isinstance(found, Tensor):
        content = f" with {sorted(map(str, output))}" if isinstance(output, Mapping) else ""
        raise TypeError(
            f"the model returns a {type(output).__name__}{content}; expected a tensor of logits, a tuple that begins "
            f"with it, or a mapping or dataclass that has it under `logits`"
        )
    return found


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, or the squared error (f - y)² of a regression, (n,).

    Raises ValueError for a regression with more than one output, and for labels as `check_labels` does.
    """
    if labels.is_floating_point():
        return (only(logits) - labels).square()
    check_labels(logits, labels)
    return mean(-of_labels(torch.log_softmax(logits, -1), labels), labels)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-odds of the right class, log(p / (1 - p)), (n,).

    Park et al. 2023, arXiv:2303.14186, the model output function for classification.
    Raises ValueError for a regression, and for labels as `check_labels` does.
    """
    if labels.is_floating_point():
        raise ValueError("margin: labels are numbers, so there is no right class; a regression has the output 'loss'")
    check_labels(logits, labels)
    others = torch.zeros_like(logits).scatter(-1, _places(labels)[..., None], -torch.inf)
    return mean(of_labels(logits, labels) - torch.logsumexp(logits + others, -1), labels)


def of_labels(values: Tensor, labels: Tensor) -> Tensor:
    """Of values (n, ..., c) those of the labels (n, ...); any number where the label is `IGNORED`."""
    return values.gather(-1, _places(labels)[..., None]).squeeze(-1)


def _places(labels: Tensor) -> Tensor:
    return torch.where(labels == IGNORED, 0, labels).long()


def mean(values: Tensor, labels: Tensor) -> Tensor:
    """The mean (n,) of values (n, ...) over the positions of an example, without those whose label is `IGNORED`."""
    if values.ndim == 1:
        return values
    counted = (labels != IGNORED).flatten(1)
    return torch.where(counted, values.flatten(1), 0).sum(1) / counted.sum(1)


def last_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy at the last position of each sequence whose label is not `IGNORED`, (n,); logits (n, t, c).

    Raises ValueError for logits without positions, and for labels as `check_labels` does.
    """
    if logits.ndim < 3:
        raise ValueError("last_token_loss: the model gives one vector of logits an example, not one a position")
    check_labels(logits, labels)
    counted = (labels != IGNORED).flatten(2).any(2) if labels.ndim > 2 else labels != IGNORED  # (n, t)
    last = (counted * torch.arange(1, counted.shape[1] + 1, device=labels.device)).argmax(1)  # (n,)
    return loss(_at(logits, last), _at(labels, last))


def _at(values: Tensor, places: Tensor) -> Tensor:
    """Of values (n, t, ...) those at one place (n,) of each example, (n, ...)."""
    return values.take_along_dim(places.view(-1, *[1] * (values.ndim - 1)), 1).squeeze(1)


def check_labels(logits: Tensor, labels: Tensor):
    """Raise WrongLabel for the first example whose labels (n, ...) the logits (n, ..., c) have no place for.

    That is a label below 0 or not below c, except `IGNORED` at some, not all, positions of a sequence. Labels that a
    transform of `torch.func` looks at have no values to check; whoever applies it checks them before.
    """
    if torch._C._functorch.is_functorch_wrapped_tensor(labels):
        return
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels are of shape {tuple(labels.shape)}, outputs of shape {tuple(logits.shape)}; expected one label "
            f"for each vector of outputs"
        )
    positions, most = labels.reshape(len(labels), -1), logits.shape[-1] - 1
    ignored = (positions == IGNORED) & (labels.ndim > 1)
    wrong = ((positions < 0) | (positions > most)) & ~ignored
    bad = wrong.any(1) | ignored.all(1)
    if not bool(bad.any()):
        return
    example = int(bad.nonzero()[0])
    if not bool(wrong[example].any()):
        raise WrongLabel(example, f"has {IGNORED} at all its positions, so that nothing of it counts; leave it out")
    value = int(positions[example][wrong[example]][0])
    allowed = f", or {IGNORED} at positions that do not count" if labels.ndim > 1 else ""
    raise WrongLabel(
        example, f"has the label {value}, but the model has {most + 1} outputs; expected 0 to {most}{allowed}"
    )


OUTPUTS = {"loss": loss, "margin": margin, "last_token_loss": last_token_loss}


def measured(logits: Tensor, labels: Tensor) -> list[str]:
    """The outputs that exist: the loss alone of a regression, those of positions only where there are positions."""
    if labels.is_floating_point():
        return ["loss"]
    return [name for name in OUTPUTS if logits.ndim > 2 or name != "last_token_loss"]


def quality(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Mean loss, and the accuracy of a classifier over all positions that count, or R² of a regression.

    R² is 1 - mean squared error / variance of these labels; there is none where they are all the same.
    """
    found = {"loss": float(loss(logits, labels).detach().mean())}
    if not labels.is_floating_point():
        counted = labels != IGNORED
        return found | {"accuracy": float((logits.argmax(-1) == labels)[counted].double().mean())}
    spread = float(labels.var(correction=0))
    return found | ({"r2": 1 - found["loss"] / spread} if spread > 0 else {})


def only(outputs: Tensor) -> Tensor:
    """The output (n,) of a regression (n, 1). Raises ValueError where there are several."""
    if outputs.ndim == 0 or outputs.shape[-1] != 1:
        found = outputs.shape[-1] if outputs.ndim else "a number without an axis"
        raise ValueError(f"loss: labels are numbers, so the model must have 1 output an example, not {found}")
    return outputs.squeeze(-1)
