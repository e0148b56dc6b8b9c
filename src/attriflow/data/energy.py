"""Energy efficiency: the heating load of 768 simulated buildings, a regression on 8 features.

SOURCE: A. Tsanas and A. Xifara 2012, Energy and Buildings 49, 560-567; UCI, data set 242 (CC BY 4.0).
"""

from pathlib import Path

from attriflow.data import Raw
from attriflow.data._tables import regression

EXAMPLES = 768
REGRESSION = True

ADDRESSES = (
    "https://archive.ics.uci.edu/static/public/242/energy+efficiency.zip",
    "https://archive.ics.uci.edu/ml/machine-learning-databases/00242/",
)
FILES = {"ENB2012_data.xlsx": "be1176575d2622b3647e2b336e3b6d06a6e3033ea911d18d72658d3ef53c40bd"}

_NAMES = (
    "compactness", "surface area", "wall area", "roof area", "height", "orientation", "glazing area", "glazing spread",
)  # fmt: skip


def load(folder: Path) -> Raw:
    """768 buildings (768, 8) and their heating load in kWh a m² (768,): Y1, of the two targets the one in use."""
    # SOURCE: Wei et al. 2024, arXiv:2412.03906, authors' code: the target is Y1.
    return regression(folder / "ENB2012_data.xlsx", names=_NAMES, target=8, examples=EXAMPLES)
