"""Draw the training and test examples of one data set."""

from dataclasses import asdict
from pathlib import Path

from attriflow.data import raw_folder, split
from attriflow.io import save_arrays
from attriflow.job import Job, run

OWN = ("train", "test", "standardise", "label_noise", "task")


def main(job: Job):
    settings = job.settings
    kind = job.registry.load("data", settings["kind"])
    folder = fetched(settings["kind"], vars(kind), settings["raw"]) if hasattr(kind, "FILES") else None
    raw = kind.load(folder, **settings["hyperparameters"])
    if settings["task"] is None and getattr(kind, "REGRESSION", False):
        settings = settings | {"task": "regression"}
    drawn = split(raw, settings["dataset"], job.seed, **{key: settings[key] for key in OWN})
    save_arrays(job.outputs["data"], asdict(drawn))


def fetched(name: str, constants: dict, planned: dict) -> Path:
    """The folder with the raw files of a kind, which are those that the job was planned with."""
    options = {"either": constants.get("EITHER", False), "ask": constants.get("ASK"), "planned": planned}
    return raw_folder(constants.get("FOLDER", name), constants["FILES"], constants.get("ADDRESSES", ()), **options)


if __name__ == "__main__":
    run(main)
