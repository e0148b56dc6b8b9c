"""Data: real examples, drawn by seed, or a clear error."""

import functools
import gzip
import hashlib
import http.server
import io
import os
import struct
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from attriflow.data import Raw, _raw, _tables, concrete, diabetes, digits, energy, mnist, split, tinyshakespeare

OPTIONS = {"train": 30, "test": 10, "standardise": True, "label_noise": None}


@pytest.fixture
def raw():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((60, 1, 3, 3)).astype(np.float32), random.integers(0, 4, 60)
    return Raw(x, y)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATTRIFLOW_DATA_MIRROR", raising=False)
    return tmp_path


def test_digits_are_the_real_ones():
    raw = digits.load(None)
    assert raw.x.shape == (1797, 1, 8, 8)
    assert (raw.x.min(), raw.x.max()) == (0, 16)
    assert np.bincount(raw.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_splits_share_no_example_and_follow_the_seed(raw):
    first, again, other = (split(raw, "toy", seed, **OPTIONS) for seed in (0, 0, 1))
    assert not set(first.train_index) & set(first.test_index)
    assert first.train_index.tolist() == again.train_index.tolist() != other.train_index.tolist()
    assert first.train_x.shape == (30, 1, 3, 3)
    np.testing.assert_allclose(first.train_x * first.std + first.mean, raw.x[first.train_index], atol=1e-6)


def test_standardising_uses_the_training_examples_alone(raw):
    drawn = split(raw, "toy", 0, **OPTIONS)
    assert abs(drawn.train_x.mean()) < 1e-6
    assert abs(drawn.train_x.std() - 1) < 1e-5
    assert drawn.mean == raw.x[drawn.train_index].mean(dtype=np.float64)


def test_official_test_examples_are_used_where_there_are_any(raw):
    drawn = split(Raw(raw.x, raw.y, -raw.x[:20], raw.y[:20]), "toy", 0, **OPTIONS)
    np.testing.assert_allclose(drawn.test_x * drawn.std + drawn.mean, -raw.x[drawn.test_index], atol=1e-6)
    assert drawn.test_index.max() < 20


def test_label_noise_replaces_its_share_and_keeps_the_clean_labels(raw):
    noisy = split(raw, "toy", 0, **OPTIONS | {"label_noise": {"fraction": 0.2, "seed": 3}})
    clean = split(raw, "toy", 0, **OPTIONS)
    assert (noisy.train_y != noisy.clean_y).sum() == 6
    assert noisy.clean_y.tolist() == clean.train_y.tolist()
    assert set(noisy.train_y) <= set(range(4))
    assert noisy.test_y.tolist() == clean.test_y.tolist()


def test_more_examples_than_there_are_is_refused(raw):
    with pytest.raises(
        ValueError, match=r"datasets.toy: 55 training and 10 test examples asked for; it has 60 examples"
    ):
        split(raw, "toy", 0, **OPTIONS | {"train": 55})


def test_labels_that_do_not_match_the_inputs_are_refused(raw):
    with pytest.raises(ValueError, match="60 training inputs but 59 labels"):
        split(Raw(raw.x, raw.y[1:]), "toy", 0, **OPTIONS)


def test_inputs_that_are_not_finite_are_refused_by_index(raw):
    raw.x[17, 0, 1, 1] = np.nan
    with pytest.raises(ValueError, match="training input 17 is not finite"):
        split(raw, "toy", 0, **OPTIONS)


def test_sequences_keep_their_indices_and_their_alphabet(tmp_path):
    (tmp_path / "input.txt").write_text("abcab" * 40 + "z")
    raw = tinyshakespeare.load(tmp_path, length=4)
    assert raw.x.shape == (50, 4)
    assert raw.x[:2].tolist() == [[0, 1, 2, 0], [1, 0, 1, 2]]
    assert raw.y[:2].tolist() == [[1, 2, 0, 1], [0, 1, 2, 0]]
    drawn = split(raw, "toy", 0, **OPTIONS)
    assert drawn.train_x.dtype == np.int64
    assert drawn.classes == 4
    assert drawn.train_x.tolist() == raw.x[drawn.train_index].tolist()
    with pytest.raises(ValueError, match=r"datasets.toy.label_noise: sequences have a label at every position"):
        split(raw, "toy", 0, **OPTIONS | {"label_noise": {"fraction": 0.2, "seed": 3}})


# --- raw files -----------------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    return gzip.compress(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


def test_idx_files_are_read_in_their_shape(tmp_path):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "x.gz").write_bytes(idx(pixels))
    assert mnist.read_idx(tmp_path / "x.gz").tolist() == pixels.tolist()


