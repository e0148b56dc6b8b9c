"""One attribution by one library in a process of its own: python one_run.py LIBRARY METHOD PROBLEM SCORES.

Prints {"seconds": ..., "peak_mib": ...} and writes the scores (n, m) to SCORES. Seconds are those from the loaded model
and data to the scores, imports and files left out. A method of a peer that would take an hour is run on its first
`tests` test examples; seconds are then scaled up to all of them, which `scaled` says.
"""

import json
import resource
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

HERE = Path(__file__).parent
DAMPINGS = np.geomspace(1e-3, 1.0, 10).tolist()
DAMPING = 0.01
PROJ_DIM = 512


class Problem:
    """A trained perceptron and its data, as `attribution.py` saved them."""

    def __init__(self, folder: Path):
        self.folder = folder
        arrays = np.load(folder / "data.npz")
        self.train_x, self.train_y, self.test_x, self.test_y = (
            torch.from_numpy(arrays[name]) for name in ("train_x", "train_y", "test_x", "test_y")
        )
        self.states = torch.load(folder / "weights.pt")
        self.widths = arrays["widths"].tolist()

    def model(self) -> nn.Sequential:
        """The architecture, flat inputs."""
        layers: list[nn.Module] = []
        for a, b in zip(self.widths[:-2], self.widths[1:-1], strict=True):
            layers += [nn.Linear(a, b), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(*self.widths[-2:]))

    def filled(self, member: int) -> nn.Sequential:
        """The architecture with a member's weights."""
        model = self.model()
        model.load_state_dict(self.states[member])
        return model.eval()

    def loaders(self, batch: int, tests: int | None = None):
        """Training and test examples in their order."""
        from torch.utils.data import DataLoader, TensorDataset

        train = TensorDataset(self.train_x, self.train_y)
        test = TensorDataset(self.test_x[:tests], self.test_y[:tests])
        return DataLoader(train, batch_size=batch), DataLoader(test, batch_size=batch)


# --- ours ----------------------------------------------------------------------------------------------------


def ours(problem: Problem, method: str, members: int = 1, cheap: dict | list[dict] | None = None, **costly):
    """Prepare and score; with several cheap points, all of them, and the scores of the first."""
    sys.path.insert(0, str(HERE.parent / "src"))
    from attriflow.data import Split
    from attriflow.models import Trained
    from attriflow.registry import Registry

    nothing, one = np.arange(0), np.float64(1)
    train_y = problem.train_y.numpy()
    split = Split(problem.train_x.numpy(), train_y, problem.test_x.numpy(), problem.test_y.numpy(), train_y,
                  nothing, nothing, 0 * one, one)  # fmt: skip
    trained = [
        Trained(f"full-{place}", 0, problem.model, {1: problem.states[place]}, {1: 1.0}) for place in range(members)
    ]
    module = Registry().load("scores", method)

    def work():
        prepared = [module.prepare(member, split, **costly) for member in trained]
        points = cheap if isinstance(cheap, list) else [cheap or {}]
        every = [list(module.score(prepared, **point))[-1] for point in points]
        return every[0]

    return work


# --- dattri --------------------------------------------------------------------------------------------------


def dattri_task(problem: Problem, members: int = 1, *, single: bool, margin: bool = False):
    """Its task; losses of a batch, or of a single example, as its attributors ask for."""
    from dattri.task import AttributionTask

    model = problem.filled(0)

    def loss(parameters, data):
        x, y = (each[None] if single else each for each in data)
        values = nn.functional.cross_entropy(torch.func.functional_call(model, parameters, (x,)), y)
        if margin:
            p = torch.exp(-values)
            return torch.log(p) - torch.log1p(-p)
        return values

    return AttributionTask(loss_func=loss, model=model, checkpoints=problem.states[:members])


def dattri_grad_dot(problem: Problem, normalised: bool = False):
    """TracIn with one checkpoint of weight 1 and no projection."""
    from dattri.algorithm.tracin import TracInAttributor

    attributor = TracInAttributor(
        dattri_task(problem, single=True), weight_list=torch.ones(1), normalized_grad=normalised
    )
    attributor.projector_kwargs = None  # otherwise it projects to 512 dimensions
    return lambda: attributor.attribute(*problem.loaders(512))


def dattri_inner(problem: Problem, name: str, tests: int, **options):
    """An attributor of its influence family, on some test examples."""
    import dattri.algorithm.influence_function as family

    attributor = getattr(family, name)(dattri_task(problem, single=False), **options)
    train, test = problem.loaders(len(problem.train_y), tests)

    def work():
        attributor.cache(train)
        return attributor.attribute(train, test)

    return work


def dattri_trak(problem: Problem, members: int):
    """TRAK with a Gaussian projection of its own."""
    from dattri.algorithm.trak import TRAKAttributor

    task, model = dattri_task(problem, members, single=True, margin=True), problem.filled(0)

    def probability(parameters, data):
        x, y = data
        logits = torch.func.functional_call(model, parameters, (x[None],))
        return torch.exp(-nn.functional.cross_entropy(logits, y[None]))

    attributor = TRAKAttributor(
        task, probability, projector_kwargs={"proj_dim": PROJ_DIM, "proj_type": "normal", "device": "cpu"},
    )  # fmt: skip
    train, test = problem.loaders(512)

    def work():
        attributor.cache(train)
        return attributor.attribute(test)

    return work


