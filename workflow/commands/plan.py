"""Write the specs of the default study: what each job, and for DVC each room, depends on."""

import sys

sys.path.insert(0, "src")

from planned import planned

from attriflow import specs

if __name__ == "__main__":
    specs.write(planned())
