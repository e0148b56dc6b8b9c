"""Compare the ground truths of one final model with each other."""

from itertools import combinations

import pandas as pd

from attriflow import gold
from attriflow.io import load_arrays, save_table
from attriflow.job import Job, run


def main(job: Job):
    settings = job.settings
    names = {key: settings[key] for key in ("setting", "ensemble", "model_seed")}
    further = [
        ({"truth": truth["truth"], "estimator": truth["estimator"]}, load_arrays(path))
        for truth, path in zip(settings["truths"], job.inputs("truths"), strict=True)
    ]
    found = [(words, gold.of_further_training(truth)) for words, truth in further]
    rows, profiles = [], []
    for words, truths in found:
        alone = {"other": words["truth"], "other_estimator": words["estimator"]}
        for adjustment, truth in truths.items():
            rows += [names | words | alone | row for row in gold.noise(truth, adjustment)]
        for place, epochs in enumerate(truths["centred"].epochs):
            described = names | {"method": "further_training"} | words | {"epochs": epochs}
            profiles += [described | row for row in gold.profile(truths["centred"].mean[:, place])]
    for (words, mine), (other, theirs) in combinations(found, 2):
        others = {"other": other["truth"], "other_estimator": other["estimator"]}
        rows += [names | words | others | row for row in gold.agreement(mine, theirs)]
    for truth, path in zip(settings["retrained"], job.inputs("retrained"), strict=True):
        others = {"other": truth["truth"], "other_estimator": "retraining"}
        for words, mine in found:
            theirs = gold.of_retraining(load_arrays(path), mine["centred"].left_out)
            rows += [names | words | others | row for row in gold.agreement(mine, theirs)]
    save_table(job.outputs["truths"], pd.DataFrame(rows))
    save_table(job.outputs["profile"], pd.DataFrame(profiles))


if __name__ == "__main__":
    run(main)
