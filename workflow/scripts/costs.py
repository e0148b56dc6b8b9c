"""Say what choosing dampings cost, beside scoring, and beside the retraining that tuning them asks for."""

from attriflow import costs, provenance
from attriflow.io import save_table
from attriflow.job import Job, run


def main(job: Job):
    made = {name: provenance.of_jobs(entries) for name, entries in job.spec["inputs"].items()}
    save_table(job.outputs["costs"], costs.table(**made))


if __name__ == "__main__":
    run(main)
