"""Find flipped training labels by self-influence, at every size and damping of one costly point."""

import pandas as pd

from attriflow import mislabel, prepared, sizes
from attriflow.data import load_split
from attriflow.io import load_json, save_table
from attriflow.job import Job, run
from attriflow.scoring import resolved, scored


def main(job: Job):
    settings, blocks, wanted = job.settings, job.inputs("prepared"), sizes.read(job.settings["sizes"])
    wrong = mislabel.flipped(load_split(job.input("data")))
    selection = load_json(job.input("selection")) if "selection" in job.spec["inputs"] else {}
    self_influence = job.registry.load("scores", settings["kind"]).self_influence
    named = {key: settings[key] for key in ("setting", "ensemble", "method")}
    progress = job.progress(len(settings["cheap"]), "point")
    rows = []
    for point in settings["cheap"]:
        for size, suspicion, damping in scored(
            self_influence, lambda size: prepared.members(blocks, size), point, wanted, selection, settings["method"]
        ):
            described = named | size.columns | settings["costly"] | resolved(point, damping)
            rows.append(described | mislabel.detection(suspicion, wrong, settings["confidence"]))
        progress()
    save_table(job.outputs["table"], pd.DataFrame(rows))


if __name__ == "__main__":
    run(main)
