"""One attribution by one library in a process of its own: python one_run.py LIBRARY METHOD PROBLEM SCORES.

Prints {"seconds": ..., "scaled": ..., "peak_mib": ...} and writes the scores (n, m) to SCORES. Seconds are those from
the loaded model and data to the scores, imports and files left out. A method of a peer that would take an hour is run
on its first test examples; seconds are then scaled up to all of them, which `scaled` says.
"""

import importlib
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from problem import Problem


def main(library: str, method: str, folder: str, scores: str):
    work = importlib.import_module(f"libraries.{library}").RUNS[method](Problem(Path(folder)))
    started = time.perf_counter()
    found = work.call()
    seconds = time.perf_counter() - started
    np.save(scores, np.asarray(found.detach() if isinstance(found, torch.Tensor) else found, np.float32))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds * work.scaled, "scaled": work.scaled, "peak_mib": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:])
