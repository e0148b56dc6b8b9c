"""The slow, obvious way: loops over examples, explicit matrices, one model at a time."""

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from attriflow.engine import initial_weights, order
from attriflow.engine.optimisers import learning_rate
from attriflow.outputs import OUTPUTS, loss
from attriflow.runs import Run
from attriflow.streams import stream

TORCH_OPTIMISERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class Masked(nn.Module):
    """A dropout layer whose mask is set from outside."""

    mask = None

    def forward(self, x):
        return x * self.mask


def train_one(build, x, y, run: Run, recipe: dict, seed: int, before: int | None = None) -> dict[str, torch.Tensor]:
    """One model, one batch after the other, with torch.optim and the run's streams; its state dict.

    before: the step (from 0) that is not taken any more; None takes all.
    """
    model = initial_weights(build, seed, run)
    sites = dropout_sites(model, x)
    for name in sites:
        model.set_submodule(name, Masked())
    options = {"lr": recipe["learning_rate"], "weight_decay": recipe["weight_decay"]}
    if recipe["optimiser"] == "sgd":
        options["momentum"] = recipe["momentum"]
    optimiser = TORCH_OPTIMISERS[recipe["optimiser"]](model.parameters(), **options)
    examples = run.examples(len(x), seed)
    starts = range(0, len(examples), recipe["batch_size"])
    for epoch in range(1, recipe["epochs"] + 1):
        visited = order(seed, run, examples, epoch)
        masks = {
            name: dropout_mask(seed, run, epoch, place, rate, (len(examples), *shape))
            for place, (name, (rate, shape)) in enumerate(sites.items())
        }
        for step, start in enumerate(starts):
            if (epoch - 1) * len(starts) + step == before:
                return {name: value.detach() for name, value in model.state_dict().items()}
            rows = visited[start : start + recipe["batch_size"]]
            for name, factors in masks.items():
                model.get_submodule(name).mask = factors[start : start + recipe["batch_size"]]
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(recipe, (epoch - 1) * len(starts) + step, recipe["epochs"] * len(starts))
            optimiser.zero_grad()
            losses = loss(model(torch.from_numpy(x[rows])), torch.from_numpy(y[rows]))
            kept = torch.tensor([row not in run.left_out for row in rows.tolist()])
            (losses * kept).sum().div(max(int(kept.sum()), 1)).backward()
            optimiser.step()
    return {name: value.detach() for name, value in model.state_dict().items()}


def dropout_sites(model: nn.Module, x: np.ndarray) -> dict[str, tuple[float, tuple[int, ...]]]:
    """name -> rate and shape of what each dropout layer masks, in the order of a forward pass."""
    found = {}
    if not any(isinstance(layer, nn.Dropout) for layer in model.modules()):
        return found  # a pass may change buffers
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Dropout):
            layer.register_forward_pre_hook(
                lambda layer, inputs, name=name: found.update({name: (layer.p, tuple(inputs[0].shape[1:]))})
            )
    model(torch.from_numpy(x[:1]))
    return found


def dropout_mask(seed: int, run: Run, epoch: int, place: int, rate: float, shape: tuple[int, ...]) -> torch.Tensor:
    """A dropout layer's factors for the ordered examples of an epoch: 16-bit numbers below the rate drop."""
    drawn = stream(seed, run.stream, "dropout", epoch, place).integers(0, 2**16, size=shape, dtype=np.uint16)
    return torch.from_numpy((drawn >= round(rate * 2**16)) * np.float32(1 / (1 - rate)))


def gradients(model, x, y, output: str) -> torch.Tensor:
    """Per-example gradients (n, p) in the order of the parameters, one backward pass an example."""
    rows = []
    x = torch.from_numpy(x)
    for one, label in zip(x.double() if x.is_floating_point() else x, torch.from_numpy(y), strict=True):
        model.zero_grad()
        OUTPUTS[output](model(one[None]), label[None]).sum().backward()
        rows.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]).clone())
    return torch.stack(rows)


