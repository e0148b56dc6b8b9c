"""Find flipped training labels by self-influence, at every size and damping of one costly point."""

import pandas as pd

from attriflow import mislabel
from attriflow.data import load_split
from attriflow.io import load_arrays, save_table
from attriflow.job import Job, run
from attriflow.prepared import members


def main(job: Job):
    settings = job.settings
    wrong = mislabel.flipped(load_split(job.input("data")))
    drawn = mislabel.resampled(wrong, settings["resamples"], job.seed)
    blocks = [load_arrays(path) for path in job.inputs("prepared")]
    self_influence = job.registry.load("scores", settings["kind"]).self_influence
    named = {key: settings[key] for key in ("setting", "ensemble", "method")}
    progress = job.progress(len(settings["cheap"]), "point")
    rows = []
    for point in settings["cheap"]:
        suspicions = self_influence(members(blocks), **point)
        for row in mislabel.by_size(suspicions, settings["sizes"], wrong, drawn, settings["confidence"]):
            rows.append(named | settings["costly"] | point | row)
        progress()
    save_table(job.outputs["table"], pd.DataFrame(rows))


if __name__ == "__main__":
    run(main)
