"""Read config files as data, before Snakemake does, which runs a template's code and takes one of two equal keys."""

import sys

sys.path.insert(0, "src")

from attriflow.config import ConfigError, read

if __name__ == "__main__":
    try:
        read(*sys.argv[1:])
    except ConfigError as error:
        sys.exit("\n".join(f"config: {line}" for line in error.errors))
