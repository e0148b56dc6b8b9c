"""Data kinds with files of their own: read in the official format, or refused by the file's name and line."""

import hashlib
import io
import lzma
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from test_data import server  # noqa: F401

from attriflow.data import PADDING, Raw, _raw, adult, cifar2, fico, split, sst2
from attriflow.provenance import sha256

OPTIONS = {"train": 30, "test": 10, "standardise": True, "label_noise": None}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATTRIFLOW_DATA_MIRROR", raising=False)
    return tmp_path


@pytest.fixture
def mirrored(tmp_path, monkeypatch):
    """Reads a kind from the mirror, into an empty folder."""
    monkeypatch.setenv(_raw.MIRROR, str(Path(os.environ[_raw.MIRROR]).resolve()))
    monkeypatch.chdir(tmp_path)

    def read(kind, **hyperparameters) -> Raw:
        name = getattr(kind, "FOLDER", kind.__name__.rpartition(".")[2])
        folder = _raw.fetch(name, kind.FILES, (), either=getattr(kind, "EITHER", False))
        return kind.load(folder, **hyperparameters)

    return read


# --- adult ---------------------------------------------------------------------------------------------------

PEOPLE = [
    "39, State-gov, 77516, Bachelors, 13, Never-married, Sales, Unmarried, White, Male, 2174, 0, 40, Cuba, <=50K",
    "50, ?, 83311, Masters, 14, Divorced, ?, Husband, Black, Female, 0, 0, 13, Cuba, >50K",
    "20, State-gov, 1000, Masters, 14, Divorced, Sales, Husband, White, Female, 0, 7, 13, ?, >50K",
]


def write_adult(folder: Path, train=PEOPLE, test=PEOPLE[:2]):
    (folder / "adult.data").write_text("\n".join(train) + "\n\n")
    (folder / "adult.test").write_text("|1x3 Cross validator\n" + "".join(f"{line}.\n" for line in test) + "\n")


def test_adult_has_numbers_and_a_column_for_each_category(tmp_path):
    write_adult(tmp_path)
    raw = adult.load(tmp_path)
    assert raw.y.tolist() == [0, 1, 1]
    assert raw.test_y.tolist() == [0, 1]
    column = dict(zip(raw.names, raw.x.T.tolist(), strict=True))
    assert column["age"] == [39, 50, 20]
    assert column["capital-loss"] == [0, 0, 7]
    assert column["workclass=State-gov"] == [1, 0, 1]
    assert column["workclass=?"] == [0, 1, 0]
    assert column["native-country=?"] == [0, 0, 1]
    assert raw.features
    # each of the 8 attributes with categories has exactly one of them
    assert raw.x[:, ["=" in name for name in raw.names]].sum(1).tolist() == [8, 8, 8]
    np.testing.assert_array_equal(raw.test_x, raw.x[:2])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (PEOPLE[0].replace("39, ", ""), r"adult.data, line 2: expected 14 entries and one of \['<=50K', '>50K'\]"),
        (PEOPLE[0].replace("<=50K", "50K"), "adult.data, line 2"),
        (PEOPLE[0][:60], "adult.data, line 2"),
    ],
)
def test_a_line_of_adult_in_another_format_is_named(tmp_path, line, message):
    write_adult(tmp_path, train=[PEOPLE[1], line])
    with pytest.raises(ValueError, match=message):
        adult.load(tmp_path)


def test_a_category_that_the_training_file_lacks_is_refused(tmp_path):
    write_adult(tmp_path, test=[PEOPLE[0].replace("Cuba", "Atlantis")])
    with pytest.raises(ValueError, match=r"adult: native-country \['Atlantis'\] is not among the training examples"):
        adult.load(tmp_path)


@pytest.mark.mirror
def test_the_official_adult_files_are_read(mirrored):
    raw = mirrored(adult)
    assert raw.x.shape == (adult.TRAIN_EXAMPLES, 108)
    assert raw.test_x.shape == (adult.TEST_EXAMPLES, 108)
    assert (raw.y.sum(), raw.test_y.sum()) == (7841, 3846)  # SOURCE: adult.names: 24.08 % and 23.62 % (24.6 % known)
    drawn = split(raw, "adult", 0, **OPTIONS | {"train": 2000, "test": 500})
    assert np.isfinite(drawn.train_x).all()
    np.testing.assert_allclose(drawn.train_x.mean(0), 0, atol=1e-4)
    varies = raw.x[drawn.train_index].std(0) > 0
    np.testing.assert_allclose(drawn.train_x[:, varies].std(0), 1, atol=1e-3)


