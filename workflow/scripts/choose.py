"""Choose dampings without retraining, by every rule, for one costly point at every ensemble size."""

import sys

import pandas as pd

from attriflow import prepared, selection
from attriflow.hyperparameters import point_name
from attriflow.io import save_json, save_table
from attriflow.job import Job, run


def main(job: Job):
    settings = job.settings
    spectrum = job.registry.load("scores", settings["kind"]).spectrum
    progress = job.progress(len(settings["points"]) * max(settings["sizes"]), "member")
    chosen, rows = {}, []
    for point in settings["points"]:
        spectra = []
        for member in prepared.members(job.inputs("prepared"), max(settings["sizes"])):
            spectra.append(spectrum(member, **point))
            progress()
        for size in settings["sizes"]:
            described = {"ensemble_size": size, **point}
            found = selection.curve(spectra[:size])
            name = point_name(described)
            chosen[name] = selection.by_every_rule(spectra[:size], found)
            selected = chosen[name]["select"]
            if warning := selected["warning"]:
                consequence = "; no scores for 'select'" if selected["damping"] is None else ""
                print(f"[{job.spec['job']}] {name}: {warning}{consequence}", file=sys.stderr)
            rows += [described | row for row in selection.rows(found)]
    save_json(job.outputs["selection"], {"takes": list(settings["points"][0]), "chosen": chosen})
    save_table(job.outputs["curve"], pd.DataFrame(rows))


if __name__ == "__main__":
    run(main)
