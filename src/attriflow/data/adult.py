"""Adult: whether a person of the US census of 1994 earns more than 50,000 dollars a year, from 14 attributes.

SOURCE: B. Becker and R. Kohavi, Adult, UCI Machine Learning Repository (CC BY 4.0), its training and test files.
"""

from pathlib import Path

import numpy as np

from attriflow.data import Raw

TRAIN_EXAMPLES = 32561
TEST_EXAMPLES = 16281

ADDRESSES = (
    "https://archive.ics.uci.edu/ml/machine-learning-databases/adult/",
    "https://archive.ics.uci.edu/static/public/2/adult.zip",
)
FILES = {
    "adult.data": "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
    "adult.test": "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
}

COLUMNS = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship",
    "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country",
)  # fmt: skip
NUMBERS = frozenset({"age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"})
LABELS = {"<=50K": 0, ">50K": 1}


def load(folder: Path) -> Raw:
    """32,561 training and 16,281 test examples (N, 108): 6 numbers, and a column of 0 and 1 for each category.

    Label 1 is an income above 50,000 dollars. Raises ValueError naming the line that is none of the official format.
    """
    (rows, y), (test_rows, test_y) = (read(folder / name) for name in FILES)
    # ASSUME: an unknown entry of Adult, `?`, is a category of its own, no example is left out, and all 14 attributes
    # are used, the weight of the sample among them.
    categories = {
        place: sorted({row[place] for row in rows}) for place, name in enumerate(COLUMNS) if name not in NUMBERS
    }
    names = tuple(
        each
        for place, name in enumerate(COLUMNS)
        for each in ([f"{name}={value}" for value in categories[place]] if place in categories else [name])
    )
    x, test_x = (encoded(each, categories) for each in (rows, test_rows))
    # ASSUME: columns of 0 and 1 are standardised as the numbers are; then no attribute outweighs another by its unit.
    return Raw(x, y, test_x, test_y, classes=2, features=True, names=names)


def read(path: Path) -> tuple[list[list[str]], np.ndarray]:
    """The 14 entries of every line as text, and the labels (N,)."""
    rows, labels = [], []
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), 1):
        if not line or line.startswith("|"):  # the last line, and the heading of the test file
            continue
        *row, label = (entry.strip() for entry in line.split(","))
        label = label.removesuffix(".")  # only in the test file
        if len(row) != len(COLUMNS) or label not in LABELS:
            right = f"{len(COLUMNS)} entries and one of {list(LABELS)}"
            raise ValueError(f"{path}, line {number}: expected {right}: {line}")
        rows.append(row)
        labels.append(LABELS[label])
    return rows, np.array(labels, np.int64)


def encoded(rows: list[list[str]], categories: dict[int, list[str]]) -> np.ndarray:
    """Numbers as they are and one column for each category, (N, d) float32.

    Raises ValueError for a category that is none of those given, by the place of its column.
    """
    columns = []
    for place, entries in enumerate(zip(*rows, strict=True)):
        if place not in categories:
            columns.append(np.array(entries, np.float32)[:, None])
            continue
        if unknown := sorted(set(entries) - set(categories[place])):
            raise ValueError(f"adult: {COLUMNS[place]} {unknown} is not among the training examples")
        columns.append(np.array(entries)[:, None] == np.array(categories[place]))
    return np.concatenate(columns, 1, dtype=np.float32)
