"""Resources: memory and time that a job takes at most, from its plan and the files it reads. No job runs this code.

The memory that `prepare` takes its method says (`attriflow.memory`); what the others take follows from the sizes of
their inputs, with factors that bound what was measured on digits and MNIST. The time is a limit for a cluster: so long
that a job which is at work is not stopped, and so short that one which is stuck does not hold its node for a day. Torch
is imported when a model is measured, not before.

Estimates run in the workflow's own process, so nothing of a job may stop them: where a model or a data set cannot be
measured they are a stated default, and the job itself says what is wrong.
"""

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from attriflow import sizes, specs
from attriflow.plan import Job
from attriflow.registry import Registry
from attriflow.results import HERE, Results

_MB = 10**6
_PLAIN = 320 * _MB  # a fork of the process that has imported the libraries, 262 measured (`attriflow.warm`)
_TORCH = 400 * _MB  # the same with torch: 255 measured, 310 once its libraries for matrices are in use
_UNSAID = 4000 * _MB  # what a method may take that does not say
BESIDE = 500  # MB beside a job of a cluster: two processes of the workflow, 117 measured, and one with the libraries
_COMPARED = 2**22  # pairs of rows that are compared at once, or those of one test example where they are more


@dataclass(frozen=True)
class _Known:
    """What is known of a job before it runs, besides its plan: the kinds, and where the results lie."""

    registry: Registry
    results: Results


