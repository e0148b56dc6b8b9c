"""Take a user's own checkpoint as a model of a setting, once it fits."""

import logging
import sys
from pathlib import Path

from attriflow import engine
from attriflow.data import load_split, mapping
from attriflow.io import save_json, save_weights
from attriflow.job import Job, run
from attriflow.models import builder
from attriflow.models._checkpoint import adopted
from attriflow.models._remarks import outputs_remark, quality_remark, said

HINT = "are inputs scaled as they were there? Compare the loader, and `standardise` of the data set"

log = logging.getLogger(__name__)


def main(job: Job):
    settings, split = job.settings, load_split(job.input("data"))
    build = builder(job.registry, settings["model"], split.shape, split.classes, split.tokens)
    if split.class_names:
        order = "the checkpoint's outputs must count classes so: %s; if they do not, Raw(..., class_names=...) says how"
        log.warning(order, mapping(split.class_names))
    state = adopted(Path(settings["file"]), settings["sha256"], build)
    (epoch,) = settings["checkpoints"]
    save_weights(job.outputs["model"], {"checkpoints": {epoch: state}, "rates": {}, "device": "cpu"})
    measured = engine.metrics(build, {epoch: state}, split, job.device)
    found = measured["checkpoints"][str(epoch)]
    remarks = [each for each in (quality_remark(found, split), outputs_remark(build, state, split)) if each]
    quality = f"{settings['file']}: {said(found, split)}"
    for line in (
        quality,
        f"if that is worse than where it was trained: {HINT}",
        *(f"WARNING: {each}" for each in remarks),
    ):
        print(f"[{job.spec['job']}] {line}", file=sys.stderr)
    # it was trained elsewhere
    save_json(job.outputs["metrics"], measured | {"training_flops": None, "said": quality, "remarks": remarks})


if __name__ == "__main__":
    run(main)
