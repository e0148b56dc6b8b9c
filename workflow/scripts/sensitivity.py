"""Say how much each hyperparameter of a study matters, and what values from elsewhere cost."""

from attriflow import paired
from attriflow.io import save_table
from attriflow.job import Job, run
from attriflow.sensitivity import tables


def main(job: Job):
    measured, effects = paired.load(job.inputs("tables"), job.inputs("effects"))
    for name, found in tables(measured, effects, job.settings["kinds"]).items():
        save_table(job.outputs[name], found)


if __name__ == "__main__":
    run(main)
