r"""Data value embedding: the effect of every use of an example, carried along the training to its end.

Wang et al. 2024, arXiv:2412.09538. An example z that is used at steps t, in batches $B_t$ at learning rates $\eta_t$,
scores

$$\sum_t \frac{\eta_t}{|B_t|} \; g_{test}^\top \prod_{k=T-1}^{t+1} (I - \eta_k H_k) \; \nabla\ell(\theta_t, z),$$

g_test the gradient at the final model, $H_k$ the curvature of the *mean* loss of batch k. (Where a step takes the sum
over its batch, as in the paper, learning rates are ours / |B_t|.) The paper goes forward in time with an embedding of
each example, and a matrix p × p. Here the m test gradients go backward: their products with the gradients of a batch
are its scores, and a step of their own, $w \leftarrow w - \eta_t H_t w$, takes them before it. Nothing is n × p or
p × p. Gradients of a batch are made row by row: it is smaller than the m test examples, as a rule, and products with
rows are then faster than with factors.

With momentum $\mu$ and weight decay $\lambda$ the step back is that of sgd as it is trained, exactly:
$u \leftarrow \mu u + \eta_t w$, scores $u \cdot \nabla\ell / |B_t|$, $w \leftarrow w - (H_t + \lambda) u$.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from attriflow.curvature import products
from attriflow.data import Split
from attriflow.gradients import Gradients, of_tests, per_example
from attriflow.hyperparameters import Parameters, PositiveInt, Target
from attriflow.memory import Size
from attriflow.models import Trained
from attriflow.scores import running_mean
from attriflow.trajectory import Step, backwards

ACCESS = "training"  # it looks at more than the final model
CHANGES = False  # it walks back along the training, which a member that changes the trained model does not have

# How many times longer test gradients may become on the way back. Fixed on digits (400 examples, perceptrons 64-32-10,
# sgd with momentum .9, inputs and learning rates of several sizes), by the correlation with the scores of the Hessian,
# which are exact: those of the fisher fell from .68 at a growth of 1 to .36 at 4, .15 at 9 and .05 or less from 100 on;
# those of the Gauss-Newton matrix stayed above .92 to a growth of 440, so that its limit is one of precision alone.
_GROWTH = {"fisher": 10.0, "ggn": 1e4, "hessian": 1e4}

# From so many test examples on one random sum of their gradients is walked back first, which says early, at a tenth of
# the cost or less, whether all of them would grow.
_MANY = 50

_BLOCK_BYTES = 256 * 2**20  # of the gradients of a batch that are made at once


def prepare(
    member: Trained,
    split: Split,
    *,
    curvature: Literal["fisher", "ggn", "hessian"] = "fisher",
    epochs: PositiveInt | Literal["all"] = "all",
    parameters: Parameters = "all",
    target: Target = "loss",
) -> dict[str, np.ndarray]:
    """scores (n, m) float32; 0 for an example that was never trained on.

    curvature: of the batches; 'fisher', the mean outer product of their gradients, is the paper's. epochs: the last so
    many are walked back. parameters: the effect through these, the path of the others taken as given.
    Gradients are taken in float64 and without dropout; the way back is in float32 with the fisher, 1e-6 from float64
    after 640 steps, and in float64 with the others. Raises ValueError for an optimiser other than sgd, and as
    `trajectory.backwards` does: the member is trained once more; and where what is walked back grows too long.
    """
    steps = backwards(member, split, epochs)
    _refuse_other_optimisers(member)
    model, dtype = member.model("last", parameters), torch.float32 if curvature == "fisher" else member.dtype
    w = of_tests(model, split, target).to(dtype).dense()  # (m, p)
    if len(w) >= _MANY:
        signs = torch.from_numpy(member.stream("dvemb", "signs").choice([-1.0, 1.0], (1, len(w)))).to(w)
        _walk(member, model, split, curvature, backwards(member, split, epochs), signs @ w)
    return {"scores": _walk(member, model, split, curvature, steps, w).to(torch.float32).numpy(force=True)}


def _walk(member: Trained, model: nn.Module, split: Split, curvature: str, steps: Iterable[Step], w: Tensor) -> Tensor:
    """Scores (n, m) of vectors w (m, p), changed in place. Raises ValueError at the step where they grow too long."""
    # ASSUME: the paper follows plain SGD; the momentum buffer and weight decay of sgd are followed as well.
    momentum, penalty = member.recipe["momentum"], member.recipe["weight_decay"]
    u = torch.zeros_like(w)  # what a unit of gradient does at the step
    scores = w.new_zeros(len(split.train_y), len(w), dtype=torch.float64)
    length = float(w.norm())
    for taken, step in enumerate(steps, 1):
        _fill(model, step.weights)
        u.mul_(momentum).add_(w, alpha=step.rate)
        if penalty:
            w.sub_(u, alpha=penalty)
        if len(step.examples) == 0:
            continue
        rows = step.examples.numpy()  # numpy takes a tensor of one index for a number
        x, y = split.train_x[rows], split.train_y[rows]
        gradients = per_example(model, x, y, "loss").to(w.dtype)
        inner = _times(gradients, u) / len(x)  # (b, m)
        scores[step.examples.to(member.device)] += inner
        if curvature == "fisher":
            _add(w, -inner, gradients)
        else:
            w -= products(curvature, model, x, y, gradients)(u)
        if not (grown := float(w.norm()) / length if length else 1.0) <= _GROWTH[curvature]:
            _refuse_growth(member, curvature, gradients, step.rate, taken, len(split.train_y), grown)
    return scores


def _fill(model: nn.Module, weights: Tensor):
    parameters = list(model.parameters())
    with torch.no_grad():
        for parameter, piece in zip(parameters, weights.split([each.numel() for each in parameters]), strict=True):
            parameter.copy_(piece.view_as(parameter))


def _times(gradients: Gradients, w: Tensor) -> Tensor:
    """Inner products (b, m) of a batch's gradients with vectors w (m, p)."""
    return torch.cat([gradients.take(some).dense() @ w.T for some in _blocks(gradients)])


