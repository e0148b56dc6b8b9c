"""HELOC: whether a holder of a home equity line of credit pays on time, from 23 numbers of a credit report.

SOURCE: FICO, Explainable Machine Learning Challenge 2018, heloc_dataset_v1.csv, with its data dictionary.
"""

import csv
from pathlib import Path

import numpy as np

from attriflow.data import Raw

EXAMPLES = 9871
ROWS = 10459  # with 588 that have no report: SOURCE: the file; Wei et al. 2024 use 8883 + 988 = 9871 examples, too

# nobody may fetch it: it is given out under an agreement, so its sum is not ours to pin, and its content is checked
FILES = {"heloc_dataset_v1.csv": None}
ASK = (
    "FICO gives it out to those who accept its agreement, at "
    "https://community.fico.com/s/explainable-machine-learning-challenge"
)

LABEL = "RiskPerformance"
LABELS = {"Good": 0, "Bad": 1}
COLUMNS = (
    "ExternalRiskEstimate", "MSinceOldestTradeOpen", "MSinceMostRecentTradeOpen", "AverageMInFile",
    "NumSatisfactoryTrades", "NumTrades60Ever2DerogPubRec", "NumTrades90Ever2DerogPubRec", "PercentTradesNeverDelq",
    "MSinceMostRecentDelq", "MaxDelq2PublicRecLast12M", "MaxDelqEver", "NumTotalTrades", "NumTradesOpeninLast12M",
    "PercentInstallTrades", "MSinceMostRecentInqexcl7days", "NumInqLast6M", "NumInqLast6Mexcl7days",
    "NetFractionRevolvingBurden", "NetFractionInstallBurden", "NumRevolvingTradesWBalance",
    "NumInstallTradesWBalance", "NumBank2NatlTradesWHighUtilization", "PercentTradesWBalance",
)  # fmt: skip
NO_REPORT = -9


def load(folder: Path) -> Raw:
    """9,871 examples (N, 23), label 1 for Bad: 90 days late or worse at least once within 24 months.

    Raises ValueError naming the file if its columns, its number of rows or an entry are not the official ones.
    """
    (path,) = (folder / name for name in FILES)
    with open(path, newline="", encoding="utf-8-sig") as file:
        header, *rows = csv.reader(file)
    if header != [LABEL, *COLUMNS]:
        raise ValueError(f"{path}: its columns are {header}, expected {[LABEL, *COLUMNS]}")
    if len(rows) != ROWS:
        raise ValueError(f"{path} is truncated or another version: {len(rows)} rows, expected {ROWS}")
    numbers = np.array([_numbers(path, number, row) for number, row in enumerate(rows, 2)], np.float32)
    reported = (numbers != NO_REPORT).any(1)
    # ASSUME: examples of HELOC without any report, all -9, are left out. Elsewhere -9 (no report), -8 (no usable trade
    # or inquiry) and -7 (never happened) stay the numbers they are: no other entry is negative, so a network can tell.
    y = np.array([LABELS[row[0]] for row in rows], np.int64)
    return Raw(numbers[reported], y[reported], classes=2, features=True, names=COLUMNS)


def _numbers(path: Path, number: int, row: list[str]) -> list[int]:
    try:
        if len(row) == 1 + len(COLUMNS) and row[0] in LABELS:
            return [int(entry) for entry in row[1:]]
    except ValueError:
        pass
    raise ValueError(f"{path}, line {number}: expected one of {list(LABELS)} and {len(COLUMNS)} whole numbers: {row}")
