"""Concrete: the compressive strength of 1030 mixtures, a regression on 8 features.

SOURCE: I-C. Yeh 1998, Cement and Concrete Research 28(12), 1797-1808; UCI, data set 165 (CC BY 4.0).
"""

from pathlib import Path

from attriflow.data import Raw
from attriflow.data._tables import regression

EXAMPLES = 1030
REGRESSION = True

ADDRESSES = (
    "https://archive.ics.uci.edu/static/public/165/concrete+compressive+strength.zip",
    "https://archive.ics.uci.edu/ml/machine-learning-databases/concrete/compressive/",
)
FILES = {"Concrete_Data.xls": "8352d218300fb5dcf992d70362cb762467bf241b76711cd02d7a69d0aa643595"}

# kg in a m³ of the mixture, but for the age, in days
_NAMES = ("cement", "slag", "fly ash", "water", "superplasticizer", "coarse aggregate", "fine aggregate", "age")


def load(folder: Path) -> Raw:
    """1030 mixtures (1030, 8) and their strength in MPa (1030,), the last column."""
    return regression(folder / "Concrete_Data.xls", names=_NAMES, target=8, examples=EXAMPLES)
