"""Describe one ensemble: its members, and what their models, and an adapter of each, cost."""

from pathlib import Path

from attriflow.ensembles import one_setting
from attriflow.io import load_json, save_json
from attriflow.job import Job, run


def main(job: Job):
    members = job.settings["members"]
    made = [load_json(Path(each["made"]))["spec"] for each in job.spec["inputs"]["model"]]
    one_setting(made)
    names = dict.fromkeys(member["name"] for member in members)
    models = zip(names, job.inputs("model"), job.inputs("metrics"), job.costs("model"), strict=True)
    described = [
        {
            "name": name,
            "model": str(model),
            "bytes": model.stat().st_size,
            "parameters": load_json(metrics)["parameters"],
            "training_flops": load_json(metrics)["training_flops"],
            "training_seconds": cost["seconds"],
            "training_cpu_seconds": cost["cpu_seconds"],
        }
        for name, model, metrics, cost in models
    ]
    if "adapters" in job.spec["inputs"]:
        adapted = zip(job.inputs("adapters"), job.inputs("adapter_metrics"), job.costs("adapters"), strict=True)
        for model, (path, metrics, cost) in zip(described, adapted, strict=True):
            found = load_json(metrics)
            count = len(found["adapters"])
            model["adapter"] = {  # one of them
                "adapters": str(path),
                "bytes": path.stat().st_size / count,
                "parameters": found["parameters"],
                "training_flops": found["training_flops"],
                "training_seconds": cost["seconds"] / count,
                "training_cpu_seconds": cost["cpu_seconds"] / count,
            }
    content = {"ensemble": job.settings["ensemble"], "members": members, "models": described}
    save_json(job.outputs["ensemble"], content)


if __name__ == "__main__":
    run(main)