def hessian(model, x, y) -> torch.Tensor:
    """Hessian (p, p) of the mean loss by double differentiation of the flattened parameters."""
    names, shapes = zip(*[(name, p.shape) for name, p in model.named_parameters()], strict=True)
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])

    def mean_loss(vector):
        pieces = vector.split([shape.numel() for shape in shapes])
        state = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
        return loss(functional_call(model, state, (torch.from_numpy(x).double(),)), torch.from_numpy(y)).mean()

    return torch.autograd.functional.hessian(mean_loss, flat)


def gauss_newton(model, x, y) -> torch.Tensor:
    """(1/n) sum of JᵀSJ, an explicit Jacobian an example."""
    total = 0
    for one in torch.from_numpy(x).double():
        model.zero_grad()
        logits = model(one[None])[0]
        rows = [torch.autograd.grad(each, list(model.parameters()), retain_graph=True) for each in logits]
        jacobian = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
        p = torch.softmax(logits, -1).detach()
        total = total + jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian
    return total / len(x)


def influence(curvature: torch.Tensor, train: torch.Tensor, test: torch.Tensor, damping: float) -> torch.Tensor:
    """(n, m), an explicit inverse; an indefinite curvature by the absolute values of its eigenvalues."""
    values, vectors = torch.linalg.eigh(curvature)
    inverse = vectors @ torch.diag(1 / (values.abs() + damping)) @ vectors.T
    return train @ inverse @ test.T


def moments(train: torch.Tensor, test: torch.Tensor, dampings: list[float]) -> torch.Tensor:
    """(5, d, m): g C (C + damping I)^-k g, C = GᵀG / n, explicitly, from gradients (n, p) and (m, p)."""
    curvature = train.T @ train / len(train)
    found = []
    for damping in dampings:
        inverse = torch.linalg.inv(curvature + damping * torch.eye(len(curvature), dtype=curvature.dtype))
        powers = [torch.linalg.matrix_power(inverse, k) for k in range(5)]
        found.append(torch.stack([torch.einsum("mp,pq,mq->m", test, curvature @ power, test) for power in powers]))
    return torch.stack(found, 1)


def trak(members: list[dict], damping: float) -> torch.Tensor:
    """(n, m) from explicitly projected gradients: members hold train (n, k), test (m, k), probabilities (n,)."""
    kernels, residuals = [], []
    for member in members:
        n, k = member["train"].shape
        matrix = member["train"].T @ member["train"] / n + damping * torch.eye(k, dtype=torch.float64)
        kernels.append(member["train"] @ torch.linalg.inv(matrix) @ member["test"].T)
        residuals.append(1 - member["probabilities"])
    return torch.stack(kernels).mean(0) * torch.stack(residuals).mean(0)[:, None]


