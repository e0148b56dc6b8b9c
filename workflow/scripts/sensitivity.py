"""Say how much each hyperparameter of a study matters, and what values from elsewhere cost."""

from attriflow import resamples
from attriflow.io import save_table
from attriflow.job import Job, run
from attriflow.sensitivity import tables


def main(job: Job):
    measured, resampled = resamples.load(job.inputs("tables"), job.inputs("resamples"))
    for name, found in tables(measured, resampled, job.settings["kinds"]).items():
        save_table(job.outputs[name], found)


if __name__ == "__main__":
    run(main)
