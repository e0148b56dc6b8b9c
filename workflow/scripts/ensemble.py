"""Describe one ensemble: its members, and what they cost."""

from attriflow.io import load_json, save_json
from attriflow.job import Job, run


def main(job: Job):
    members = zip(job.settings["members"], job.inputs("model"), job.inputs("metrics"), job.costs("model"), strict=True)
    described = [
        member
        | {
            "model": str(model),
            "bytes": model.stat().st_size,
            "parameters": load_json(metrics)["parameters"],
            "training_seconds": cost["seconds"],
            "training_cpu_seconds": cost["cpu_seconds"],
        }
        for member, model, metrics, cost in members
    ]
    save_json(job.outputs["ensemble"], {"ensemble": job.settings["ensemble"], "members": described})


if __name__ == "__main__":
    run(main)