def megabytes(job: Job, registry: Registry, results: Results = HERE) -> int:
    """MB of memory (10^6 bytes) that a job takes at most; `_UNSAID` and more where that cannot be estimated.

    Raises FileNotFoundError naming an input that is not there, or is not yet what the plan says.
    """
    known = _Known(registry, results)
    return _estimated(job, "memory", lambda: -(-int(_RULES[job.rule](job, known)) // _MB), (_TORCH + _UNSAID) // _MB)


def minutes(job: Job, registry: Registry, results: Results = HERE) -> int:
    """Minutes after which a job must be stuck: a multiple of what the slowest of its kind took, or a day.

    Raises FileNotFoundError as `megabytes` does.
    """
    known = _Known(registry, results)
    taken = _TIMES.get(job.rule, _reading)
    return _estimated(job, "time", lambda: _LEAST_MINUTES + math.ceil(taken(job, known) / 60), _UNSAID_MINUTES)


class _Missing(Exception):
    """An input of a job is not there, as a store or a file system says it."""


def _estimated(job: Job, what: str, estimate: Callable[[], int], default: int) -> int:
    """An estimate of a job, or its default, with the reason on standard error the first time that there is one."""
    try:
        return estimate()
    except _Missing as error:
        raise error.__cause__ from None
    except Exception as error:  # whatever a model, a method or a data set of the user's raises
        reason = error.reason if isinstance(error, _Unmeasured) else _in_words(error)
        _say_once(f"[{job.stem}] {what} cannot be estimated ({reason}); {default} {_UNITS[what]} are assumed", reason)
        return default


_UNITS = {"memory": "MB", "time": "minutes"}
_said: set[str] = set()


def _in_words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _say_once(line: str, reason: str):
    """A data set that cannot be measured has many jobs."""
    if reason not in _said:
        _said.add(reason)
        print(line, file=sys.stderr)


def _prepare(job: Job, known: _Known) -> int:
    kind, hyperparameters = job.settings["kind"], job.settings["hyperparameters"]
    model = max(_each(job, known, "models"))
    beside = 4 * _bytes(job, known, "data") + 4 * model  # each in float32 and float64; a member at a time
    change = job.settings["members"][0]["changes"][0]
    network, checkpoints = _network(job, known), tuple(job.inputs["models"][0].job.settings["checkpoints"])
    from attriflow.memory import attributed, needed

    parameters = attributed(known.registry, kind, hyperparameters)
    problem = _size(network, parameters, checkpoints, _adapter(change))
    said = needed(known.registry, kind, problem, hyperparameters)
    return _TORCH + beside + (_UNSAID if said is None else said)


def _score(job: Job, known: _Known) -> int:
    n, m = _examples(job.inputs["prepared"][0].job)
    block = max(_each(job, known, "prepared"))
    return _TORCH + 4 * block + 48 * n * m  # a block at a time; six arrays of scores in float64


def _choose(job: Job, known: _Known) -> int:
    return _TORCH + 6 * _bytes(job, known, "prepared")  # spectra of all members in float64


def _train(job: Job, known: _Known) -> int:
    return _training(job, known, runs=1, measured=max(_examples(job)))


def _adopt(job: Job, known: _Known) -> int:
    """The file, the module and a copy, and the outputs of all examples in float64."""
    held = 4 * os.stat(job.settings["file"]).st_size
    return _TORCH + 4 * _bytes(job, known, "data") + held + 16 * _network(job, known).activations * max(_examples(job))


def _adapt(job: Job, known: _Known) -> int:
    """The base model, a copy of it for every adapter of a stack, and what training these takes; then all outputs."""
    network, settings = _network(job, known), job.settings
    from attriflow.engine import MOST_IN_A_STACK, STACK_BYTES

    problem = _size(network, "all", (settings["recipe"]["epochs"],), _adapter(settings))
    stack = min(len(settings["runs"]), MOST_IN_A_STACK, max(1, STACK_BYTES // (12 * problem.p)))
    weights = 4 * network.p + 40 * problem.p
    passes = 8 * network.masked * _examples(job)[0] + 16 * problem.activations * settings["recipe"]["batch_size"]
    held = 4 * _bytes(job, known, "data") + 4 * _bytes(job, known, "model")
    return _TORCH + held + stack * (weights + passes) + 16 * problem.activations * max(_examples(job))


def _adapter(said: dict) -> str:
    """The options of adapters, where there are any, for `network.size`."""
    return json.dumps(said["adapter"]) if "adapter" in said else ""


def _retrain(job: Job, known: _Known) -> int:
    return _training(job, known, runs=len(job.settings["runs"]), measured=_examples(job)[1])


def _training(job: Job, known: _Known, *, runs: float, measured: int) -> int:
    """A stack's weights, gradients and moments, its masks and a batch; then the outputs of all measured examples."""
    network, n, batch = _network(job, known), _examples(job)[0], job.settings["recipe"]["batch_size"]
    from attriflow.engine import MOST_IN_A_STACK, STACK_BYTES

    stack = min(runs, MOST_IN_A_STACK, max(1, STACK_BYTES // (12 * network.p)))
    weights = 4 * network.p * (8 + len(job.settings.get("checkpoints", [])))
    passes = 8 * network.masked * n + 16 * network.activations * batch
    return _TORCH + 4 * _bytes(job, known, "data") + stack * (weights + passes) + 16 * network.activations * measured


def _further(job: Job, known: _Known) -> int:
    """As retraining, with what subtraction passes once more and its masks, in the precision of the training."""
    numbers = 2 if job.settings["precision"] == "float64" else 1
    runs, m = len(job.settings["runs"]), _examples(job)[1]
    losses = 16 * runs * len(job.settings["amounts"]) * m
    return numbers * _training(job, known, runs=runs, measured=m) + losses


def _gather(job: Job, known: _Known) -> int:
    network = _network(job, known)
    rounded = 32 * 24 * network.p + 16 * network.activations * _examples(job)[1]  # the final model, rounded so often
    return _TORCH + 4 * _bytes(job, known, "blocks") + 4 * _bytes(job, known, "data") + rounded


def _evaluate_further(job: Job, known: _Known) -> int:
    """Scores of one adjustment at a time, their ranks, and what leaving out each of the seeds takes."""
    seeds = max(len(source.job.settings["runs"]) for source in job.inputs["truths"])
    m = _examples(job.inputs["truths"][0].job)[1]
    amounts = max(len(source.job.settings["amounts"]) for source in job.inputs["truths"])
    quadratic = 8 * m * seeds * seeds * (6 * amounts + 3) + 8 * 8 * m * amounts * seeds
    return _PLAIN + 2 * _bytes(job, known, "scores") + 12 * _golds(job, known) + quadratic


def _agree(job: Job, known: _Known) -> int:
    return _PLAIN + 16 * _golds(job, known)


def _golds(job: Job, known: _Known) -> int:
    return _bytes(job, known, "truths") + _bytes(job, known, "retrained")


def _convergence(job: Job, known: _Known) -> int:
    network = _network(job, known)
    gradients = 24 * (network.p + 4 * network.activations) * min(500, _examples(job)[0])
    passes = 16 * network.activations * max(_examples(job))
    return _TORCH + 4 * _bytes(job, known, "data") + 4 * _bytes(job, known, "model") + gradients + passes


def _evaluate(job: Job, known: _Known) -> int:
    m = _examples(job.inputs["scores"][0].job.inputs["prepared"][0].job)[1]
    rows = max(len(source.job.settings["runs"][0]) for source in job.inputs["truths"])
    ranks = 24 * max(rows**2, min(_COMPARED, m * rows**2)) + 16 * rows * m * 8
    return _PLAIN + 4 * _bytes(job, known, "scores") + 8 * _bytes(job, known, "truths") + ranks


def _mislabel(job: Job, known: _Known) -> int:
    return _TORCH + 4 * _bytes(job, known, "data") + 4 * _bytes(job, known, "prepared")


def _mislabel_baseline(job: Job, known: _Known) -> int:
    passes = 16 * _network(job, known).activations * _examples(job)[0]
    return _TORCH + 4 * _bytes(job, known, "data") + 4 * _bytes(job, known, "models") + passes


def _mechanism(job: Job, known: _Known) -> int:
    n, m = _examples(job.inputs["prepared"][0].job)
    member = _bytes(job, known, "prepared") // sum(sizes.counts(sizes.read(job.settings["sizes"])))
    return _TORCH + 8 * member + 8 * _bytes(job, known, "truths") + 24 * n * m  # a member at a time


def _collect(job: Job, known: _Known) -> int:
    return _PLAIN + 4 * _bytes(job, known, "blocks")


def _summarise(job: Job, known: _Known) -> int:
    return _PLAIN + 20 * _bytes(job, known, "tables")  # text becomes objects


def _compare(job: Job, known: _Known) -> int:
    return (
        _PLAIN + 20 * (_bytes(job, known, "tables") + _bytes(job, known, "curves")) + 2 * _bytes(job, known, "effects")
    )


def _query(job: Job, known: _Known) -> int:
    """As preparing a member, of which there are two, and scoring it."""
    n = _examples(job)[0]
    return _prepare(job, known) + 2 * 48 * n * 4


def _variance(job: Job, known: _Known) -> int:
    """The reference, a member and what scoring it takes, and the errors that are held."""
    from attriflow.variance import MOST_BYTES

    n, m = _examples(job.inputs["prepared"][0].job)
    member = 4 * max(_each(job, known, "prepared") + _each(job, known, "reference"))
    return _TORCH + member + 2 * MOST_BYTES + 64 * n * m


def _price(job: Job, known: _Known) -> int:
    return (
        _PLAIN
        + 40 * _bytes(job, known, "tables")
        + 6 * _bytes(job, known, "effects")
        + 4 * _bytes(job, known, "described")
    )


def _costs(_job: Job, _known: _Known) -> int:
    return _PLAIN  # what other jobs say of themselves


def _sensitivity(job: Job, known: _Known) -> int:
    return _PLAIN + 20 * _bytes(job, known, "tables") + 2 * _bytes(job, known, "effects")


def _extremes(job: Job, known: _Known) -> int:
    return (
        _PLAIN
        + 20 * _bytes(job, known, "tables")
        + 2 * max(_each(job, known, "scores"))
        + 4 * _bytes(job, known, "data")
    )


def _removal(job: Job, known: _Known) -> int:
    named = 20 * _bytes(job, known, "tables") + max(_each(job, known, "scores"))
    return named + _training(job, known, runs=math.inf, measured=job.settings["tests"])  # a full stack


_RULES = {
    "prepare": _prepare,
    "choose": _choose,
    "score": _score,
    "train": _train,
    "adopt": _adopt,
    "adapt": _adapt,
    "retrain": _retrain,
    "evaluate": _evaluate,
    "mislabel": _mislabel,
    "mislabel_baseline": _mislabel_baseline,
    "mechanism": _mechanism,
    "stability": _choose,
    "collect": _collect,
    "summarise": _summarise,
    "outcome": _summarise,
    "compare": _compare,
    "query": _query,
    "variance": _variance,
    "price": _price,
    "costs": _costs,
    "sensitivity": _sensitivity,
    "extremes": _extremes,
    "removal": _removal,
    "further": _further,
    "gather": _gather,
    "evaluate_further": _evaluate_further,
    "agree": _agree,
    "convergence": _convergence,
}

# --- time ----------------------------------------------------------------------------------------------------

# operations of a core in a second: a third of what training of the MNIST perceptron reaches here
_RATE = 1e10
_STEP = 0.005  # seconds that a step of training takes besides, a millisecond measured
_LEAST_MINUTES = 2  # a busy file system
_UNSAID_MINUTES = 24 * 60  # of a job whose model cannot be measured
_PASSES = 20  # forward and back, that gradients and what is made of them take of every example and checkpoint
_BYTES = 1e7  # of inputs that a job reads and computes with in a second, at every point


def _reading(job: Job, known: _Known) -> float:
    """Arrays that are read, and gone through at every point of a grid."""
    points = len(job.settings.get("cheap", [0])) * len(job.settings.get("sizes", [0]))
    return points * sum(_bytes(job, known, name) for name in job.inputs) / _BYTES


def _measuring(job: Job, known: _Known) -> float:
    """Intervals, beside."""
    return 5 * _reading(job, known) + 20


def _decomposing(job: Job, known: _Known) -> float:
    return _reading(job, known) + _dense(_bytes(job, known, "prepared"))


def _dense(held: float) -> float:
    """Products of the matrices that so many bytes hold, at most, with each other."""
    return 2 * (held / 4) ** 1.5 / _RATE


def _train_time(job: Job, known: _Known) -> float:
    return _training_time(job, known, runs=1, epochs=job.settings["recipe"]["epochs"])


def _retrain_time(job: Job, known: _Known) -> float:
    return _training_time(job, known, runs=len(job.settings["runs"]), epochs=job.settings["recipe"]["epochs"])


def _further_time(job: Job, known: _Known) -> float:
    """Subtraction trains twice; a double takes twice the time."""
    return 4 * _training_time(job, known, runs=len(job.settings["runs"]), epochs=max(job.settings["amounts"]))


def _removal_time(job: Job, known: _Known) -> float:
    settings = job.settings
    runs = len(settings["points"]) * len(settings["counts"]) * settings["repeats"] * settings["tests"]
    return _training_time(job, known, runs=runs, epochs=settings["recipe"]["epochs"])


def _training_time(job: Job, known: _Known, *, runs: int, epochs: float) -> float:
    n, batch = _examples(job)[0], job.settings["recipe"]["batch_size"]
    steps = runs * epochs * -(-n // batch)
    return steps * (_STEP + batch * _network(job, known).flops / _RATE)


def _prepare_time(job: Job, known: _Known) -> float:
    """Gradients of all examples, what a method says it passes besides, and the products of what it holds."""
    settings, network, (n, m) = job.settings, _network(job, known), _examples(job)
    kind, hyperparameters = settings["kind"], settings["hyperparameters"]
    members = sum(len(each["changes"]) for each in settings["members"])
    checkpoints = len(job.inputs["models"][0].job.settings["checkpoints"])
    from attriflow.memory import passes

    passed = _PASSES * checkpoints * (n + m) + n * passes(known.registry, kind, n, m, hyperparameters)
    held = _RULES[job.rule](job, known) - _TORCH
    return members * (passed * network.flops / _RATE + _dense(held))


_TIMES = {
    "train": _train_time,
    "adapt": _retrain_time,
    "retrain": _retrain_time,
    "further": _further_time,
    "removal": _removal_time,
    "prepare": _prepare_time,
    "query": _prepare_time,
    "choose": _decomposing,
    "stability": _decomposing,
    "mechanism": _decomposing,
    "variance": _decomposing,
    "evaluate": _measuring,
    "evaluate_further": _measuring,
    "mislabel": _measuring,
    "mislabel_baseline": _measuring,
    "agree": _measuring,
}


class _Unmeasured(Exception):
    """A model cannot be measured with its data, for a reason."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


def _network(job: Job, known: _Known):
    data = job.inputs["data"][0].job
    file = _here(data, "data", known)
    from attriflow.network import network

    return _measured(network, known.registry, str(file), data.digest, json.dumps(job.settings["model"]))


def _size(of: object, *arguments: object):
    from attriflow import network

    return _measured(network.size, of, *arguments)


_failures: dict[tuple, str] = {}


def _measured(measure: Callable, *arguments: object) -> object:
    """What a measurement gives. Raises _Unmeasured with what it raised, which is kept, as its results are."""
    key = (measure, *arguments)
    if key not in _failures:
        try:
            return measure(*arguments)
        except Exception as error:  # whatever a model raises, also that its own file is not there
            _failures[key] = _in_words(error)
    raise _Unmeasured(_failures[key])


def _here(job: Job, name: str, known: _Known):
    """The file of an output that is up to date: otherwise it may have another shape, or be half of a file."""
    with _missing():
        if not specs.up_to_date(job, known.results):
            raise known.results.missing(job.path(name))
        return known.results.fetch(job.path(name))


@contextmanager
def _missing() -> Iterator[None]:
    """Keeps an input that is not there apart from any other file that is not."""
    try:
        yield
    except FileNotFoundError as error:
        raise _Missing from error


def _examples(job: Job) -> tuple[int, int]:
    """n and m of a job that reads the data."""
    settings = job.inputs["data"][0].job.settings
    return settings["train"], settings["test"]


def _each(job: Job, known: _Known, name: str) -> list[int]:
    with _missing():
        return [known.results.size(source.job.path(source.name)) for source in job.inputs[name]]


def _bytes(job: Job, known: _Known, name: str) -> int:
    return sum(_each(job, known, name))