# --- fico ----------------------------------------------------------------------------------------------------


def write_heloc(path: Path, *, rows: int = fico.ROWS, missing: int = 588, columns=fico.COLUMNS) -> np.ndarray:
    random = np.random.default_rng(0)
    numbers = random.integers(0, 100, (rows, len(columns)))
    numbers[random.random(numbers.shape) < 0.02] = -7
    numbers[random.random(numbers.shape) < 0.02] = -8
    numbers[random.permutation(rows)[:missing]] = -9
    lines = [",".join([("Bad", "Good")[row[0] % 2], *map(str, row)]) for row in numbers]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([",".join(["RiskPerformance", *columns]), *lines]) + "\n")
    return numbers


def test_heloc_is_read_without_the_examples_that_have_no_report(tmp_path):
    numbers = write_heloc(tmp_path / "heloc_dataset_v1.csv")
    raw = fico.load(tmp_path)
    kept = numbers[(numbers != -9).any(1)]
    assert raw.x.shape == (fico.EXAMPLES, 23)
    np.testing.assert_array_equal(raw.x, kept)
    np.testing.assert_array_equal(raw.y, (kept[:, 0] % 2 == 0).astype(int))  # Bad is 1
    assert {-8, -7} < set(np.unique(raw.x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 600}, "heloc_dataset_v1.csv is truncated or another version: 600 rows, expected 10459"),
        ({"columns": (*fico.COLUMNS[:22], "Salary")}, "heloc_dataset_v1.csv: its columns are .*'Salary'.*, expected"),
    ],
)
def test_another_heloc_file_is_refused(tmp_path, options, message):
    write_heloc(tmp_path / "heloc_dataset_v1.csv", **options)
    with pytest.raises(ValueError, match=message):
        fico.load(tmp_path)


@pytest.mark.parametrize("line", ["Bad,1,2", "Fair" + ",1" * 23, "Bad,x" + ",1" * 22])
def test_a_line_of_heloc_in_another_format_is_named(tmp_path, line):
    write_heloc(tmp_path / "heloc_dataset_v1.csv", rows=fico.ROWS - 1)
    with open(tmp_path / "heloc_dataset_v1.csv", "a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=r"heloc_dataset_v1.csv, line 10460: expected one of \['Good', 'Bad'\]"):
        fico.load(tmp_path)


@pytest.mark.parametrize("mirror", [False, True])
def test_a_file_that_nobody_may_fetch_says_where_to_ask_and_where_to_put_it(here, monkeypatch, mirror):
    if mirror:
        monkeypatch.setenv("ATTRIFLOW_DATA_MIRROR", str(here / "mirror"))
    with pytest.raises(ValueError) as caught:
        _raw.fetch("fico", fico.FILES, (), ask=fico.ASK)
    assert "data/raw/fico/heloc_dataset_v1.csv is missing" in str(caught.value)
    assert "https://community.fico.com/s/explainable-machine-learning-challenge" in str(caught.value)
    assert "set ATTRIFLOW_DATA_MIRROR to a folder that holds fico/heloc_dataset_v1.csv" in str(caught.value)


@pytest.mark.parametrize("place", ["data/raw", "mirror"])
def test_a_file_that_nobody_may_fetch_is_taken_from_where_it_was_put(here, monkeypatch, place):
    monkeypatch.setenv("ATTRIFLOW_DATA_MIRROR", str(here / "mirror"))
    write_heloc(here / place / "fico/heloc_dataset_v1.csv")
    folder = _raw.fetch("fico", fico.FILES, (), ask=fico.ASK)
    assert len(fico.load(folder).y) == fico.EXAMPLES
    path = here / "data/raw/fico/heloc_dataset_v1.csv"
    assert _raw.sums("fico", fico.FILES) == {path.name: sha256(path)}


# --- cifar2 --------------------------------------------------------------------------------------------------


@pytest.fixture
def cats(tmp_path, monkeypatch) -> dict[str, Path]:
    """The two files in their formats, with the same 60 images of 10 classes, and the pinned sum of these."""
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (60, 3, 32, 32), np.uint8), np.arange(60) % 10
    members = {
        f"data_batch_{number + 1}": pickled(x[10 * number : 10 * number + 10], y[10 * number : 10 * number + 10])
        for number in range(5)
    } | {"test_batch": pickled(x[50:], y[50:])}
    chosen = np.isin(y, (3, 5))
    arrays = {
        "x": x[chosen],
        "y": y[chosen].astype(np.uint8),
        "is_test": (np.arange(60) >= 50)[chosen].astype(np.uint8),
    }
    for name in ("compact", "official"):
        (tmp_path / name).mkdir()
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    (tmp_path / "compact/cat_dog.npz.xz").write_bytes(lzma.compress(buffer.getvalue()))
    archive(tmp_path / "official/cifar-10-python.tar.gz", members)
    test = arrays["is_test"].astype(bool)
    ordered = [arrays[name][part] for part in (~test, test) for name in ("x", "y")]
    monkeypatch.setattr(cifar2, "SHA256", hashlib.sha256(b"".join(each.tobytes() for each in ordered)).hexdigest())
    return {name: tmp_path / name for name in ("compact", "official")}


