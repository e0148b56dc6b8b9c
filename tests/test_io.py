"""Files: whole or not at all, and nothing in them runs."""

import errno

import numpy as np
import pytest
from conftest import Project
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from attriflow import io, provenance


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.text("abc/=,0.", min_size=1, max_size=8).filter(lambda name: ".." not in name and name.strip("/") == name),
        arrays.arrays(
            st.sampled_from([np.float32, np.float64, np.int64, np.bool_, np.dtype("<U5")]),
            arrays.array_shapes(min_dims=0, max_dims=3, min_side=0),
        ),
        max_size=4,
    )
)
def test_arrays_come_back_as_they_went(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("io") / "a.npz"
    io.save_arrays(path, content)
    read = io.load_arrays(path)
    assert read.keys() == content.keys()
    for name, array in content.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_numpy_reads_our_arrays(tmp_path):
    io.save_arrays(tmp_path / "a.npz", {"x": np.arange(6).reshape(2, 3).T})
    assert np.load(tmp_path / "a.npz")["x"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_equal_arrays_make_equal_files(tmp_path):
    for name in ("a", "b"):
        io.save_arrays(tmp_path / f"{name}.npz", iter([("x", np.ones(5))]))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_reading_shares_no_write_with_the_file(tmp_path):
    io.save_arrays(tmp_path / "a.npz", {"x": np.ones(5)})
    io.load_arrays(tmp_path / "a.npz")["x"][:] = 7
    assert io.load_arrays(tmp_path / "a.npz")["x"].tolist() == [1] * 5


@pytest.mark.parametrize("keep", [0, 10, 200, -30])
def test_a_truncated_file_of_arrays_is_refused_by_name(tmp_path, keep):
    path = tmp_path / "a.npz"
    io.save_arrays(path, {"x": np.ones(100)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"a.npz is truncated or not an archive of arrays"):
        io.load_arrays(path)


def test_python_objects_in_a_file_of_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"'x.npy' holds Python objects"):
        io.load_arrays(tmp_path / "a.npz")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.npz"
    io.save_arrays(path, {"x": np.ones(3)})

    def broken():
        yield "x", np.zeros(3)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match=r"half way"):
        io.save_arrays(path, broken())
    assert io.load_arrays(path)["x"].tolist() == [1] * 3
    assert [each.name for each in tmp_path.iterdir()] == ["a.npz"]


def test_a_full_disk_is_said_with_the_file_and_leaves_nothing(tmp_path):
    with (
        pytest.raises(OSError, match=r"no space left to write .*a.json \(\d+ MiB free\); free some and run again"),
        io.replacing(tmp_path / "a.json") as partial,
    ):
        partial.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


# --- provenance ----------------------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = {"outputs": {"data": "x.npz"}, "settings": {"a": 1.5}}
    io.save_arrays("x.npz", {"x": np.ones(3)})
    provenance.write("x.made.json", spec, {"data": tmp_path / "x.npz"}, {"seconds": 1.0})
    return spec


def test_a_result_made_from_the_expected_spec_passes(made):
    provenance.verify("x.npz", "x.made.json", provenance.digest(made))


def test_a_result_made_from_another_spec_is_refused(made):
    with pytest.raises(ValueError, match=r"x.npz was made from another spec than this job was planned with"):
        provenance.verify("x.npz", "x.made.json", provenance.digest(made | {"settings": {"a": 2}}))


def test_a_flipped_bit_is_refused(made, tmp_path):
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[-40] ^= 1
    (tmp_path / "x.npz").write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"x.npz was altered after it was made.*delete x.made.json and run again"):
        provenance.verify("x.npz", "x.made.json", provenance.digest(made))


@pytest.mark.parametrize("content", [None, "", "{", "[1]", '{"spec": 1}'])
def test_a_result_that_says_nothing_of_itself_is_refused(made, tmp_path, content):
    path = tmp_path / "x.made.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ValueError, match=r"x.made.json is missing or altered"):
        provenance.verify("x.npz", "x.made.json", provenance.digest(made))


@pytest.mark.parametrize("name", ["results", "specs"])
def test_a_file_in_place_of_a_folder_stops_a_run_in_one_line_with_the_remedy(tmp_path, name):
    project = Project.create(tmp_path)
    (tmp_path / name).write_text("")
    failed = project.snakemake("--dry-run", check=False)
    assert failed.returncode
    assert (
        f"{name} is a file, and a run writes to a folder of that name; move the file away"
        in failed.stdout + failed.stderr
    )
    assert "Traceback" not in failed.stdout + failed.stderr
