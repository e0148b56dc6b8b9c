"""Progress of long work: lines, not a moving bar, so that jobs that run side by side and logs stay readable."""

import sys
import time

from tqdm import tqdm


class _Lines:
    """A stream that turns tqdm's rewritten line into lines of the log and the terminal."""

    def __init__(self, prefix: str):
        self._prefix = prefix

    def write(self, text: str):
        text = text.strip()
        if text:
            print(f"{self._prefix} {text}", file=sys.stderr, flush=True)

    def flush(self):
        sys.stderr.flush()


class Progress:
    """Counts finished units of one job's work; says how far it is every `seconds`, and nothing where it ends sooner."""

    def __init__(self, prefix: str, total: int, unit: str, seconds: float = 10.0):
        self._started, self._seconds = time.monotonic(), seconds
        self._bar = tqdm(
            total=total, unit=unit, file=_Lines(prefix), mininterval=seconds, maxinterval=seconds, leave=False,
            delay=seconds, ncols=78, ascii=True,
        )  # fmt: skip

    def __call__(self, count: int = 1):
        """So many more units are done."""
        self._bar.update(count)

    def close(self):
        """No more units."""
        self._bar.close()
