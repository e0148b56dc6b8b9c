"""Say how far one final model has converged."""

import pandas as pd

from attriflow import convergence
from attriflow.data import load_split
from attriflow.io import save_table
from attriflow.job import Job, run
from attriflow.models import builder, load_trained


def main(job: Job):
    settings, split = job.settings, load_split(job.input("data"))
    build = builder(job.registry, settings["model"], split.shape, split.classes, split.tokens)
    trained = load_trained(job.input("model"), job.input("model").stem, job.seed, build)
    names = {key: settings[key] for key in ("setting", "ensemble", "model_seed")}
    save_table(job.outputs["convergence"], pd.DataFrame([names | convergence.measured(trained, split, job.device)]))


if __name__ == "__main__":
    run(main)
