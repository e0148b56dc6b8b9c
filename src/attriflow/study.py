"""Studies: the config of a project folder, with or without one of its overrides, as a plan."""

import contextlib
import functools
from pathlib import Path

import yaml

from attriflow.config import ConfigError, check, read
from attriflow.overlap import overlap
from attriflow.plan import Plan


def names(root: Path) -> list[str]:
    """The studies of a project folder, besides the default."""
    return sorted(path.stem for path in Path(root, "studies").glob("*.yaml"))


def plan_of(root: Path, study: str = "default") -> Plan:
    """The plan of config.yaml, or of config.yaml with studies/<study>.yaml over it.

    Raises ConfigError for a config that is wrong, and for a study whose name is not that of its file.
    """
    return plan(root, _config(root, study))


def _config(root: Path, study: str) -> dict:
    paths = [Path(root, "config.yaml")]
    if study != "default":
        paths.append(Path(root, "studies", f"{study}.yaml"))
    config = read(*paths)
    if config.get("study", "default") != study:
        raise ConfigError([f"{paths[-1]}: study: must be '{study}', the name of its file, not '{config.get('study')}'"])
    return config


def overlapping(root: Path, config: dict) -> list[str]:
    """Where studies that were planned in this folder keep other results under the same names as a checked config."""
    found = []
    for other in ("default", *names(root)):
        if other != config["study"] and Path("specs", other).is_dir():
            with contextlib.suppress(ConfigError):  # whoever runs that one is told what is wrong with it
                found.append(overlap(config, check(_config(root, other), _schema(root))))
    return [line for line in found if line]


def plan(root: Path, config: dict) -> Plan:
    """The plan of a config, checked against the project's schema.

    Raises ConfigError for a config that is wrong, and for a folder in whose path a workflow would fill in what stands
    in braces, or at whose colon the list of folders with Python modules would end.
    """
    folder = Path(root).resolve()
    if found := sorted(set("{}:") & set(str(folder))):
        raise ConfigError([f"the project's folder {str(folder)!r} has {found} in its path; give it another name"])
    return Plan(check(config, _schema(root)), Path(root, "workflow/scripts"))


@functools.cache
def _schema(root: Path) -> dict:
    return yaml.safe_load(Path(root, "workflow/schemas/config.schema.yaml").read_text())
