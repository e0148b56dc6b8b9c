"""Train one model of a setting; keep its checkpoints and metrics."""

import sys

from attriflow import engine, flops
from attriflow.data import load_split
from attriflow.device import inputs, labels
from attriflow.engine.optimisers import rates
from attriflow.io import save_json, save_weights
from attriflow.job import Job, run
from attriflow.models import builder, built
from attriflow.models._remarks import outputs_remark
from attriflow.outputs import loss
from attriflow.runs import Run


def main(job: Job):
    settings, split = job.settings, load_split(job.input("data"))
    build = builder(job.registry, settings["model"], split.shape, split.classes, split.tokens)
    training = Run.from_dict(settings["run"])
    progress = job.progress(settings["recipe"]["epochs"], "epoch")
    (trained,) = engine.train(
        build,
        split.train_x,
        split.train_y,
        [training],
        settings["recipe"],
        job.seed,
        checkpoints=tuple(settings["checkpoints"]),
        device=job.device,
        progress=progress,
    )
    checkpoints = {epoch: trained.state(0, epoch) for epoch in settings["checkpoints"]}
    examples = len(training.examples(len(split.train_y), job.seed))
    steps = -(-examples // settings["recipe"]["batch_size"])
    save_weights(
        job.outputs["model"],
        {
            "checkpoints": checkpoints,
            "rates": rates(settings["recipe"], steps, settings["checkpoints"]),
            "device": job.device.type,
        },
    )
    measured = engine.metrics(build, checkpoints, split, job.device)
    module = built(build)
    once = flops.of_step(module, inputs(module, split.train_x[:1]), labels(module, split.train_y[:1]), loss)
    taken = {"training_flops": once * examples * settings["recipe"]["epochs"]}
    remark = outputs_remark(build, checkpoints[max(checkpoints)], split)
    if remark:
        print(f"[{job.spec['job']}] WARNING: {remark}", file=sys.stderr)
    taken |= {"epoch_losses": trained.losses[0].tolist(), "remarks": [remark] if remark else []}
    save_json(job.outputs["metrics"], measured | taken)


if __name__ == "__main__":
    run(main)
