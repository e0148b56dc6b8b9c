"""What a user's loader may hand over: taken by position as it is meant, or refused by data set and example."""

import enum
import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Project

from attriflow.data import IGNORED, Raw, _arrays, diabetes, digits, load_split, split
from attriflow.extremes import extremes
from attriflow.figures import examples
from attriflow.io import save_arrays

RANDOM = np.random.default_rng(0)
N = 40
IMAGES = RANDOM.standard_normal((N, 1, 8, 8)).astype(np.float32)
X = RANDOM.standard_normal((N, 4))
Y = np.arange(N) % 3
TOKENS = RANDOM.integers(1, 9, (N, 6))
NEXT = RANDOM.integers(0, 9, (N, 6))


def drawn(raw, **options):
    """20 training and 5 test examples of a loader's answer."""
    given = {"train": 20, "test": 5, "standardise": True, "label_noise": None}
    return split(raw, "mine", 0, **given | options)


def put(values: np.ndarray, place, value) -> np.ndarray:
    """A copy with one entry replaced."""
    copy = values.copy()
    copy[place] = value
    return copy


def objects(values: list) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


# --- arrays of any kind, by position -------------------------------------------------------------------------

TABLE = pd.DataFrame(X, columns=list("abcd")).assign(label=Y).sort_values("b")  # its index is 0 to 39 in disorder
COLUMNS = list("abcd")


def same(values):
    return values, X


INPUTS = {
    "lists": same(X.tolist()),
    "a list of arrays": same(list(X)),
    "a list of tensors": same(list(torch.tensor(X))),
    "an array of arrays": same(objects(list(X))),
    "an array of Python numbers": same(X.astype(object)),
    "Fortran order": same(np.asfortranarray(X)),
    "another byte order": same(X.astype(">f8")),
    "a mask of nothing": same(np.ma.array(X, mask=False)),
    "a tensor that requires gradients": same(torch.tensor(X, requires_grad=True)),
    "bfloat16": (torch.tensor(X).bfloat16(), torch.tensor(X).bfloat16().double().numpy()),
    "a sorted table": (TABLE[COLUMNS], TABLE[COLUMNS].to_numpy()),
    "nullable numbers": same(pd.DataFrame(X).astype("Float64")),
    "flags": (X > 0, (X > 0).astype(float)),
    "flags and numbers of a table": (
        pd.DataFrame({"one": X[:, 0] > 0, "other": X[:, 1]}),
        np.c_[X[:, 0] > 0, X[:, 1]],
    ),
    "int16": ((X * 100).astype(np.int16), (X * 100).astype(np.int16).astype(float)),
    "uint8": ((X * 20 + 100).astype(np.uint8), (X * 20 + 100).astype(np.uint8).astype(float)),
}


@pytest.mark.parametrize(("given", "plain"), INPUTS.values(), ids=INPUTS)
def test_inputs_of_any_kind_are_what_they_are_as_a_plain_array(given, plain):
    found, expected = drawn(Raw(given, Y)), drawn(Raw(plain, Y))
    assert found.train_x.dtype == np.float32
    np.testing.assert_array_equal(found.train_x, expected.train_x)
    np.testing.assert_array_equal(found.test_x, expected.test_x)
    assert abs(found.train_x.mean()) < 1e-6
    assert abs(found.train_x.std() - 1) < 1e-6


LABELS = {
    "a series of a sorted table": (TABLE["label"], TABLE["label"].to_numpy()),
    "a series with gaps in its index": (pd.Series(Y, index=np.arange(N) * 7 + 3), Y),
    "a column": (Y[:, None], Y),
    "a table of one column": (pd.DataFrame({"label": Y}), Y),
    "uint8": (Y.astype(np.uint8), Y),
    "a tensor": (torch.tensor(Y), Y),
    "a list of tensors": (list(torch.tensor(Y)), Y),
    "nullable": (pd.Series(Y, dtype="Int64"), Y),
    "Python numbers": (Y.astype(object), Y),
}


@pytest.mark.parametrize(("given", "plain"), LABELS.values(), ids=LABELS)
def test_labels_of_any_kind_are_taken_by_position(given, plain):
    found = drawn(Raw(X, given))
    assert found.train_y.dtype == np.int64
    assert found.train_y.tolist() == plain[found.train_index].tolist()
    assert found.test_y.tolist() == plain[found.test_index].tolist()
    assert (found.classes, found.class_names) == (3, ())


