"""The plan of a study for a command: what is wrong with its config is said a line each, and ends the command."""

import sys
from pathlib import Path

sys.path.insert(0, "src")

from attriflow.config import ConfigError
from attriflow.plan import Plan
from attriflow.study import plan_of


def planned(study: str = "default") -> Plan:
    """The plan of a study of the project in this folder."""
    try:
        return plan_of(Path(), study)
    except ConfigError as error:
        sys.exit("\n".join(f"config: {line}" for line in error.errors))
