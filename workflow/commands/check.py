"""Check the config and every study against the schema, the schema itself, and the list of assumptions in the docs."""

import itertools
import re
import sys
from pathlib import Path

import jsonschema
import yaml

sys.path.insert(0, "src")

from attriflow.config import ConfigError
from attriflow.study import names, plan_of

ROOT = Path()
ASSUMPTIONS = Path("docs/method.md")


def main():
    problems = [*schema_problems(), *study_problems(), *assumption_problems()]
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


def schema_problems():
    """Every key of the schema has a type, a description and, unless required, a default."""
    schema = yaml.safe_load(Path("workflow/schemas/config.schema.yaml").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    yield from _keys(schema, schema, "")


def _keys(schema: dict, root: dict, where: str):
    for key, given in schema.get("properties", {}).items():
        name = f"{where}.{key}".lstrip(".")
        described = given
        if "$ref" in given:
            described = root["$defs"][given["$ref"].rsplit("/", 1)[1]] | given
        for word in ("type", "description"):
            if word not in described:
                yield f"schema: {name} has no {word}"
        # names of the catalogue mean "all" when left out, a kind the entry's name: no literal could say it
        optional = key not in schema.get("required", []) and "$ref" not in given
        if (
            optional
            and "default" not in described
            and where not in ("methods.*.only", "ground_truth.*.only", "ensembles.*.only")
        ):
            yield f"schema: {name} is optional and has no default"
        yield from _keys(described, root, name)
    each = schema.get("additionalProperties")
    if isinstance(each, dict):
        yield from _keys(each, root, f"{where}.*")


def study_problems():
    """The default study and every other one make a plan."""
    for study in ("default", *names(ROOT)):
        try:
            plan_of(ROOT, study)
        except ConfigError as error:
            yield from (f"{study}: {line}" for line in error.errors)


def assumption_problems():
    """The ASSUME tags of the code and the list in the docs are the same, word for word."""
    tagged = dict(assumptions())
    text = ASSUMPTIONS.read_text().split("\n## Assumptions\n")[1]
    listed = {" ".join(item.split()) for item in re.findall(r"^- (.*?)(?=^- |\Z)", text, re.DOTALL | re.MULTILINE)}
    for words, where in tagged.items():
        if words not in listed:
            yield f"{where}: this assumption is not listed in {ASSUMPTIONS}: {words}"
    for words in listed - tagged.keys():
        yield f"{ASSUMPTIONS}: no code has this assumption: {words}"


def assumptions():
    """Every ASSUME tag of the package and the scripts, with the comment lines that follow it, and where it is."""
    for path in sorted([*Path("src").rglob("*.py"), *Path("workflow/scripts").rglob("*.py")]):
        lines = path.read_text().splitlines()
        for place, line in enumerate(lines):
            if found := re.search(r"# ASSUME: (.*)", line):
                more = itertools.takewhile(
                    lambda each: each, (re.fullmatch(r"\s*# (.*)", x) for x in lines[place + 1 :])
                )
                yield " ".join([found[1], *(each[1] for each in more)]), f"{path}:{place + 1}"


if __name__ == "__main__":
    main()
