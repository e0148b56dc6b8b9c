"""TRAK on 50,000 examples and a million parameters: does it fit, and how long does it take?

In a process of its own, so that its peak memory is its own: `python benchmarks/scale.py`.
"""

import json
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
N, M, PROJ_DIM, HIDDEN = 50_000, 100, 4096, [1000, 200]


def run():
    """Rows of the results table."""
    done = subprocess.run([sys.executable, __file__], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    yield {
        "case": f"MLP, n = {N}, p = {found['parameters']}, k = {PROJ_DIM}",
        "method": "trak_1_sjlt",
        "ours_seconds": round(found["seconds"], 1),
        "goal": "at most 6144 MiB",
        "ours_mib": round(found["peak_mib"]),
        "rounds": 1,
        "note": "one member, prepared and scored at one damping, images of random pixels",
    }


def main():
    sys.path.insert(0, str(HERE.parent / "src"))
    from attriflow.data import Split
    from attriflow.models import Trained, mlp
    from attriflow.scores import trak

    random = np.random.default_rng(0)
    x = random.standard_normal((N + M, 784), np.float32)
    y = random.integers(0, 10, N + M)
    none, one = np.arange(0), np.float64(1)
    split = Split(x[:N], y[:N], x[N:], y[N:], y[:N], none, none, 0 * one, one)
    build = partial(mlp.build, (784,), 10, hidden=HIDDEN, dropout=0.0)
    weights = build().state_dict()
    started = time.perf_counter()
    prepared = trak.prepare(
        Trained("full-0", 0, build, {1: weights}, {1: 1.0}), split, proj_dim=PROJ_DIM, projection="sjlt"
    )
    scores = next(trak.score([prepared], damping=0.1, proj_dim=PROJ_DIM))
    assert scores.shape == (N, M), scores.shape
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - started,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "parameters": sum(value.numel() for value in weights.values()),
            }
        )
    )


if __name__ == "__main__":
    main()
