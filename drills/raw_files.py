"""Raw files that are altered or gone are refused by name, or fetched again."""

from project import Project

from drills.harness import Place, drill, failing, line, remove, same
from drills.server import CONTENT, RAW, fetched, serving, strokes

ALTERED = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
TRUNCATED = CONTENT[:100]


@drill("a bit flips in a raw file whose data are made; delete it, run again")
def raw_file_altered(place: Place) -> str:
    return damaged(place, ALTERED)


@drill("a raw file is cut short; delete it, run again")
def raw_file_truncated(place: Place) -> str:
    return damaged(place, TRUNCATED)


@drill("a raw file is deleted, and the data made from it stay; then they are lost, too: run again")
def raw_file_deleted(place: Place) -> str:
    project = place.copy(place.once(fetched))
    (project.folder / RAW).unlink()
    same(project, place.once(fetched), "data")
    remove(project, "results/data/*")
    fetch(project)
    return same(project, place.once(fetched), "data")


@drill("a file of the local mirror is altered; put the official one there, run again")
def mirror_altered(place: Place) -> str:
    return from_mirror(
        place, ALTERED, "mirror/strokes/strokes.bin is altered or truncated", "Put the official file there"
    )


@drill("a file of the local mirror is cut short; put the official one there, run again")
def mirror_truncated(place: Place) -> str:
    return from_mirror(
        place, TRUNCATED, "mirror/strokes/strokes.bin is altered or truncated", "Put the official file there"
    )


@drill("the local mirror lacks a file; put it there, run again")
def mirror_without_file(place: Place) -> str:
    return from_mirror(place, None, "mirror/strokes/strokes.bin is missing", "Put the official file")


def damaged(place: Place, content: bytes) -> str:
    """The raw file of finished data changes to this; the error is followed."""
    project = place.copy(place.once(fetched))
    (project.folder / RAW).write_bytes(content)
    assert project.planned("data") == {"data/strokes"}
    said = failing(project, "data")
    (project.folder / RAW).unlink()
    fetch(project)
    same(project, place.once(fetched), "data")
    return line(said, f"{RAW} is altered or truncated: SHA-256", "Delete it to fetch it again")


def from_mirror(place: Place, content: bytes | None, *words: str) -> str:
    """The mirror has this in place of the raw file, or nothing; the error is followed."""
    project = strokes(place)
    path = project.folder / "mirror/strokes/strokes.bin"
    path.parent.mkdir(parents=True)
    environment = {"ATTRIFLOW_DATA_MIRROR": str(project.folder / "mirror")}
    if content is not None:
        path.write_bytes(content)
    said = failing(project, "data", **environment)
    assert not list((project.folder / RAW).parent.iterdir()), "something was kept"
    path.write_bytes(CONTENT)
    project.snakemake("data", **environment)
    same(project, place.once(fetched), "data")
    return line(said, *words)


def fetch(project: Project):
    """Make the data, from a good server."""
    with serving() as server:
        project.snakemake("data", DRILL_ADDRESS=server.address("good"))