def pickled(x: np.ndarray, y: np.ndarray) -> bytes:
    """As Python 2 wrote it."""
    buffer = io.BytesIO()
    Python2(buffer, protocol=2).dump(
        {b"data": x.reshape(len(x), -1), b"labels": y.tolist(), b"batch_label": b"a batch"}
    )
    return buffer.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


class Python2(pickle._Pickler):
    """Writes bytes and text as the strings that Python 2 had."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_string(self, value: bytes | str):
        content = value.encode() if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_string


def archive(path: Path, members: dict[str, bytes]):
    with tarfile.open(path, "w:gz") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


def test_both_files_of_cifar_give_the_same_cats_and_dogs(cats):
    compact, official = (cifar2.load(folder) for folder in cats.values())
    for name in ("x", "y", "test_x", "test_y"):
        np.testing.assert_array_equal(getattr(compact, name), getattr(official, name))
    assert compact.y.tolist() == [0, 1] * 5
    assert compact.test_y.tolist() == [0, 1]
    assert compact.x.shape == (10, 3, 32, 32)
    assert compact.x.dtype == np.float32
    assert 0.99 < compact.x.max() <= 1


def test_other_images_are_refused_by_their_sum(cats, monkeypatch):
    monkeypatch.setattr(cifar2, "SHA256", "another")
    with pytest.raises(ValueError, match=r"cat_dog.npz.xz: its cats and dogs have SHA-256 .*, expected another"):
        cifar2.load(cats["compact"])


def test_code_in_the_archive_of_cifar_is_not_run(cats, tmp_path):
    class Attack:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    path = cats["official"] / "cifar-10-python.tar.gz"
    archive(path, {"data_batch_1": pickle.dumps({b"data": Attack()})})
    with pytest.raises(ValueError, match=r"'data_batch_1' is missing, damaged or holds more than arrays .*mkdir"):
        cifar2.load(cats["official"])
    assert not (tmp_path / "owned").exists()


def test_an_archive_without_a_batch_is_refused(cats):
    archive(cats["official"] / "cifar-10-python.tar.gz", {"readme.html": b""})
    with pytest.raises(ValueError, match="'data_batch_1' is missing"):
        cifar2.load(cats["official"])


def test_one_of_two_files_is_enough_and_the_first_that_is_there_is_taken(here, monkeypatch):
    (here / "mirror/toy").mkdir(parents=True)
    (here / "mirror/toy/b").write_bytes(b"b")
    sums = {"a": "0", "b": sha256(here / "mirror/toy/b"), "c": "0"}
    monkeypatch.setenv("ATTRIFLOW_DATA_MIRROR", str(here / "mirror"))
    folder = _raw.fetch("toy", sums, (), either=True)
    assert [path.name for path in folder.iterdir()] == ["b"]
    assert _raw.sums("toy", sums) == sums  # which of them is there is in no spec
    with pytest.raises(ValueError, match=r"mirror/other/c is missing"):
        _raw.fetch("other", sums, (), either=True)


@pytest.mark.mirror
def test_the_cats_and_dogs_of_the_mirror_are_read(mirrored):
    raw = mirrored(cifar2)
    assert raw.x.shape == (cifar2.TRAIN_EXAMPLES, 3, 32, 32)
    assert np.bincount(raw.y).tolist() == [5000, 5000]
    assert np.bincount(raw.test_y).tolist() == [1000, 1000]
    assert (raw.x.min(), raw.x.max()) == (0, 1)


# --- sst2 ----------------------------------------------------------------------------------------------------

PHRASES = [("a good film ", 1), ('a bad " film', 0), ("good good", 1)]


def write_sst(folder: Path, train=PHRASES, test=(("a strange film", 0),)):
    for name, phrases in (("train.tsv", train), ("dev.tsv", test)):
        lines = ["sentence\tlabel", *(f"{text}\t{label}" for text, label in phrases)]
        (folder / name).write_text("\n".join(lines) + "\n")


def test_phrases_become_padded_sequences_of_frequent_words(tmp_path):
    write_sst(tmp_path)
    raw = sst2.load(tmp_path, length=4, vocabulary=3)  # good (3 times), a, film (2 times each)
    assert raw.x.tolist() == [[3, 2, 4, 0], [3, 1, 1, 4], [2, 2, 0, 0]]
    assert raw.test_x.tolist() == [[3, 1, 4, 0]]
    assert (raw.y.tolist(), raw.test_y.tolist()) == ([1, 0, 1], [0])
    assert (raw.classes, raw.tokens) == (2, 5)
    assert sst2.load(tmp_path, length=2, vocabulary=3).x.tolist() == [[3, 2], [3, 1], [2, 2]]


def test_a_vocabulary_larger_than_there_are_words_is_refused(tmp_path):
    write_sst(tmp_path)
    with pytest.raises(ValueError, match="sst2: a vocabulary of 6: the training file has 5 words"):
        sst2.load(tmp_path, vocabulary=6)


@pytest.mark.parametrize("line", ["good\t2", "good", "\t1", "good\t1\t1"])
def test_a_line_of_sst2_in_another_format_is_named(tmp_path, line):
    write_sst(tmp_path)
    with open(tmp_path / "train.tsv", "a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=r"train.tsv, line 5: expected words, a tab, and 0 or 1"):
        sst2.load(tmp_path, vocabulary=2)


def test_a_file_without_the_heading_of_sst2_is_refused(tmp_path):
    write_sst(tmp_path)
    (tmp_path / "dev.tsv").write_text("index\tsentence\n0\tgood\n")
    with pytest.raises(ValueError, match=r"dev.tsv: begins with \['index', 'sentence'\]"):
        sst2.load(tmp_path, vocabulary=2)


def test_labels_of_sequences_may_be_noisy_and_tokens_must_be_in_range():
    random = np.random.default_rng(0)
    raw = Raw(random.integers(1, 9, (60, 5)), random.integers(0, 2, 60), classes=2, tokens=9)
    drawn = split(raw, "toy", 0, **OPTIONS | {"label_noise": {"fraction": 0.2, "seed": 0}})
    assert (drawn.train_y != drawn.clean_y).sum() == 6
    assert (drawn.tokens, drawn.classes, drawn.train_x.dtype) == (9, 2, np.int64)
    with pytest.raises(
        ValueError, match=r"training inputs \(60, 5\) int64 from 1 to 8 .* expected sequences .* of 8 tokens"
    ):
        split(Raw(raw.x, raw.y, classes=2, tokens=8), "toy", 0, **OPTIONS)


@pytest.mark.mirror
def test_the_official_phrases_are_read(mirrored):
    raw = mirrored(sst2)
    assert raw.x.shape == (sst2.TRAIN_EXAMPLES, 64)
    assert raw.test_x.shape == (sst2.TEST_EXAMPLES, 64)
    assert np.bincount(raw.y).tolist() == [29780, 37569]
    assert np.bincount(raw.test_y).tolist() == [428, 444]
    assert ((raw.x != PADDING).sum(1).min(), (raw.x != PADDING).sum(1).max()) == (1, 52)
    known = raw.test_x[raw.test_x != PADDING] != sst2.UNKNOWN
    assert abs(known.mean() - 0.877) < 1e-3


# --- archives ------------------------------------------------------------------------------------------------


def test_a_file_inside_a_folder_of_an_archive_is_found_and_written_nowhere_else(here, server):  # noqa: F811
    folder, address = server
    (here / "phrases").write_bytes(b"phrases")
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        archive.writestr("deep/inside/train.tsv", b"phrases")
        archive.writestr("../../outside.tsv", b"attack")
        archive.writestr("/outside.tsv", b"attack")
    fetched = _raw.fetch("toy", {"train.tsv": sha256(here / "phrases")}, (f"{address}all.zip",))
    assert [path.name for path in fetched.iterdir()] == ["train.tsv"]
    assert not list(here.rglob("outside.tsv"))
    with pytest.raises(ValueError, match=r"it holds 2 files 'outside.tsv'"):
        _raw.fetch("toy", {"outside.tsv": "0"}, (f"{address}all.zip",))
