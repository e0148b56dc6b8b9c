"""Config files: one reader for `make` and for plain `snakemake`, which refuses what can be read in two ways."""

import pytest
import yaml
from conftest import TINY, Project

from attriflow.config import ConfigError, read

AMBIGUOUS = ("0300", "-0300", "+017", "0_7", "007", "1:30", "190:20:30", "1:30.5", "!!int '0300'")
PLAIN = {
    "0": 0, "-0": 0, "10": 10, "0.5": 0.5, "-0.5": -0.5, "1_000": 1000, "0x1F": 31, "1.0e-5": 1e-5, "'0300'": "0300",
    "'1:30'": "1:30", "a:b": "a:b",
}  # fmt: skip


@pytest.mark.parametrize("number", AMBIGUOUS)
@pytest.mark.parametrize("text", ["a: {}", "a: [1, {}]", "a: &x {{b: {}}}\nc: *x", "{}: 1"])
def test_a_number_that_readers_of_yaml_take_for_two_is_refused_with_its_line(tmp_path, number, text):
    (tmp_path / "c.yaml").write_text(f"# a line\n{text.format(number)}\n")
    with pytest.raises(ConfigError) as caught:
        read(tmp_path / "c.yaml")
    (line,) = caught.value.errors
    assert "to some readers of YAML; write the number that is meant, or text in quotes" in line
    assert "line 2" in line


@pytest.mark.parametrize(("text", "value"), PLAIN.items())
def test_other_numbers_and_texts_are_what_they_seem(tmp_path, text, value):
    (tmp_path / "c.yaml").write_text(f"a: {text}\n")
    found = read(tmp_path / "c.yaml")["a"]
    assert (found, type(found)) == (value, type(value))


def test_json_is_read_as_json(tmp_path):
    (tmp_path / "c.json").write_text('{"a": 1e-5, "b": {"c": [true, null]}}')
    assert read(tmp_path / "c.json") == {"a": 1e-5, "b": {"c": [True, None]}}
    (tmp_path / "c.json").write_text('{"a": {"b": 1, "b": 2}}')
    with pytest.raises(ConfigError, match="'b' is there twice"):
        read(tmp_path / "c.json")


# --- through snakemake ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Project:
    return Project.create(tmp_path_factory.mktemp("reading") / "project")


REFUSED = {
    "a key twice": ("config.yaml", "seed: 0", "seed: 0\nseed: 1", "'seed' is there twice"),
    "no YAML": ("config.yaml", "seed: 0", "seed: [", "not YAML"),
    "a key twice in another": (
        "given.yaml",
        "train: 60",
        "train: 60, train: 70",
        "'train' is there twice",
    ),
    "octal": ("given.yaml", "train: 60", "train: 0300", "0300 is octal to some readers of YAML"),
}


@pytest.mark.parametrize(("where", "old", "new", "line"), REFUSED.values(), ids=REFUSED)
def test_plain_snakemake_refuses_what_make_refuses(empty, where, old, new, line):
    for name in ("config.yaml", "given.yaml"):
        (empty.folder / name).write_text(TINY)
    empty.edit(where, old, new)
    failed = empty.snakemake("--dry-run", "--configfile", "given.yaml", check=False)
    assert failed.returncode == 1
    (said,) = [each for each in (failed.stdout + failed.stderr).splitlines() if each.startswith("config: ")]
    assert where in said and line in said
    assert not (empty.folder / "specs").exists()


def test_numbers_inside_of_what_a_command_line_gives_are_numbers_and_octal_ones_refused(empty):
    (empty.folder / "config.yaml").write_text(TINY)
    empty.snakemake("data", "--dry-run", "--config", "datasets={digits: {train: 50, test: 12}}")
    settings = yaml.safe_load((empty.folder / "specs/default/data/digits.json").read_text())["spec"]["settings"]
    assert (settings["train"], settings["test"]) == (50, 12)
    failed = empty.snakemake("data", "--dry-run", "--config", "datasets={digits: {train: 060}}", check=False)
    assert "config: --config: not YAML: 060 is octal to some readers of YAML" in failed.stdout + failed.stderr


def test_a_file_and_a_value_that_are_given_win_in_this_order(empty):
    (empty.folder / "config.yaml").write_text(TINY)
    given = {"seed": 5, "datasets": {"digits": {"train": 50}}, "evaluation": {"resamples": 300}}
    (empty.folder / "given.yaml").write_text(yaml.safe_dump(given))
    empty.snakemake("data", "--dry-run", "--configfile", "given.yaml", "--config", "seed=7")
    settings = yaml.safe_load((empty.folder / "specs/default/data/digits.json").read_text())["spec"]["settings"]
    assert (settings["seed"], settings["train"], settings["test"]) == (7, 50, 12)
