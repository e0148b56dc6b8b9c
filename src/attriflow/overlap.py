"""Studies that keep different results in the same files: everything but tables and figures lies under names of entries.

So a setting, ground truth, ensemble or method of one name must be the same in all studies that run it, or each of them
makes anew what the other one made.
"""

from collections.abc import Iterator

from attriflow.config import chosen_of, chosen_settings
from attriflow.hyperparameters import shown
from attriflow.registry import Registry

_CHOOSING = ("only", "skip")  # keys that say where an entry runs, and not what it is
_MISSING = "not given"


def overlap(mine: dict, other: dict) -> str | None:
    """What two checked configs have under one name with other values, in a line that names both; None where nothing."""
    found = [f"{path} ({given} here, {there} there)" for path, given, there in sorted(set(_differing(mine, other)))]
    if not found:
        return None
    return (
        f"the studies '{mine['study']}' and '{other['study']}' keep results under the same names but differ in "
        f"{'; '.join(found)}: each run makes anew what the other one made; give one of them other names for these"
    )


def _differing(mine: dict, other: dict) -> Iterator[tuple[str, str, str]]:
    shared = _shared(mine, other, "settings")
    if shared:
        for key in ("seed", "dtype", "evaluation"):
            yield from _first(key, mine[key], other[key])
    for setting in shared:
        yield from _first(f"settings.{setting}", mine["settings"][setting], other["settings"][setting])
        names = {each["settings"][setting]["dataset"] for each in (mine, other)}
        for name in names if len(names) == 1 else ():
            yield from _first(f"datasets.{name}", mine["datasets"][name], other["datasets"][name])
        for catalogue in ("ground_truth", "ensembles"):
            for name in set(chosen_of(mine, catalogue, setting)).intersection(chosen_of(other, catalogue, setting)):
                yield from _first(f"{catalogue}.{name}", mine[catalogue][name], other[catalogue][name])
        for name in _shared(mine, other, "methods"):
            if all(setting in chosen_settings(each, each["methods"][name]) for each in (mine, other)):
                yield from _of_method(name, mine, other)


def _of_method(name: str, mine: dict, other: dict) -> Iterator[tuple[str, str, str]]:
    """Costly hyperparameters are in the names of files, so that other values of them lie elsewhere."""
    entries = [each["methods"][name] for each in (mine, other)]
    if entries[0]["kind"] != entries[1]["kind"]:
        yield from _first(f"methods.{name}", *entries)
        return
    takes = Registry(mine["plugins"]).hyperparameters("scores", entries[0]["kind"], "score")
    cheap = [{key: value for key, value in entry.items() if key in takes} for entry in entries]
    yield from _first(f"methods.{name}", *cheap)


def _shared(mine: dict, other: dict, catalogue: str) -> list[str]:
    """The entries that both run."""
    runs = [each["run"].get(catalogue, each[catalogue]) for each in (mine, other)]
    return sorted(set(runs[0]).intersection(runs[1]))


def _first(path: str, mine, other) -> Iterator[tuple[str, str, str]]:
    """The first place where two values differ, with what stands there."""
    if mine == other:
        return
    if isinstance(mine, dict) and isinstance(other, dict):
        for key in sorted((mine.keys() | other.keys()) - {*_CHOOSING}):
            differing = list(_first(f"{path}.{key}", mine.get(key, _MISSING), other.get(key, _MISSING)))
            if differing:
                yield differing[0]
                return
        return
    yield path, shown(mine), shown(other)
