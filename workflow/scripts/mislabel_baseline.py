"""Find flipped training labels by the training loss, at every size and kept epoch of one ensemble."""

import pandas as pd

from attriflow import mislabel
from attriflow.data import load_split
from attriflow.io import save_table
from attriflow.job import Job, run
from attriflow.models import builder, load_trained
from attriflow.scores import running_mean


def main(job: Job):
    settings, split = job.settings, load_split(job.input("data"))
    wrong = mislabel.flipped(split)
    drawn = mislabel.resampled(wrong, settings["resamples"], job.seed)
    build = builder(job.registry, settings["model"], split.shape, split.classes, split.tokens)
    pairs = zip(job.inputs("models"), settings["members"], strict=True)
    members = [load_trained(path, name, job.seed, build) for path, name in pairs]
    named = {"setting": settings["setting"], "ensemble": settings["ensemble"], "method": "loss", "damping_rule": ""}
    rows = []
    for epoch in settings["epochs"]:
        suspicions = running_mean(mislabel.losses(member, split, epoch) for member in members)
        for size, suspicion in enumerate(suspicions, 1):
            if size in settings["sizes"]:
                described = named | {"ensemble_size": size, "epoch": epoch}
                rows.append(described | mislabel.detection(suspicion, wrong, drawn, settings["confidence"]))
    save_table(job.outputs["table"], pd.DataFrame(rows))


if __name__ == "__main__":
    run(main)
