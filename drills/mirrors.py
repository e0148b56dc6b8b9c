"""A server of raw files that stalls or gives out something else is told so, and nothing of it is kept."""

import socket
import time

from drills.harness import Place, Running, drill, failing, line, same, until
from drills.server import RAW, SECOND, Server, fetched, serving, strokes

BOUND = 60  # seconds that a run may take that waits for a server no longer than 2


@drill("a server stalls after half of a raw file; try again later")
def server_stalls(place: Place) -> str:
    return refusing(place, "stalls", "Read timed out")


@drill("a server takes the connection and never answers; try again later")
def server_silent(place: Place) -> str:
    return refusing(place, "silent", "Read timed out")


@drill("a server gives out a byte every half second; try again later")
def server_drips(place: Place) -> str:
    return refusing(place, "drips", "bytes came in")


@drill("a server gives out half of a raw file and hangs up; try again later")
def server_gives_half(place: Place) -> str:
    return refusing(place, "half", "IncompleteRead")


@drill("a server gives out half of a raw file, as if that were all; try again later")
def server_gives_half_as_whole(place: Place) -> str:
    return refusing(place, "unsaid", "a file with SHA-256")


@drill("a server gives out a web page in place of a raw file; try again later")
def server_gives_page(place: Place) -> str:
    return refusing(place, "page", "a web page with SHA-256")


@drill("a server redirects to a web page; try again later")
def server_redirects(place: Place) -> str:
    return refusing(place, "moved", "a web page with SHA-256")


@drill("a server redirects in circles; try again later")
def server_redirects_in_circles(place: Place) -> str:
    return refusing(place, "circles", "redirects")


@drill("a server fails with status 500; try again later")
def server_fails(place: Place) -> str:
    return refusing(place, "fails", "500 Server Error")


@drill("nobody listens at the address of a raw file; try again later")
def server_refuses(place: Place) -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/"
    with serving() as server:
        return refused_at(place, address, "Connection refused", server)


@drill("the first address of a raw file stalls, the second one has it")
def second_address(place: Place) -> str:
    project = strokes(place)
    with serving() as server:
        project.snakemake("data", DRILL_ADDRESS=f"{server.address('stalls')} {server.address('good')}")
    return same(project, place.once(fetched), "data")


@drill("SIGKILL in the middle of a download; run again")
def download_killed(place: Place) -> str:
    project = strokes(place)
    folder = (project.folder / RAW).parent
    with serving() as server:
        running = Running(project, "snakemake", "--cores", "2", "data", DRILL_ADDRESS=server.address("slow"))
        until(lambda: any(path.stat().st_size for path in folder.glob(".*.partial")), "a download")
        running.kill(group=True)
        assert list(folder.glob(".*.partial")), "it was through before it could be killed"
        project.make("unlock")
        project.snakemake("data", DRILL_ADDRESS=server.address("good"))
    return same(project, place.once(fetched), "data")


@drill("two jobs want the same raw file at once: one of them fetches it")
def two_fetch_at_once(place: Place) -> str:
    expected, project = strokes(place, SECOND), strokes(place, SECOND)
    with serving() as server:
        expected.snakemake("data", "--cores", "1", DRILL_ADDRESS=server.address("good"))
        project.snakemake("data", DRILL_ADDRESS=server.address("slow"))
        assert server.asked["slow"] == 1, f"fetched {server.asked['slow']} times"
    return same(project, expected, "data")


def refusing(place: Place, does: str, reason: str) -> str:
    """A run from a server that behaves like this is refused in time and keeps nothing; from a good one it ends well."""
    with serving() as server:
        return refused_at(place, server.address(does), reason, server)


def refused_at(place: Place, address: str, reason: str, server: Server) -> str:
    """The same for an address, beside a server that could be good."""
    project, started = strokes(place), time.monotonic()
    said = failing(project, "data", DRILL_ADDRESS=address)
    assert time.monotonic() - started < BOUND, "this took too long"
    folder = (project.folder / RAW).parent
    assert not list(folder.iterdir()), f"kept: {list(folder.iterdir())}"
    project.snakemake("data", DRILL_ADDRESS=server.address("good"))
    same(project, place.once(fetched), "data")
    return line(said, f"{RAW} could not be fetched", reason, "Try again later")