def _add(w: Tensor, weights: Tensor, gradients: Gradients):
    """Add sums of a batch's gradients, weighted by (b, m), to vectors w (m, p)."""
    for some in _blocks(gradients):
        w.addmm_(weights[some].T, gradients.take(some).dense())


def _blocks(gradients: Gradients) -> Iterator[slice]:
    """Examples of a batch whose gradients may be held at once."""
    step = max(1, _BLOCK_BYTES // (8 * gradients.size))
    for start in range(0, len(gradients), step):
        yield slice(start, start + step)


def _refuse_other_optimisers(member: Trained):
    if member.recipe["optimiser"] != "sgd":
        raise ValueError(
            f"dvemb: member {member.name} was trained by {member.recipe['optimiser']}; the data value embedding "
            f"follows the steps of sgd; use a setting whose recipe says `optimiser: sgd`"
        )


def _refuse_growth(
    member: Trained, curvature: str, gradients: Gradients, rate: float, taken: int, n: int, grown: float
):
    """Raise ValueError with what grows, how far back, and what to do."""
    steps = -(-len(member.run.examples(n, member.seed)) // member.recipe["batch_size"])  # of an epoch
    momentum, reason = member.recipe["momentum"], ""
    if curvature == "fisher":
        largest = float(torch.linalg.eigvalsh(gradients.gram(gradients).double())[-1]) / len(gradients)
        reason = (
            f"; the largest curvature of the batch, {largest:.3g}, times the learning rate is {rate * largest:.3g}; "
            f"steps are stable below 2 (1 + momentum) = {2 * (1 + momentum):.3g}"
        )
    others = "`curvature: ggn`, a lower learning rate" if curvature == "fisher" else "a lower learning rate"
    stable, most = (taken - 1) // steps, _GROWTH[curvature]
    fewer = f", or `epochs` of {stable} or fewer" if stable else ""
    raise ValueError(
        f"dvemb: member {member.name}: walked back by the curvature '{curvature}', test gradients are {grown:.3g} "
        f"times as long {taken} steps before the end of the training as at its end, where at most {most:.3g} "
        f"can be trusted: scores of earlier steps would say nothing{reason}; use {others}{fewer}"
    )


def memory(size: Size, *, curvature: str = "fisher") -> int:
    """Bytes that `prepare` takes at work."""
    rows = 2 * min(_BLOCK_BYTES, 8 * size.n * size.p)
    vectors = 16 * size.m * size.p if curvature == "fisher" else 56 * size.m * size.p + 2**30
    return size.gradients + rows + vectors + 16 * size.n * size.m


def score(members: Iterable[dict[str, np.ndarray]]) -> Iterator[np.ndarray]:
    """The scores (n, m), mean over members."""
    return running_mean(member["scores"] for member in members)
