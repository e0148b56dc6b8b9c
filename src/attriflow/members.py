"""The members of an ensemble that a job is about: models with their changes, as its spec describes them."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from torch import nn

from attriflow.device import DTYPES
from attriflow.job import Job
from attriflow.models import Trained, load_trained
from attriflow.runs import Run


def of_block(job: Job, build: Callable[[], nn.Module]) -> Iterator[tuple[int, int, Trained]]:
    """Every member of the block, model by model: which model of the ensemble, and which of its members, it is."""
    settings = job.settings
    described = zip(settings["members"], job.inputs("models"), job.adapters(), strict=True)
    for model, (each, path, adapters) in enumerate(described, settings["first"]):
        known = Run.from_dict(each["run"]) if each["run"] else None  # not where the final model is all there is
        trained = load_trained(path, each["name"], job.seed, build, known, settings["recipe"], adapters)
        trained = replace(trained, device=job.device, dtype=DTYPES[settings["dtype"]])
        for number, change in enumerate(each["changes"]):
            yield model, number, trained.changed(change)