def test_an_idx_file_with_another_header_is_refused(tmp_path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"\0\0\x0d\x01" + bytes(20)))
    with pytest.raises(ValueError, match="starts with 00000d01, expected 000008"):
        mnist.read_idx(tmp_path / "x.gz")


def test_an_idx_file_shorter_than_its_header_says_is_refused(tmp_path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(gzip.decompress(idx(np.zeros((5, 4), np.uint8)))[:-3]))
    with pytest.raises(ValueError, match=r"holds 17 values, its header says \(5, 4\)"):
        mnist.read_idx(tmp_path / "x.gz")


CONTENT = b"official bytes"
SUM = hashlib.sha256(CONTENT).hexdigest()


def test_a_mirror_is_copied_from_and_verified(here, monkeypatch):
    (here / "mirror/toy").mkdir(parents=True)
    (here / "mirror/toy/a.gz").write_bytes(CONTENT)
    monkeypatch.setenv("ATTRIFLOW_DATA_MIRROR", str(here / "mirror"))
    folder = _raw.fetch("toy", {"a.gz": SUM}, ())
    assert (folder / "a.gz").read_bytes() == CONTENT


@pytest.mark.parametrize("content", [b"official byt", b"<html>sorry</html>", b""])
def test_a_truncated_or_altered_mirror_file_is_refused_and_nothing_is_left(here, monkeypatch, content):
    (here / "mirror/toy").mkdir(parents=True)
    (here / "mirror/toy/a.gz").write_bytes(content)
    monkeypatch.setenv("ATTRIFLOW_DATA_MIRROR", str(here / "mirror"))
    found = hashlib.sha256(content).hexdigest()
    with pytest.raises(ValueError, match=f"a.gz is altered or truncated: SHA-256 {found}, expected {SUM}.*unset"):
        _raw.fetch("toy", {"a.gz": SUM}, ())
    assert list((here / "data/raw/toy").iterdir()) == []


def test_a_file_missing_from_the_mirror_names_both_remedies(here, monkeypatch):
    monkeypatch.setenv("ATTRIFLOW_DATA_MIRROR", str(here / "mirror"))
    with pytest.raises(
        ValueError, match=r"a.gz is missing. Put the official file .* there, or unset ATTRIFLOW_DATA_MIRROR"
    ):
        _raw.fetch("toy", {"a.gz": SUM}, ())


def test_an_altered_raw_file_is_refused_and_changes_the_sums(here):
    path = here / "data/raw/toy/a.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert _raw.sums("toy", {"a.gz": SUM, "b.gz": "pinned"}) == {"a.gz": SUM, "b.gz": "pinned"}
    path.write_bytes(b"other")
    assert _raw.sums("toy", {"a.gz": SUM})["a.gz"] != SUM
    with pytest.raises(ValueError, match=r"data/raw/toy/a.gz is altered or truncated.*Delete it to fetch it again"):
        _raw.fetch("toy", {"a.gz": SUM}, ())


