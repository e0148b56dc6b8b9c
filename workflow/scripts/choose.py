"""Choose dampings without retraining, by every rule, for one costly point at every ensemble size."""

import sys
from functools import partial

import pandas as pd

from attriflow import prepared, selection, sizes
from attriflow.hyperparameters import point_name
from attriflow.io import save_json, save_table
from attriflow.job import Job, run


def main(job: Job):
    settings, wanted = job.settings, sizes.read(job.settings["sizes"])
    spectrum = job.registry.load("scores", settings["kind"]).spectrum
    progress = job.progress(len(settings["points"]) * sum(sizes.counts(wanted)), "member")
    chosen, rows = {}, []
    for point in settings["points"]:
        of_size = prepared.spectra(job.inputs("prepared"), partial(spectrum, **point), progress)
        for size in wanted:
            described, spectra = size.columns | point, of_size(size)
            found = selection.curve(spectra)
            name = point_name({"ensemble_size": size.written} | point)
            chosen[name] = selection.by_every_rule(spectra, found)
            selected = chosen[name]["select"]
            if warning := selected["warning"]:
                consequence = "; no scores for 'select'" if selected["damping"] is None else ""
                print(f"[{job.spec['job']}] {name}: {warning}{consequence}", file=sys.stderr)
            rows += [described | row for row in selection.rows(found)]
    save_json(job.outputs["selection"], {"takes": list(settings["points"][0]), "chosen": chosen})
    save_table(job.outputs["curve"], pd.DataFrame(rows))


if __name__ == "__main__":
    run(main)