def sparse_projection(gradients, random, dimension: int) -> torch.Tensor:
    """The whole sparse projection (p, dimension): an entry ± 8 a coordinate and block of 64 columns."""
    rows = []
    for part in gradients.parts:
        matrix = torch.zeros(part.size, -(-dimension // 64), 64, dtype=torch.float64)
        inner = part.size if type(part).__name__ == "Rows" else part.grain
        outer = part.size // inner
        for block in range(matrix.shape[1]):
            draws = random("projection", part.name, "sjlt", block)
            drawn = []
            # the table of an embedding comes first, the output of any other layer last
            counts = [inner] if outer == 1 else [outer, inner] if hasattr(part, "index") else [inner, outer]
            for count in counts:
                drawn.append((draws.integers(0, 64, count), draws.integers(0, 2, count) * 2 - 1))
            if outer == 1:
                (places, signs), (more, others) = drawn[0], (np.zeros(1, int), np.ones(1))
            else:
                (places, signs), (more, others) = drawn[::-1] if hasattr(part, "index") else drawn
            for o in range(outer):
                for i in range(inner):
                    matrix[o * inner + i, block, (places[i] + more[o]) % 64] = 8.0 * signs[i] * others[o]
        rows.append(matrix.flatten(1)[:, :dimension])
    return torch.cat(rows)


def projection(gradients, random, dimension: int) -> torch.Tensor:
    """The whole Gaussian projection (p, dimension) in the order of the gradients' coordinates."""
    rows = []
    for part in gradients.parts:
        for unit in range(-(-part.size // part.grain)):
            columns = [
                random("projection", part.name, unit, block).standard_normal((part.grain, 256), np.float32)
                for block in range(-(-dimension // 256))
            ]
            rows.append(np.concatenate(columns, 1)[: part.size - unit * part.grain, :dimension])
    return torch.from_numpy(np.concatenate(rows)).double()


def datainf(train: list[torch.Tensor], test: list[torch.Tensor], damping: float, relative: bool) -> torch.Tensor:
    """(n, m) from gradients (n, s) and (m, s) of every layer: an explicit inverse for every training example."""
    total = 0
    for mine, theirs in zip(train, test, strict=True):
        damped = damping * mine.square().mean() if relative else damping
        identity = torch.eye(mine.shape[1], dtype=torch.float64)
        inverses = [torch.linalg.inv(torch.outer(g, g) + damped * identity) for g in mine]
        total = total + mine @ (sum(inverses) / len(mine)) @ theirs.T
    return total


def ekfac(layers: list[dict], damping: float, relative: bool) -> torch.Tensor:
    """(n, m) from explicit bases (s, s) of every layer.

    Layers hold train (n, s) and test (m, s) gradients; `rows`, gradients (n, s) for each labelling of the training
    examples with its probabilities (n,); and factors: inputs `a` (n, t, in), and `b` (n, t, out) for each labelling,
    or neither and whether the block is `exact`.
    """
    total = 0
    for layer in layers:
        if "a" in layer:
            second = sum(torch.outer(a, a) for example in layer["a"] for a in example)
            first = 0
            for probabilities, b in layer["b"]:
                for probability, example in zip(probabilities, b, strict=True):
                    first = first + probability * sum(torch.outer(each, each) for each in example)
            basis = torch.kron(torch.linalg.eigh(first).eigenvectors, torch.linalg.eigh(second).eigenvectors)
        elif layer["exact"]:
            basis = torch.linalg.eigh(sum(rows.T @ (w[:, None] * rows) for w, rows in layer["rows"])).eigenvectors
        else:
            basis = torch.eye(layer["train"].shape[1], dtype=torch.float64)
        spectrum = sum(w @ (rows @ basis).square() for w, rows in layer["rows"]) / len(layer["train"])
        damped = damping * spectrum.mean() if relative else damping
        inverse = basis @ torch.diag(1 / (spectrum + damped)) @ basis.T
        total = total + layer["train"] @ inverse @ layer["test"].T
    return total


def logra(
    train: list[torch.Tensor], test: list[torch.Tensor], matrices: list[torch.Tensor], damping: float, relative: bool
) -> torch.Tensor:
    """(n, m) from gradients (n, s), (m, s) and explicit projections (s, k) of every layer, by explicit inverses."""
    total = 0
    for mine, theirs, matrix in zip(train, test, matrices, strict=True):
        mine, theirs = mine @ matrix, theirs @ matrix
        fisher = sum(torch.outer(g, g) for g in mine) / len(mine)
        damped = damping * fisher.trace() / len(fisher) if relative else damping
        total = total + mine @ torch.linalg.inv(fisher + damped * torch.eye(len(fisher))) @ theirs.T
    return total


def curvature(kind: str, model, x, y) -> torch.Tensor:
    """Curvature (p, p) of the mean loss in the order of the parameters, of sequences too: explicit Jacobians."""
    if kind == "fisher":
        rows = gradients(model, x, y, "loss")
        return rows.T @ rows / len(rows)
    names, shapes = zip(*[(name, p.shape) for name, p in model.named_parameters()], strict=True)
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    x = torch.from_numpy(x).double() if x.dtype.kind == "f" else torch.from_numpy(x)

    def logits(vector):
        pieces = vector.split([shape.numel() for shape in shapes])
        state = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
        return functional_call(model, state, (x,))

    if kind == "hessian":
        return torch.autograd.functional.hessian(lambda vector: loss(logits(vector), torch.from_numpy(y)).mean(), flat)
    jacobians = torch.autograd.functional.jacobian(logits, flat).flatten(0, -3)  # (predictions, c, p)
    predicted = logits(flat).detach().flatten(0, -2)
    middle = [torch.eye(1).double() * 2 if y.dtype.kind == "f" else softmax_hessian(z) for z in predicted]
    return sum(j.T @ s @ j for j, s in zip(jacobians, middle, strict=True)) / len(jacobians)


def softmax_hessian(logits: torch.Tensor) -> torch.Tensor:
    """(c, c): the second derivative of the cross-entropy by the logits (c,)."""
    p = torch.softmax(logits, -1)
    return torch.diag(p) - torch.outer(p, p)


def conjugate_gradients(curvature: torch.Tensor, test: torch.Tensor, damping: float, steps: int) -> torch.Tensor:
    """(m, p): (C + damping I)⁻¹ g for every test gradient g, by the textbook loop from 0, stopped once it is solved."""
    solutions = []
    for g in test:
        x, residual, direction = torch.zeros_like(g), g.clone(), g.clone()
        for _ in range(steps):
            image = curvature @ direction + damping * direction
            size = residual @ residual / (direction @ image)
            x, before = x + size * direction, residual
            residual = residual - size * image
            if residual.norm() < 1e-13 * g.norm():
                break
            direction = residual + residual @ residual / (before @ before) * direction
        solutions.append(x)
    return torch.stack(solutions)


def galerkin(curvature: torch.Tensor, starts: torch.Tensor, test: torch.Tensor, damping: float, steps: int):
    """(m, p): the damped absolute inverse of C within the span of C^j b, j < steps, times each test gradient.

    starts (m, p): the vector b of each test gradient.
    """
    solutions = []
    for b, g in zip(starts, test, strict=True):
        powers = [b / b.norm()]
        for _ in range(1, steps):
            powers.append(curvature @ powers[-1])
            powers[-1] = powers[-1] / powers[-1].norm()
        basis, _ = torch.linalg.qr(torch.stack(powers, 1))
        values, vectors = torch.linalg.eigh(basis.T @ curvature @ basis)
        vectors = basis @ vectors
        solutions.append(vectors @ (vectors.T @ g / (values.abs() + damping)))
    return torch.stack(solutions)


def dominant(curvature: torch.Tensor, train: torch.Tensor, test: torch.Tensor, damping: float, rank: int):
    """(n, m) within the `rank` eigenvectors of the largest absolute eigenvalues."""
    values, vectors = torch.linalg.eigh(curvature)
    kept = values.abs().argsort(descending=True)[:rank]
    return (train @ vectors[:, kept] / (values[kept].abs() + damping)) @ (test @ vectors[:, kept]).T


def lissa(curvatures: list[torch.Tensor], minibatches, v: torch.Tensor, damping: float, scale: float) -> torch.Tensor:
    """(m, p): the recursion on explicit curvatures of single examples, one test gradient and step at a time."""
    solutions = []
    for g in v:
        r = g
        for rows in minibatches:
            matrix = torch.stack([curvatures[row] for row in rows]).mean(0) + damping * torch.eye(len(g)).double()
            r = g + r - matrix @ r / scale
        solutions.append(r / scale)
    return torch.stack(solutions)


def steps(x, run: Run, recipe: dict, seed: int):
    """The weighted examples, the learning rate and the epoch of every step of a run."""
    examples = run.examples(len(x), seed)
    per_epoch = -(-len(examples) // recipe["batch_size"])
    for step in range(per_epoch * recipe["epochs"]):
        epoch, place = step // per_epoch + 1, step % per_epoch * recipe["batch_size"]
        rows = order(seed, run, examples, epoch)[place : place + recipe["batch_size"]]
        rate = learning_rate(recipe, step, per_epoch * recipe["epochs"])
        yield [row for row in rows.tolist() if row not in run.left_out], rate, epoch


def data_value_embedding(member, split, kind: str, skipped: int = 0, kept=slice(None)) -> torch.Tensor:
    """(n, m): every use of every example behind the skipped epochs goes forward in time, through explicit matrices.

    kept: the parameters that it goes through.
    """
    model, run, recipe = member.model(), member.run, member.recipe
    test = gradients(model, split.test_x, split.test_y, "loss")[:, kept]
    # what a little more weight of an example changes: the parameters and the momentum buffer, (n, p)
    moved = torch.zeros(len(split.train_x), test.shape[1], dtype=torch.float64)
    buffer = torch.zeros_like(moved)
    for step, (rows, rate, epoch) in enumerate(steps(split.train_x, run, recipe, member.seed)):
        if epoch <= skipped:
            continue
        model.load_state_dict(train_one(member.build, split.train_x, split.train_y, run, recipe, member.seed, step))
        matrix = recipe["weight_decay"] * torch.eye(test.shape[1], dtype=torch.float64)
        if rows:
            matrix += curvature(kind, model, split.train_x[rows], split.train_y[rows])[kept, kept]
        buffer = recipe["momentum"] * buffer + moved @ matrix
        for row in rows:
            own = gradients(model, split.train_x[[row]], split.train_y[[row]], "loss")[0, kept]
            buffer[row] += own / len(rows)
        moved = moved - rate * buffer
    return -moved @ test.T


def weighted_sgd(model, split, steps, weights: torch.Tensor, momentum: float, decay: float) -> torch.Tensor:
    """Test losses (m,) after float64 steps in which the gradient of example i counts `weights[i]`, without dropout."""
    model = model.train(False)
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0, momentum=momentum, weight_decay=decay)
    for rows, rate, _ in steps:
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        losses = loss(model(torch.from_numpy(split.train_x[rows]).double()), torch.from_numpy(split.train_y[rows]))
        (losses * weights[rows]).mean().backward()
        optimiser.step()
    with torch.no_grad():
        return loss(model(torch.from_numpy(split.test_x).double()), torch.from_numpy(split.test_y))


def further_one(build, weights, split, run: Run, recipe: dict, seed: int, steps: list[int], estimator: str, dropout):
    """Test losses (len(steps), m) of one run that trains on from `weights`, one float32 batch after the other."""
    model = build()
    model.load_state_dict(weights)
    sites = dropout_sites(model, split.train_x)
    for name in sites:
        model.set_submodule(name, Masked())
    options = {"lr": recipe["learning_rate"], "weight_decay": recipe["weight_decay"]}
    if recipe["optimiser"] == "sgd":
        options["momentum"] = recipe["momentum"]
    optimiser = TORCH_OPTIMISERS[recipe["optimiser"]](model.parameters(), **options)
    x, y = torch.from_numpy(split.train_x), torch.from_numpy(split.train_y)
    n, batch, found, taken = len(x), recipe["batch_size"], [], 0

    def losses(rows, masks: list[torch.Tensor]):
        for name, mask in zip(sites, masks, strict=True):
            model.get_submodule(name).mask = mask if dropout else 1.0
        return loss(model(x[rows]), y[rows])

    for epoch in range(1, max(steps) + 1):
        visited = [int(row) for row in order(seed, run, np.arange(n), epoch)]
        factors = [
            dropout_mask(seed, run, epoch, place, rate, (n, *shape))
            for place, (rate, shape) in enumerate(sites.values())
        ]
        places = [place for place, row in enumerate(visited) if estimator == "subtraction" or row not in run.left_out]
        for step, start in enumerate(range(0, len(places), batch)):
            here = places[start : start + batch]
            objective = losses([visited[place] for place in here], [mask[here] for mask in factors]).mean()
            if estimator == "subtraction" and run.left_out:
                own = []
                for place, (rate, shape) in enumerate(sites.values()):
                    random = stream(seed, run.stream, "dropout", epoch, place, "left out")
                    drawn = random.integers(0, 2**16, size=(-(-n // batch), *shape), dtype=np.uint16)[[step]]
                    own.append(torch.from_numpy((drawn >= round(rate * 2**16)) * np.float32(1 / (1 - rate))))
                objective = objective - losses(list(run.left_out), own).sum() / n
            optimiser.zero_grad()
            objective.backward()
            optimiser.step()
            taken += 1
            if taken in steps:
                final = build().double().eval()
                final.load_state_dict(model.state_dict())
                with torch.no_grad():
                    logits = final(torch.from_numpy(split.test_x).double())
                    found.append(loss(logits, torch.from_numpy(split.test_y)))
                if len(found) == len(steps):
                    return torch.stack(found).numpy()
    raise AssertionError("not enough epochs")
