"""A server of one raw file, on this machine, that behaves well or badly: what it does is the first part of the path."""

import contextlib
import hashlib
import http.server
import threading
from collections import Counter
from collections.abc import Iterator

from project import Project

from drills.harness import CONFIG, Place

# the data kind in drills/plugins/data/strokes.py, whose pinned sum is that of this content
CONTENT = b"".join(hashlib.sha256(number.to_bytes(2, "little")).digest() for number in range(800))
RAW = "data/raw/strokes/strokes.bin"
PAGE = b"<!DOCTYPE html>\n<html><body>This address has moved.</body></html>\n"

FIRST = CONFIG.replace("digits: {train: 60", "strokes: {train: 60").replace("dataset: digits", "dataset: strokes")
SECOND = FIRST.replace(
    "settings:\n",
    "  more_strokes: {kind: strokes, train: 50, test: 12}\n"
    "settings:\n"
    "  more_strokes_logistic:\n"
    "    dataset: more_strokes\n"
    "    model: {kind: logistic}\n"
    "    recipe: {learning_rate: 0.05, batch_size: 16, epochs: 4}\n",
)  # another data set of the same file

_TIMEOUT = ("TIMEOUT_SECONDS = 60", "TIMEOUT_SECONDS = 2")  # who waits for a server in a drill waits less
SLOW = 0.2  # seconds between two pieces of 2048 bytes


class Server(http.server.ThreadingHTTPServer):
    """asked: how often for each path."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: Counter[str] = Counter()
        self.ended = threading.Event()

    def address(self, does: str) -> str:
        """Where the file is given out in this way."""
        return f"http://127.0.0.1:{self.server_port}/{does}/"


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server, in a thread of its own."""
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        """Nothing: drills print their own table."""

    def do_GET(self):
        does = self.path.split("/")[1]
        self.server.asked[does] += 1
        with contextlib.suppress(ConnectionError):  # who asked has enough
            getattr(self, does)()

    def _begin(self, length: int, kind: str = "application/octet-stream"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def good(self):
        self._begin(len(CONTENT))
        self.wfile.write(CONTENT)

    def slow(self):
        self._begin(len(CONTENT))
        for start in range(0, len(CONTENT), 2048):
            self.wfile.write(CONTENT[start : start + 2048])
            self.server.ended.wait(SLOW)

    def silent(self):
        self.server.ended.wait()

    def stalls(self):
        self._begin(len(CONTENT))
        self.wfile.write(CONTENT[: len(CONTENT) // 2])
        self.server.ended.wait()

    def drips(self):
        self._begin(len(CONTENT))
        for place in range(len(CONTENT)):
            self.wfile.write(CONTENT[place : place + 1])
            if self.server.ended.wait(0.5):
                return

    def half(self):
        self._begin(len(CONTENT))
        self.wfile.write(CONTENT[: len(CONTENT) // 2])

    def unsaid(self):
        """Half, and no word of how much it would be."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2])

    def page(self):
        self._begin(len(PAGE), "text/html")
        self.wfile.write(PAGE)

    def moved(self):
        self._redirect("/page/strokes.bin")

    def circles(self):
        self._redirect(self.path)

    def fails(self):
        self.send_error(500)

    def _redirect(self, path: str):
        self.send_response(302)
        self.send_header("Location", path)
        self.send_header("Content-Length", "0")
        self.end_headers()


def strokes(place: Place, config: str = FIRST) -> Project:
    """A project whose data are of the one raw file, which it does not have yet."""
    project = place.fresh(config)
    project.edit("src/attriflow/data/_raw.py", *_TIMEOUT)
    return project


def fetched(place: Place) -> Project:
    """The same after its data were made undisturbed."""
    project = strokes(place)
    with serving() as server:
        project.snakemake("data", DRILL_ADDRESS=server.address("good"))
    return project