def test_a_table_that_lost_rows_is_taken_by_position():
    table = TABLE.assign(a=TABLE.a.where(TABLE.index != 3)).dropna()
    found = drawn(Raw(table[COLUMNS], table["label"]))
    assert found.train_y.tolist() == table["label"].to_numpy()[found.train_index].tolist()


def test_a_memory_map_stays_one(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert np.shares_memory(_arrays.plain(mapped, "datasets.mine: training input"), mapped)
    np.testing.assert_array_equal(drawn(Raw(mapped, Y)).train_x, drawn(Raw(X, Y)).train_x)


@pytest.mark.gpu
def test_a_tensor_on_a_device_is_taken_from_it():
    found = drawn(Raw(torch.tensor(X, device="cuda", requires_grad=True), torch.tensor(Y, device="cuda")))
    np.testing.assert_array_equal(found.train_x, drawn(Raw(X, Y)).train_x)


MASKED = np.ma.array(X, mask=np.isin(X, X[7]))
MISSING = {
    "a masked input": ({"x": MASKED}, "training input 7 is masked"),
    "a masked test label": (
        {"test_x": X, "test_y": np.ma.array(Y, mask=np.arange(N) == 4)},
        "test label 4 is masked",
    ),
    "a gap in a column": (
        {"x": pd.DataFrame({"a": put(X[:, 0], 5, np.nan)})},
        "column 'a', example 5 is missing",
    ),
    "a nullable label": ({"y": pd.Series(Y, dtype="Int64").where(Y != 2)}, "training label 2 is missing"),
    "a category that is none": ({"y": pd.Categorical(["a", "b", None] + ["a"] * 37)}, "training label 2 is missing"),
    "None among text": ({"y": ["a", "b", None, "a"] * 10}, "training label 2 is missing .None."),
    "NaN among text": ({"y": ["a", float("nan")] * 20}, "training label 1 is missing .nan."),
    "blank text": ({"y": ["a", " "] * 20}, "training label 1 is missing: blank"),
    "None among numbers": ({"x": [[1.0, 2.0]] * 9 + [[1.0, None]] * 31}, "training input 9: entry 1 is missing"),
    "NaN": ({"x": put(X, (8, 2), np.nan)}, "training input 8 is not finite"),
    "infinity of half precision": ({"x": put(X.astype(np.float16), (8, 2), np.inf)}, "training input 8 is not finite"),
    "beyond single precision": ({"x": put(X, (9, 1), 1e39)}, r"training input 9 holds 1e\+39, beyond single precision"),
    "a target beyond single precision": ({"y": put(X[:, 0], 9, -1e39)}, r"training label 9 holds -1e\+39, beyond"),
}


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize(("given", "message"), MISSING.values(), ids=MISSING)
def test_what_is_missing_or_no_number_is_refused_by_its_example(given, message, standardise):
    with pytest.raises(ValueError, match=f"^datasets.mine: .*{message}"):
        drawn(Raw(**{"x": X, "y": Y} | given), standardise=standardise)


def test_a_test_example_that_scaling_takes_beyond_single_precision_is_refused():
    with pytest.raises(ValueError, match=r"datasets.mine: test input 3 is too far from the training examples"):
        drawn(Raw(X * 1e-30, Y, put(X, (3, 0), 1e30)[:5], Y[:5]))


NO_ARRAYS = {
    "a tuple": ((X, Y), r"load must return Raw\(x, y, ...\), not a tuple of 2"),
    "a dict": ({"x": X, "y": Y}, r"load must return Raw\(x, y, ...\), not a dict"),
    "nothing": (None, r"load must return Raw\(x, y, ...\), not None"),
    "inputs of a dict": (Raw({"a": X}, Y), "training inputs are of type dict; expected an array"),
    "inputs of a generator": (Raw((row for row in X), Y), "training inputs are of type generator"),
    "labels that are None": (Raw(X, None), "training labels are of type NoneType; expected an array"),
    "test inputs without labels": (Raw(X, Y, X), r"Raw\(...\) lacks test_y"),
    "examples of other shapes": (
        Raw([[1, 2]] * 39 + [[1]], Y),
        r"training input 39 has shape \(1,\), the first has \(2,\)",
    ),
    "arrays of other shapes": (
        Raw(objects([*X[:39], X[39, :3]]), Y),
        r"training input 39 has shape \(3,\), the first has \(4,\)",
    ),
    "text in a table": (
        Raw(pd.DataFrame({"colour": ["red", "blue"] * 20, "size": X[:, 0]}), Y),
        "training inputs: column 'colour' is text; make numbers of it, such as pandas.get_dummies does",
    ),
    "text": (Raw([["1", "2"]] * 40, Y), "training inputs are text, such as '1'"),
    "dates": (Raw(X, pd.date_range("2020", periods=40)), "training labels are of dtype datetime64"),
    "numbers and text": (Raw(X, ["a", 1] * 20), "training label 0 is text, 'a'; expected all numbers, or labels"),
    "a sparse matrix": (Raw(torch.tensor(X).to_sparse(), Y), "training inputs are a sparse"),
    "complex numbers": (Raw(X + 1j, Y), "training inputs are of dtype complex128; expected numbers"),
    "inputs without an axis": (Raw(X[:, 0], Y), r"training inputs have shape \(40,\); expected \S*.*x\[:, None\]"),
    "no examples": (Raw(X[:0], Y[:0]), "there are no training inputs"),
    "rows in two orders": (
        Raw(TABLE[COLUMNS], TABLE.sort_values("c")["label"]),
        "rows of the training inputs and labels have one index in two orders",
    ),
    "columns in two orders": (
        Raw(TABLE[COLUMNS], TABLE["label"], TABLE[COLUMNS[::-1]], TABLE["label"]),
        "columns of training and test inputs differ",
    ),
    "test images of another size": (
        Raw(IMAGES, Y, np.zeros((20, 1, 9, 9), np.float32), Y[:20]),
        r"training inputs have shape \(1, 8, 8\) and test inputs \(1, 9, 9\); expected one shape",
    ),
    "test images in another unit": (
        Raw((IMAGES * 20 + 100).astype(np.uint8), Y, IMAGES, Y),
        "training inputs are uint8 and test inputs float32, so their units may differ",
    ),
}


@pytest.mark.parametrize(("raw", "message"), NO_ARRAYS.values(), ids=NO_ARRAYS)
def test_what_is_no_array_of_examples_is_refused(raw, message):
    with pytest.raises(ValueError, match=f"^datasets.mine: {message}"):
        drawn(raw)


# --- classes -------------------------------------------------------------------------------------------------


class Animal(enum.Enum):
    """Objects as labels."""

    CAT = "c"
    DOG = "d"


CLASSES = {  # labels of the three (or two) classes, in the order of the classes
    "not from 0": (1, 2, 3),
    "with gaps": (0, 5, 9),
    "two far apart": (3, 7),
    "minus and plus": (-1, 1),
    "text": ("cat", "dog", "eel"),
    "flags": (False, True),
    "objects": (Animal.CAT, Animal.DOG),
}


@pytest.mark.parametrize("of", [list, np.array, pd.Series, pd.Categorical])
@pytest.mark.parametrize("labels", CLASSES.values(), ids=CLASSES)
def test_classes_are_counted_from_0_in_their_order_and_keep_their_names(labels, of, caplog, tmp_path):
    places = np.arange(N) % len(labels)
    found = drawn(Raw(X, of([labels[place] for place in places])))
    assert found.classes == len(labels)
    assert found.train_y.tolist() == places[found.train_index].tolist()
    names = tuple(label.name if isinstance(label, Animal) else str(label) for label in labels)
    assert found.class_names == names
    assert f"labels become classes from 0, in their order: {names[0]} -> 0, {names[1]} -> 1" in caplog.text
    save_arrays(tmp_path / "data.npz", asdict(found))
    assert load_split(tmp_path / "data.npz").class_names == names


def test_labels_from_0_are_their_own_names():
    assert drawn(Raw(X, Y)).class_names == ()


def test_classes_that_a_loader_counts_or_names_stay_where_they_are():
    few = np.array([0, 5, 9])[Y]
    counted = drawn(Raw(X, few, classes=10))
    assert (counted.classes, counted.train_y.tolist()) == (10, few[counted.train_index].tolist())
    named = drawn(Raw(X, np.array(["a", "b", "c"])[Y], class_names=("c", "b", "a", "unseen")))
    assert (named.classes, named.class_names) == (4, ("c", "b", "a", "unseen"))
    assert named.train_y.tolist() == (2 - Y[named.train_index]).tolist()


def test_labels_of_a_floating_dtype_are_what_the_loader_or_the_config_says():
    whole = Y.astype(float)
    said = (drawn(Raw(X, whole, task="classification")), drawn(Raw(X, whole), task="classification"))
    for found in (*said, drawn(Raw(X, whole, classes=3))):
        assert (found.regression, found.classes, found.train_y.dtype) == (False, 3, np.int64)
    ages = np.arange(N) + 20
    for found in (drawn(Raw(X, whole, task="regression")), drawn(Raw(X, ages), task="regression")):
        assert (found.regression, found.classes, found.train_y.dtype) == (True, 1, np.float32)


def test_a_target_in_a_column_is_one_an_example():
    assert drawn(Raw(X, X[:, :1])).train_y.shape == (20,)


UNCLEAR = {
    "few whole numbers": (
        {"y": Y.astype(float)},
        "labels are 3 whole numbers in a floating dtype, 0.0, 1.0, 2.0.*task",
    ),
    "many whole numbers": (
        {"y": np.arange(N) + 20},
        "labels are whole numbers, 40 different ones of 40.*task: regression",
    ),
    "two who say what it is": (
        {"task": "regression"},
        "the loader says that it is a regression, the config says a class",
    ),
    "an unknown task": ({"task": "ranking"}, "task is 'ranking'; expected one of"),
    "classes that are no count": ({"classes": "3"}, "classes is '3'; expected a whole number of at least 2"),
    "a fraction as a class": (
        {"y": put(Y.astype(float), 6, 0.5), "task": "classification"},
        "training label 6 is 0.5; the task is a class",
    ),
    "one class": ({"y": np.full(N, 3)}, "every training label is 3; expected at least two classes"),
    "-1 among others": ({"y": put(Y, 6, -1)}, "training label 6 is -1: if that says that it is missing, leave"),
    "-100": ({"y": put(Y, 6, -100)}, "training label 6 is -100: if that says that it is missing, leave"),
    "a class of the test examples alone": (
        {"y": Y % 2, "test_x": X, "test_y": Y},
        "test label 2 is 2; training examples have 0, 1; leave such examples out, or say how many",
    ),
    "labels that start at 1": (
        {"y": Y + 1, "classes": 3},
        "training label 2 is 3, and there are 3 classes, counted from 0 to 2; labels start at 1: take 1 away",
    ),
    "text that nobody orders": (
        {"y": np.array(["a", "b", "c"])[Y], "classes": 4},
        "labels are text of 3 kinds, and classes is 4; name them all in their order",
    ),
    "text that is no name": (
        {"y": ["a", "z"] * 20, "class_names": ("a", "b")},
        "training label 1 is 'z'; expected one",
    ),
    "text and numbers": (
        {"y": np.array(["a", "b", "c"])[Y], "test_x": X, "test_y": Y},
        "training labels are <U1 and test labels int64; expected one kind",
    ),
    "one-hot": ({"y": np.eye(3, dtype=int)[Y]}, r"training labels \(40, 3\) are one-hot; .* y.argmax\(1\)"),
    "one-hot numbers": ({"y": np.eye(3)[Y]}, r"training labels \(40, 3\) are one-hot; .* y.argmax\(1\)"),
    "two targets": (
        {"y": X[:, :2]},
        r"training labels are numbers, \(40, 2\).*of several targets make a data set each",
    ),
    "several flags": (
        {"y": RANDOM.integers(0, 2, (N, 3))},
        r"training labels \(40, 3\) of int64 for inputs \(40, 4\); .* several targets an example are not supported",
    ),
}


@pytest.mark.parametrize(("given", "message"), UNCLEAR.values(), ids=UNCLEAR)
def test_labels_that_could_mean_something_else_are_refused(given, message):
    raw = Raw(**{"x": X, "y": Y} | given)
    with pytest.raises(ValueError, match=f"^datasets.mine: {message}"):
        drawn(raw, task="classification" if "task" in given else None)


def test_training_examples_of_one_class_are_refused_and_strange_test_examples_counted(caplog):
    rare = np.zeros(N, int)
    found = drawn(Raw(X, Y))
    rare[found.test_index[0]] = 1
    with pytest.raises(ValueError, match=r"datasets.mine: every training example drawn has the label 0; draw more"):
        drawn(Raw(X, rare))
    rare[found.train_index[0]] = 2
    drawn(Raw(X, rare))
    assert "1 of 5 test examples have a class that no training example drawn has: 1" in caplog.text


@pytest.mark.parametrize("raw", [Raw(X, np.array([3, 7])[Y % 2]), Raw(X, np.array([3, 7])[Y % 2], classes=10)])
def test_noise_gives_labels_that_other_examples_have(raw):
    found = drawn(raw, label_noise={"fraction": 0.5, "seed": 0})
    assert (found.train_y != found.clean_y).sum() == 10
    assert set(found.train_y) == set(found.clean_y)


# --- images, tables, sequences -------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_with_channels_last_are_refused_with_the_remedy(channels):
    images = np.repeat(IMAGES, channels, 1).transpose(0, 2, 3, 1)
    with pytest.raises(ValueError, match=rf"\(40, 8, 8, {channels}\) are images .* x.transpose\(0, 3, 1, 2\)"):
        drawn(Raw(images, Y))
    assert drawn(Raw(images.transpose(0, 3, 1, 2), Y)).shape == (channels, 8, 8)


def test_maps_of_width_1_are_taken_where_the_loader_says_that_channels_are_first():
    maps = RANDOM.random((N, 6, 9, 1))
    with pytest.raises(ValueError, match=r"or Raw.*channels_first=True"):
        drawn(Raw(maps, Y))
    assert drawn(Raw(maps, Y, channels_first=True)).shape == (6, 9, 1)


@pytest.mark.parametrize(("given", "missing"), [({"test_x": X}, "test_y"), ({"test_y": Y}, "test_x")])
def test_half_of_the_test_examples_is_refused_by_what_it_lacks(given, missing):
    with pytest.raises(ValueError, match=f"datasets.mine: .* lacks {missing}"):
        drawn(Raw(X, Y, **given))


def test_a_table_of_test_examples_without_rows_is_said_to_be_empty():
    with pytest.raises(ValueError, match=r"datasets.mine: there are no test inputs"):
        drawn(Raw(X, Y, test_x=X[:0], test_y=Y[:0]))


def test_whole_numbers_stay_unscaled_where_the_config_says_so():
    pixels = (IMAGES * 40 + 128).clip(0, 255).astype(np.uint8)
    found = drawn(Raw(pixels, Y), standardise=False)
    assert found.train_x.dtype == np.float32
    np.testing.assert_array_equal(found.train_x, pixels[found.train_index])


LARGE = 1e8 + RANDOM.integers(0, 4, (N, 2))


def test_large_numbers_are_standardised_in_double_precision():
    found = drawn(Raw(LARGE, Y, features=True))
    expected = LARGE[found.train_index] - 1e8
    np.testing.assert_allclose(found.train_x, (expected - expected.mean(0)) / expected.std(0), rtol=1e-6)
    targets = drawn(Raw(X, LARGE[:, 0], task="regression"))
    np.testing.assert_allclose(targets.train_y.std(), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("raw", "standardise", "message"),
    [
        (Raw(LARGE.astype(np.float32), Y), True, "has the value 100000000.0.*float32 holds such numbers in steps of 8"),
        (Raw(LARGE, Y), False, "inputs: float32 cannot tell the values apart.*`standardise: true`"),
        (
            Raw((LARGE + 3 * X[:, :2]).astype(np.float32), Y, features=True, names=("a", "b")),
            True,
            "column 'a': float32 cannot tell .* in steps of 8; return float64",
        ),
        (Raw(X, LARGE[:, 0], task="regression"), False, "targets: float32 cannot tell the values apart"),
    ],
)
def test_numbers_that_single_precision_cannot_tell_apart_are_refused(raw, standardise, message):
    with pytest.raises(ValueError, match=message):
        drawn(raw, standardise=standardise)


def test_a_constant_column_that_may_have_lost_its_differences_is_said(caplog):
    drawn(Raw(np.c_[X, LARGE].astype(np.float32), Y, features=True))
    assert "column 4 is the same in all training examples; float32 holds such numbers in steps of 8" in caplog.text


def test_columns_of_a_table_are_the_names_of_features(caplog):
    assert drawn(Raw(TABLE[COLUMNS], TABLE["label"], features=True)).names == tuple(COLUMNS)
    assert caplog.text == ""
    assert drawn(Raw(TABLE[COLUMNS], TABLE["label"])).names == ()
    assert "features=True would scale each column by itself" in caplog.text


def test_whole_numbers_are_tokens_where_the_loader_says_so():
    assert drawn(Raw(TOKENS.astype(np.uint8), Y, tokens=9)).train_x.dtype == np.int64
    assert drawn(Raw(TOKENS, NEXT)).train_x.dtype == np.int64
    tagged = drawn(Raw(TOKENS + 20, NEXT, tokens=40))
    assert (tagged.train_x.min() > 20, tagged.tokens, tagged.classes) == (True, 40, 9)
    assert drawn(Raw(TOKENS, Y)).train_x.dtype == np.float32


def test_labels_of_positions_keep_their_numbers_and_some_may_not_count():
    labels = put(NEXT, np.s_[:, :3], IGNORED)
    found = drawn(Raw(TOKENS, labels))
    assert found.classes == 9
    np.testing.assert_array_equal(found.train_y, labels[found.train_index])
    rare = np.arange(N * 6).reshape(N, 6)  # a vocabulary of which every word occurs once
    assert drawn(Raw(TOKENS, rare)).classes == N * 6


SEQUENCES = {
    "padding on the left": ({"x": put(TOKENS, (5, 0), 0), "y": Y, "tokens": 9}, "training input 5 begins with token 0"),
    "padding inside": (
        {"x": put(TOKENS, 5, [5, 0, 7, 0, 0, 0]), "y": Y, "tokens": 9},
        "training input 5 has token 0 before its end, which is padding; count tokens from 1",
    ),
    "an empty text": (
        {"x": TOKENS, "y": Y, "test_x": put(TOKENS, 8, 0), "test_y": Y, "tokens": 9},
        "test input 8 is empty, all of it is padding .0.; 1 such",
    ),
    "a token beyond": (
        {"x": put(TOKENS, (5, 1), 9), "y": Y, "tokens": 9},
        "example 5 the first beyond; .* of 9 tokens",
    ),
    "tokens that labels do not know": (
        {"x": TOKENS + 9, "y": NEXT},
        "expected sequences .* of 9 tokens, from 0, with a",
    ),
    "positions that all do not count": ({"x": TOKENS, "y": put(NEXT, 4, IGNORED)}, "training label 4 is -100 at every"),
    "a label that is none": ({"x": TOKENS, "y": put(NEXT, (4, 1), -1)}, "training label 4 holds -1; expected a whole"),
    "a column of each": ({"x": TOKENS[:, :1], "y": NEXT[:, :1]}, r"may be sequences of one or not; .*y\[:, 0\]"),
}


@pytest.mark.parametrize(("given", "message"), SEQUENCES.values(), ids=SEQUENCES)
def test_sequences_that_models_would_read_wrongly_are_refused(given, message):
    with pytest.raises(ValueError, match=f"^datasets.mine: .*{message}"):
        drawn(Raw(**given))


# --- rows ----------------------------------------------------------------------------------------------------


def test_figures_name_the_rows_and_the_classes_of_the_user():
    names = np.array(["cat", "US$ $^{", "eel"])
    found = drawn(Raw(IMAGES, names[Y]))
    best = extremes(RANDOM.standard_normal((20, 5)), found, np.arange(2), 2)
    np.testing.assert_array_equal(best["helpful_rows"], found.train_index[best["helpful"]])
    np.testing.assert_array_equal(best["helpful_y"], names[Y[best["helpful_rows"]]])
    np.testing.assert_allclose(best["test_x"], IMAGES[best["tests_rows"]], atol=1e-5)
    words = {name: np.array("x") for name in ("setting", "method", "point", "metric")}
    figure = examples.draw([best | words | {"value": np.array(0.5)}])
    row, helpful = found.test_index[0], best["helpful_rows"][0, 0]
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == [f"test {row}: {names[Y[row]]}", f"{helpful}: {names[Y[helpful]]}"]
    assert "one table for training and test" in figure._supxlabel.get_text().replace("\n", " ")


def test_the_figure_says_where_test_rows_have_a_table_of_their_own():
    best = extremes(RANDOM.standard_normal((20, 5)), drawn(Raw(IMAGES, Y, IMAGES, Y)), np.arange(1), 1)
    words = {name: np.array("x") for name in ("setting", "method", "point", "metric")}
    figure = examples.draw([best | words | {"value": np.array(0.5)}])
    assert "each by themselves" in figure._supxlabel.get_text().replace("\n", " ")


# --- what was there before -----------------------------------------------------------------------------------


def test_splits_of_the_embedded_data_are_what_they_always_were():
    """Sums of an earlier release, of what no processor rounds."""
    images = digits.load(None)
    found = split(images, "digits", 0, train=300, test=60, standardise=True, label_noise={"fraction": 0.1, "seed": 0})
    whole = (found.train_index, found.test_index, found.train_y, found.clean_y, found.test_y)
    assert {array.dtype for array in whole} == {np.dtype(np.int64)}
    assert hashlib.sha256(b"".join(array.tobytes() for array in whole)).hexdigest() == DIGITS
    pixels = images.x[found.train_index]
    mean, std = pixels.mean(dtype=np.float64), pixels.std(dtype=np.float64)
    np.testing.assert_array_equal(found.train_x, ((pixels - mean) / std).astype(np.float32))
    patients = diabetes.load(None)
    found = split(patients, "diabetes", 0, train=300, test=60, standardise=False, label_noise=None)
    arrays = (found.train_index, found.test_index, found.train_x, found.train_y)
    assert hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest() == DIABETES


DIGITS = "8cead476bd82c16656dc0ac8e54b0e66f839837806d38cec57c7d63c9908c02e"
DIABETES = "8b0357b89005ec6943555ad56bbc6552f5b45ac551d125f465ad7c0ccc79a629"

# --- the pipeline --------------------------------------------------------------------------------------------

ANIMALS = '''"""A sorted table with text as labels, whole or with a gap."""

from typing import Literal

import numpy as np
import pandas as pd

from attriflow.data import Raw


def load(folder, *, gap: Literal["no", "yes"] = "no"):
    """60 animals of two kinds."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.standard_normal((60, 3)), columns=["a", "b", "c"])
    table["kind"] = np.where(table.a > 0, "cat", "dog")
    if gap == "yes":
        table.loc[7, "kind"] = None
    table = table.sort_values("b")
    return Raw(table[["a", "b", "c"]], table["kind"], features=True)
'''
STUDY = """
seed: 0
plugins: mine
datasets:
  animals: {train: 30, test: 6}
  gaps: {kind: animals, train: 30, test: 6, gap: 'yes'}
settings:
  animals_mlp:
    dataset: animals
    model: {kind: mlp, hidden: [8], dropout: 0.0}
    recipe: {learning_rate: 0.05, batch_size: 16, epochs: 4}
  gaps_mlp:
    dataset: gaps
    model: {kind: mlp, hidden: [8], dropout: 0.0}
    recipe: {learning_rate: 0.05, batch_size: 16, epochs: 4}
  animals_own: {dataset: animals, model: {kind: logistic}, checkpoint: mine/own.pt}
ground_truth:
  subsets: {count: 4, repeats: 1, fraction: 0.5, block: 4, skip: [animals_own]}
ensembles:
  independent: {count: 1}
methods: {grad_dot: }
"""


@pytest.mark.slow
def test_a_good_table_runs_and_one_with_a_gap_is_refused_by_the_job_of_its_data(tmp_path):
    """A checkpoint of its own is told in which order its outputs must count the classes."""
    project = Project.create(tmp_path / "project", STUDY)
    (project.folder / "mine/data").mkdir(parents=True)
    (project.folder / "mine/data/animals.py").write_text(ANIMALS)
    torch.save({"1.weight": torch.zeros(2, 3), "1.bias": torch.zeros(2)}, project.folder / "mine/own.pt")
    results = [f"results/data/{name}.npz" for name in ("animals", "gaps")]
    results += ["results/models/animals_own/adopted/full-0.pt"]
    done = project.snakemake("--keep-going", *results, check=False)
    assert done.returncode
    found = load_split(project.folder / results[0])
    assert found.class_names == ("cat", "dog")
    np.testing.assert_array_equal(found.train_y, found.train_x[:, 0] * found.std[0] + found.mean[0] <= 0)
    assert "cat -> 0, dog -> 1" in Path(project.folder, "logs/data/animals.log").read_text()
    adopted = Path(project.folder, "logs/models/animals_own/adopted/full-0.log").read_text()
    assert "outputs must count classes so: cat -> 0, dog -> 1" in adopted
    assert not (project.folder / results[1]).exists()
    assert "datasets.gaps: training label" in Path(project.folder, "logs/data/gaps.log").read_text()
    assert "is missing" in done.stdout + done.stderr
