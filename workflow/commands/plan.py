"""Write the specs of the default study: what each job, and for DVC each room, depends on."""

import sys
from pathlib import Path

sys.path.insert(0, "src")

from attriflow import specs
from attriflow.study import plan_of

if __name__ == "__main__":
    specs.write(plan_of(Path()))
