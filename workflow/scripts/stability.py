"""Choose dampings from a few test examples, for one costly point at every ensemble size."""

import pandas as pd

from attriflow import prepared
from attriflow.hyperparameters import point_name
from attriflow.io import save_table
from attriflow.job import Job, run
from attriflow.stability import stability


def main(job: Job):
    settings, count = job.settings, max(job.settings["sizes"])
    spectrum = job.registry.load("scores", settings["kind"]).spectrum
    progress = job.progress(len(settings["points"]) * count, "member")
    rows = []
    for point in settings["points"]:
        named = {key: settings[key] for key in ("setting", "ensemble", "method")}
        named |= {"point": point_name(settings["costly"] | point)}
        spectra = []
        for member in prepared.members(job.inputs("prepared"), count):
            spectra.append(spectrum(member, **point))
            progress()
        for size in settings["sizes"]:
            for row in stability(spectra[:size], seed=job.seed):
                rows.append(named | {"ensemble_size": size} | row | settings["costly"] | point)
    save_table(job.outputs["table"], pd.DataFrame(rows))


if __name__ == "__main__":
    run(main)