@pytest.fixture
def server(tmp_path):
    """A server on this machine and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


def test_a_download_is_verified(here, server):
    folder, address = server
    (folder / "a.gz").write_bytes(CONTENT)
    fetched = _raw.fetch("toy", {"a.gz": SUM}, (address + "gone/", address))  # the first address has nothing
    assert (fetched / "a.gz").read_bytes() == CONTENT


def test_a_corrupt_download_is_refused_and_nothing_is_left(here, server):
    folder, address = server
    (folder / "a.gz").write_bytes(CONTENT[:5])
    with pytest.raises(ValueError, match=f"could not be fetched .expected SHA-256 {SUM}.*set ATTRIFLOW_DATA_MIRROR"):
        _raw.fetch("toy", {"a.gz": SUM}, (address,))
    assert list((here / "data/raw/toy").iterdir()) == []


@pytest.mark.mirror
def test_the_official_mnist_files_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv(_raw.MIRROR, str(Path(os.environ[_raw.MIRROR]).resolve()))
    monkeypatch.chdir(tmp_path)
    raw = mnist.load(_raw.fetch("mnist", mnist.FILES, ()))
    assert raw.x.shape == (60000, 1, 28, 28)
    assert raw.test_x.shape == (10000, 1, 28, 28)
    assert np.bincount(raw.y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert (raw.x.min(), raw.x.max()) == (0, 1)


@pytest.mark.mirror
def test_the_official_plays_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv(_raw.MIRROR, str(Path(os.environ[_raw.MIRROR]).resolve()))
    monkeypatch.chdir(tmp_path)
    raw = tinyshakespeare.load(_raw.fetch("tinyshakespeare", tinyshakespeare.FILES, ()), length=64)
    assert raw.x.shape == raw.y.shape == (17428, 64)
    assert raw.classes == 65
    assert raw.x[5, 1:].tolist() == raw.y[5, :-1].tolist()


# --- tables of features --------------------------------------------------------------------------------------


@pytest.fixture
def table():
    """60 rows of four columns of very different size, the last one constant, and targets."""
    random = np.random.default_rng(0)
    x = (random.standard_normal((60, 4)) * [1, 100, 0.01, 0] + [0, 5000, 1, 0.1]).astype(np.float32)
    return Raw(x, (x[:, 1] + 3).astype(np.float32), features=True, names=("a", "b", "c", "d"))


def test_every_column_and_the_target_is_standardised_by_its_own_training_values(table):
    drawn = split(table, "toy", 0, **OPTIONS)
    train, targets = table.x[drawn.train_index].astype(np.float64), table.y[drawn.train_index].astype(np.float64)
    assert drawn.mean.shape == drawn.std.shape == (4,)
    np.testing.assert_allclose(drawn.mean, train.mean(0))
    np.testing.assert_allclose(drawn.std[:3], train.std(0)[:3])
    np.testing.assert_allclose(drawn.train_x[:, :3].std(0), 1, rtol=1e-5)
    np.testing.assert_allclose([drawn.target_mean, drawn.target_std], [targets.mean(), targets.std()])
    np.testing.assert_allclose(drawn.test_x * drawn.std + drawn.mean, table.x[drawn.test_index], rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(drawn.test_y * drawn.target_std + drawn.target_mean, table.y[drawn.test_index], 1e-5)
    assert drawn.train_x.dtype == drawn.train_y.dtype == drawn.test_y.dtype == np.float32
    assert (drawn.regression, drawn.classes, drawn.features, drawn.names) == (True, 1, True, ("a", "b", "c", "d"))


def test_a_column_that_is_constant_in_training_is_shifted_to_zero_and_keeps_its_unit(table):
    drawn = split(table, "toy", 0, **OPTIONS)
    assert not drawn.train_x[:, 3].any()
    assert drawn.std[3] == 1
    other = table.x.copy()
    other[drawn.test_index, 3] = 2.1
    np.testing.assert_allclose(split(Raw(other, table.y, features=True), "toy", 0, **OPTIONS).test_x[:, 3], 2)


def test_nothing_is_standardised_where_the_config_says_so(table):
    drawn = split(table, "toy", 0, **OPTIONS | {"standardise": False})
    assert np.array_equal(drawn.train_x, table.x[drawn.train_index])
    assert np.array_equal(drawn.test_y, table.y[drawn.test_index])
    assert (drawn.mean, drawn.std, drawn.target_mean, drawn.target_std) == (0, 1, 0, 1)


def test_features_of_classes_are_standardised_by_column_and_their_labels_left_alone(table):
    drawn = split(Raw(table.x, np.arange(60) % 3, features=True), "toy", 0, **OPTIONS)
    assert drawn.std.shape == (4,)
    assert (drawn.regression, drawn.classes) == (False, 3)
    assert drawn.test_y.tolist() == (drawn.test_index % 3).tolist()


def test_a_saved_split_is_read_as_it_was(table, tmp_path):
    from dataclasses import asdict

    from attriflow.data import load_split
    from attriflow.io import save_arrays

    drawn = split(table, "toy", 0, **OPTIONS)
    save_arrays(tmp_path / "data.npz", asdict(drawn))
    read = load_split(tmp_path / "data.npz")
    assert read.names == drawn.names
    assert (read.features, read.classes, read.regression) == (True, 1, True)
    assert np.array_equal(read.train_y, drawn.train_y)
    assert np.array_equal(read.mean, drawn.mean)


REFUSED = {
    "noise on numbers": ({}, {"label_noise": {"fraction": 0.2, "seed": 3}}, "datasets.toy.label_noise: labels are num"),
    "equal targets": ({"y": np.full(60, 2, np.float32)}, {}, "datasets.toy: every training target is 2.0"),
    "a target that is not finite": ({"y": np.r_[[np.nan], np.ones(59)]}, {}, "training label 0 is not finite"),
    "several targets": (
        {"y": np.ones((60, 2))},
        {},
        r"training labels are numbers, \(60, 2\); expected one an example",
    ),
    "classes of numbers": ({"classes": 3}, {}, r"labels are numbers, \(60,\) and 3 classes; expected"),
    "features of images": ({"x": np.ones((60, 1, 3, 3))}, {}, r"training inputs \(60, 1, 3, 3\).*columns \(N, d\)"),
    "too few names": ({"names": ("a", "b")}, {}, r"training inputs \(60, 4\) and 2 names; features are columns"),
    "constant columns": ({"x": np.ones((60, 4))}, {}, "every training input has the value"),
}


@pytest.mark.parametrize(("raw", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_tables_that_cannot_be_are_refused(table, raw, options, message):
    with pytest.raises(ValueError, match=message):
        split(Raw(**vars(table) | raw), "toy", 0, **OPTIONS | options)


def test_diabetes_are_the_real_ones():
    raw = diabetes.load(None)
    assert raw.x.shape == (442, 10)
    assert raw.names[:4] == ("age", "sex", "bmi", "bp")
    assert (raw.y.min(), raw.y.max(), raw.y.dtype) == (25, 346, np.float32)
    assert raw.x[0, :4].tolist() == [59, 2, np.float32(32.1), 101]


OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
PARTS = {  # of a spreadsheet (.xlsx), which is a zip of XML
    "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"/>',
    "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
    f'<Relationship Id="a" Target="xl/workbook.xml" Type="{OFFICE}/officeDocument"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets><sheet name="s" sheetId="1" r:id="a"/>'
    "</sheets></workbook>",
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
    f'<Relationship Id="a" Target="worksheets/sheet1.xml" Type="{OFFICE}/worksheet"/></Relationships>',
}


def sheet(rows: list[list[object]]) -> bytes:
    """A spreadsheet of one sheet."""

    def cell(value):
        text = isinstance(value, str)
        return f'<c t="inlineStr"><is><t>{value}</t></is></c>' if text else f"<c><v>{value}</v></c>"

    lines = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
    content = f'<worksheet xmlns="{MAIN}"><sheetData>{lines}</sheetData></worksheet>'
    return zipped(PARTS | {"xl/worksheets/sheet1.xml": content})


def zipped(members: dict[str, bytes | str]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return written.getvalue()


def test_a_sheet_is_read_as_features_and_a_target(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(sheet([["X1", "X2", "Y1", "Y2"], [1, 2.5, 3, 4], [5, 6, 7.25, 8]]))
    raw = _tables.regression(tmp_path / "a.xlsx", names=("first", "second"), target=2, examples=2)
    assert raw.x.tolist() == [[1, 2.5], [5, 6]]
    assert raw.y.tolist() == [3, 7.25]
    assert (raw.features, raw.names) == (True, ("first", "second"))


def test_a_sheet_with_a_gap_or_a_row_too_few_is_refused(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(sheet([["X1", "Y1"], [1, 2], ["?", 4]]))
    with pytest.raises(ValueError, match=r"a.xlsx: 2 rows, 1 of them without a number; expected 3 of numbers"):
        _tables.regression(tmp_path / "a.xlsx", names=("first",), target=1, examples=3)


def test_a_file_is_taken_from_an_archive_and_verified(here, server):
    folder, address = server
    (folder / "all.zip").write_bytes(zipped({"a.gz": CONTENT, "../evil": b"x"}))
    fetched = _raw.fetch("toy", {"a.gz": SUM}, (address + "all.zip",))
    assert (fetched / "a.gz").read_bytes() == CONTENT
    assert [path.name for path in here.rglob("*") if path.is_file() and "served" not in path.parts] == ["a.gz"]


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (zipped({"a.gz": b"other"}), f"a file with SHA-256 {hashlib.sha256(b'other').hexdigest()} came from there"),
        (zipped({"b.gz": CONTENT}), "it holds 0 files 'a.gz', expected one"),
        (CONTENT, "File is not a zip file"),
    ],
    ids=["altered", "missing", "no archive"],
)
def test_an_archive_without_the_official_file_is_refused_and_nothing_is_left(here, server, archive, reason):
    folder, address = server
    (folder / "all.zip").write_bytes(archive)
    with pytest.raises(ValueError, match=f"could not be fetched .expected SHA-256 {SUM}.*") as caught:
        _raw.fetch("toy", {"a.gz": SUM}, (address + "all.zip",))
    assert reason in str(caught.value)
    assert list((here / "data/raw/toy").iterdir()) == []


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("kind", "shape", "first", "last"),
    [(concrete, (1030, 8), 79.98611, 32.40124), (energy, (768, 8), 15.55, 16.64)],
    ids=["concrete", "energy"],
)
def test_the_official_tables_are_read(tmp_path, monkeypatch, kind, shape, first, last):
    name = kind.__name__.rpartition(".")[2]
    monkeypatch.setenv(_raw.MIRROR, str(Path(os.environ[_raw.MIRROR]).resolve()))
    monkeypatch.chdir(tmp_path)
    raw = kind.load(_raw.fetch(name, kind.FILES, ()))
    assert raw.x.shape == shape
    assert len(raw.names) == 8
    np.testing.assert_allclose([raw.y[0], raw.y[-1]], [first, last], rtol=1e-5)
