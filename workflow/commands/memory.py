"""Print the memory (MB, 10^6 bytes) that jobs may take together here: what is free, within the limits there are."""

import sys

sys.path.insert(0, "src")

from attriflow.memory import available

if __name__ == "__main__":
    print(available() // 10**6)
