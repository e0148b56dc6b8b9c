"""Choose dampings from a few test examples, for one costly point at every ensemble size."""

from functools import partial

import pandas as pd

from attriflow import prepared, sizes
from attriflow.hyperparameters import point_name
from attriflow.io import save_table
from attriflow.job import Job, run
from attriflow.stability import stability


def main(job: Job):
    settings, wanted = job.settings, sizes.read(job.settings["sizes"])
    spectrum = job.registry.load("scores", settings["kind"]).spectrum
    progress = job.progress(len(settings["points"]) * sum(sizes.counts(wanted)), "member")
    rows = []
    for point in settings["points"]:
        named = {key: settings[key] for key in ("setting", "ensemble", "method")}
        named |= {"point": point_name(settings["costly"] | point)}
        of_size = prepared.spectra(job.inputs("prepared"), partial(spectrum, **point), progress)
        for size in wanted:
            for row in stability(of_size(size), seed=job.seed):
                rows.append(named | size.columns | row | settings["costly"] | point)
    save_table(job.outputs["table"], pd.DataFrame(rows))


if __name__ == "__main__":
    run(main)