# --- traker, kronfluence -------------------------------------------------------------------------------------


def traker(problem: Problem, members: int):
    """TRAKer in full precision on the processor."""
    from trak import TRAKer
    from trak.projectors import BasicProjector, ProjectionType

    size = sum(parameter.numel() for parameter in problem.model().parameters())
    n, m = len(problem.train_y), len(problem.test_y)
    folder = tempfile.mkdtemp()
    projector = BasicProjector(
        grad_dim=size, proj_dim=PROJ_DIM, seed=0, proj_type=ProjectionType.normal, device="cpu", dtype=torch.float32
    )
    tracer = TRAKer(
        model=problem.filled(0), task="image_classification", train_set_size=n, save_dir=folder, device="cpu",
        projector=projector, proj_dim=PROJ_DIM, use_half_precision=False, logging_level=50,
    )  # fmt: skip
    train, test = problem.loaders(500)

    def work():
        for member in range(members):
            tracer.load_checkpoint(problem.states[member], model_id=member)
            for x, y in train:
                tracer.featurize(batch=(x, y), num_samples=len(y))
        tracer.finalize_features()
        for member in range(members):
            tracer.start_scoring_checkpoint("test", problem.states[member], model_id=member, num_targets=m)
            for x, y in test:
                tracer.score(batch=(x, y), num_samples=len(y))
        return torch.from_numpy(np.asarray(tracer.finalize_scores("test")))

    return work


def kronfluence(problem: Problem):
    """EK-FAC with the empirical Fisher matrix."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task
    from torch.utils.data import TensorDataset

    class Classification(Task):
        def compute_train_loss(self, batch, model, sample=False):
            return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="sum")

        def compute_measurement(self, batch, model):
            return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="sum")

    task = Classification()
    analyzer = Analyzer(
        "bench", prepare_model(problem.filled(0), task), task, cpu=True, disable_tqdm=True, disable_model_save=True,
        output_dir=tempfile.mkdtemp(),
    )  # fmt: skip
    train = TensorDataset(problem.train_x, problem.train_y)
    test = TensorDataset(problem.test_x, problem.test_y)

    def work():
        factors = FactorArguments(strategy="ekfac", use_empirical_fisher=True)
        analyzer.fit_all_factors("f", dataset=train, per_device_batch_size=500, factor_args=factors)
        analyzer.compute_pairwise_scores(
            "s", factors_name="f", query_dataset=test, train_dataset=train, per_device_query_batch_size=len(test),
            per_device_train_batch_size=500, score_args=ScoreArguments(damping_factor=DAMPING),
        )  # fmt: skip
        return analyzer.load_pairwise_scores("s")["all_modules"].T

    return work


# --- the table of runs ---------------------------------------------------------------------------------------

CG_TESTS, DATAINF_TESTS = 50, 10
ONE = {"damping": DAMPING}

# (library, method) -> (function of the problem that makes the work, share of the test examples it does, or None)
RUNS = {
    ("attriflow", "grad_dot"): partial(ours, method="grad_dot"),
    ("dattri", "grad_dot"): dattri_grad_dot,
    ("attriflow", "grad_cos"): partial(ours, method="grad_cos"),
    ("dattri", "grad_cos"): partial(dattri_grad_dot, normalised=True),
    ("attriflow", "sweep"): partial(ours, method="influence", cheap=[{"damping": each} for each in DAMPINGS]),
    ("dattri", "sweep"): partial(dattri_inner, name="IFAttributorCG", tests=CG_TESTS, max_iter=10, regularization=0.1),
    ("attriflow", "datainf"): partial(ours, method="datainf", cheap=ONE),
    ("dattri", "datainf"): partial(
        dattri_inner, name="IFAttributorDataInf", tests=DATAINF_TESTS, regularization=DAMPING
    ),
    ("attriflow", "ekfac"): partial(ours, method="ekfac", cheap=ONE),
    ("kronfluence", "ekfac"): kronfluence,
}
for count in (1, 10):
    point = {"damping": DAMPING, "proj_dim": PROJ_DIM}
    for kind in ("gaussian", "sjlt"):
        RUNS["attriflow", f"trak_{count}_{kind}"] = partial(
            ours, method="trak", members=count, cheap=point, proj_dim=PROJ_DIM, projection=kind
        )
    RUNS["dattri", f"trak_{count}_gaussian"] = partial(dattri_trak, members=count)
    RUNS["traker", f"trak_{count}_gaussian"] = partial(traker, members=count)

# what a peer's run leaves out: dampings × test examples, by which its seconds are multiplied
SCALES = {
    ("dattri", "sweep"): lambda problem: len(DAMPINGS) * len(problem.test_y) / CG_TESTS,
    ("dattri", "datainf"): lambda problem: len(problem.test_y) / DATAINF_TESTS,
}


def main(library: str, method: str, folder: str, scores: str):
    problem = Problem(Path(folder))
    work = RUNS[library, method](problem)
    started = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - started
    np.save(scores, np.asarray(found.detach() if isinstance(found, torch.Tensor) else found, np.float32))
    scale = SCALES.get((library, method), lambda problem: 1)(problem)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds * scale, "scaled": scale, "peak_mib": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:])
