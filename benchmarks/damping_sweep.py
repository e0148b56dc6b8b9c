"""A sweep of 20 dampings against one damping, by the cost records of the pipeline's own jobs."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml

ROOT = Path(__file__).parent.parent

# data of MNIST's shape, for a machine that has no mirror
GENERATED = '''
"""Images of MNIST's shape with a signal in them."""
import numpy as np
from attriflow.data import Raw

def load(folder):
    """6000 images."""
    random = np.random.default_rng(0)
    y = random.integers(0, 10, 6000)
    x = random.standard_normal((10, 1, 28, 28))[y] + random.standard_normal((6000, 1, 28, 28))
    return Raw(x.astype(np.float32), y)
'''


def run():
    """Rows of the results table."""
    with tempfile.TemporaryDirectory() as folder:
        one, sweep = (sweep_seconds(Path(folder), count) for count in (1, 20))
    yield {
        "case": "MNIST MLP 784-128-64-10, 5000 x 500",
        "method": "influence by the Fisher matrix, 20 dampings",
        "peer": "one damping",
        "ours_seconds": round(sweep, 1),
        "peer_seconds": round(one, 1),
        "ratio": round(sweep / one, 2),
        "goal": "at most 1.5",
        "rounds": 1,
        "note": "seconds of the prepare and score jobs, from their made files; here a smaller ratio is better",
    }


def sweep_seconds(folder: Path, count: int) -> float:
    """Prepare and score one model at so many dampings from scratch; the seconds that both jobs recorded."""
    here = folder / str(count)
    (here / "plugins/data").mkdir(parents=True)
    (here / "plugins/data/generated.py").write_text(GENERATED)
    kind = "mnist" if os.environ.get("ATTRIFLOW_DATA_MIRROR") else "generated"
    config = {
        "plugins": "plugins",
        "datasets": {"bench": {"kind": kind, "train": 5000, "test": 500}},
        "settings": {
            "bench_mlp": {
                "dataset": "bench",
                "model": {"kind": "mlp"},
                "recipe": {"learning_rate": 0.01, "momentum": 0.9, "batch_size": 64, "epochs": 5},
            }
        },
        "ensembles": {"independent": {"count": 1, "sizes": [1], "block": 1}},
        "methods": {"influence": {"epoch": "last", "damping": np.geomspace(1e-6, 1, count).tolist()}},
        "run": {"settings": ["bench_mlp"], "methods": ["influence"]},
    }
    (here / "bench.yaml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        ["snakemake", "--snakefile", ROOT / "Snakefile", "--directory", here, "--configfile", here / "bench.yaml",
         "--cores", "2", "--quiet", "rules", "reason", "--", "scores"],
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    jobs = here / "results/scores/bench_mlp/independent/influence"
    costs = [json.loads(path.read_text())["cost"]["seconds"] for path in jobs.rglob("*.made.json")]
    assert len(costs) == 2, "one job prepares, one scores"
    return sum(costs)
