"""Compare the scores of one costly point with what further training of the final model says."""

import pandas as pd

from attriflow import gold, sizes
from attriflow.hyperparameters import point_name
from attriflow.io import load_arrays, save_table
from attriflow.job import Job, run
from attriflow.scoring import resolved


def main(job: Job):
    settings = job.settings
    scores = load_arrays(job.input("scores"))
    scores.pop("costs"), scores.pop("serving")
    dampings = dict(zip([name for name in scores if name != "dampings"], scores.pop("dampings"), strict=True))
    points = {
        point_name({"size": size.written} | point): {**settings["costly"], **point}
        for point in settings["cheap"]
        for size in sizes.read(settings["sizes"])
    }
    described = {
        name: {key: settings[key] for key in ("setting", "ensemble", "model_seed", "method")}
        | gold.named(resolved(points[name], damping))
        for name, damping in dampings.items()
    }
    rows, by_seeds, profiles = [], [], []
    for words, truths in golds(job):
        comparisons = gold.compare(truths)
        for name, predicted in gold.points(scores.items(), truths["centred"]):
            found = gold.measurements(truths, predicted, comparisons, settings["confidence"])
            rows += [described[name] | words | row for row in found]
            by_seeds += [described[name] | words | row for row in gold.by_seeds(truths, predicted, comparisons)]
            profiles += [described[name] | words | row for row in gold.profile(predicted)]
    save_table(job.outputs["further"], pd.DataFrame(rows))
    save_table(job.outputs["seeds"], pd.DataFrame(by_seeds))
    save_table(job.outputs["profile"], pd.DataFrame(profiles))


def golds(job: Job):
    """Names and gold scores of every ground truth: further training, and retraining without the same examples."""
    examples = []
    for truth, path in zip(job.settings["truths"], job.inputs("truths"), strict=True):
        found = gold.of_further_training(load_arrays(path))
        examples.append(found["centred"].left_out)
        yield {"truth": truth["truth"], "estimator": truth["estimator"]}, found
    for truth, path in zip(job.settings["retrained"], job.inputs("retrained"), strict=True):
        yield {"truth": truth["truth"], "estimator": "retraining"}, gold.of_retraining(load_arrays(path), examples[0])


if __name__ == "__main__":
    run(main)
