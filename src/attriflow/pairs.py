"""Hyperparameters that are known to interact: what is tuned, and what may change beneath it."""

SIZE = "ensemble_size"
PAIRS = (
    ("damping", "proj_dim"),
    ("damping", "rank"),
    ("damping", "iterations"),
    ("damping", "epoch"),
    ("damping", SIZE),
    ("checkpoints", "normalise"),
    ("scale", "depth"),
)
