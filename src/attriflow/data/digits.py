"""Handwritten digits, 8 × 8 pixels, bundled with scikit-learn: the embedded default.

SOURCE: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI (its test part, 1797 images).
"""

import hashlib
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from attriflow.data import Raw

EXAMPLES = 1797

# of the pixels and labels as load_digits returns them (scikit-learn 1.9.1), so that another release cannot change them
SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


def load(folder: Path | None) -> Raw:
    """1797 images (1797, 1, 8, 8) of 0 to 16 and their labels. Raises ValueError if scikit-learn changed them."""
    bunch = load_digits()
    pixels, labels = bunch.data.astype(np.uint8), bunch.target.astype(np.uint8)
    found = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    if found != SHA256:
        raise ValueError(f"scikit-learn's digits have SHA-256 {found}, expected {SHA256}; install the locked release")
    return Raw(pixels.reshape(-1, 1, 8, 8).astype(np.float32), labels.astype(np.int64))
