"""Find the training examples that help and hurt a few test examples most, by the best scores of a setting."""

import numpy as np
import pandas as pd

from attriflow.data import load_split
from attriflow.extremes import extremes
from attriflow.io import load_arrays, save_arrays
from attriflow.job import Job, run

TESTS, COUNT = 4, 5  # rows of the figure, and training examples on either side of it


def main(job: Job):
    tables = [pd.read_csv(path).assign(place=place) for place, path in enumerate(job.inputs("tables"))]
    table = pd.concat(tables, ignore_index=True)
    table = table[table.output == "loss"]
    preferred = table[table.metric == "lds"]
    best = (table if preferred.empty else preferred).sort_values("value").iloc[-1]
    scores = load_arrays(job.input("scores", int(best.place)))[best.point]
    split = load_split(job.input("data"))
    tests = np.arange(min(TESTS, len(split.test_y)))
    arrays = extremes(np.asarray(scores), split, tests, min(COUNT, len(split.train_y)))
    words = {name: np.array(str(best[name])) for name in ("setting", "method", "point", "metric")}
    save_arrays(job.outputs["examples"], arrays | words | {"value": np.array(best.value)})


if __name__ == "__main__":
    run(main)
