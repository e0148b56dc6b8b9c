"""Diabetes: its progression in 442 patients within a year, a regression on 10 features, bundled with scikit-learn.

SOURCE: B. Efron, T. Hastie, I. Johnstone, R. Tibshirani 2004, Least Angle Regression, Annals of Statistics 32(2).
"""

import hashlib
from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes

from attriflow.data import Raw

EXAMPLES = 442
REGRESSION = True

# of features and targets as load_diabetes returns them (scikit-learn 1.9.1), so that another release cannot change them
SHA256 = "e9c1f7559552854a24dc45b41c446ce5f79f96e5da081bcce24b57492720b3f7"


def load(folder: Path | None) -> Raw:
    """442 patients: features (442, 10) in their own units, targets (442,) of 25 to 346.

    Raises ValueError if scikit-learn changed them.
    """
    bunch = load_diabetes(scaled=False)
    features, targets = bunch.data.astype(np.float64), bunch.target.astype(np.float64)
    found = hashlib.sha256(features.tobytes() + targets.tobytes()).hexdigest()
    if found != SHA256:
        raise ValueError(f"scikit-learn's diabetes have SHA-256 {found}, expected {SHA256}; install the locked release")
    names = tuple(bunch.feature_names)
    return Raw(features.astype(np.float32), targets.astype(np.float32), features=True, names=names)
