"""Specs on disk: what decides whether a job must run again.

A job's results carry the spec that they were made from (`*.made.json`). Results whose spec is still the same are up to
date; modification times are set to say just that to a tool like make, whatever a download, a checkout or a clock did
to them.
"""

import os
import time
from pathlib import Path

from attriflow import provenance
from attriflow.io import load_json, replacing
from attriflow.plan import Job, Plan, Source
from attriflow.registry import ROOMS
from attriflow.results import HERE, Results

OLD = 946684800  # 2000-01-01: older than any result


def write(plan: Plan):
    """Write the spec of every job and, for each room, the digests of its specs (what DVC goes by).

    Afterwards a spec is newer than its job's outputs exactly when these are not what it says, and no output that is
    up to date is older than its inputs.
    """
    study = plan.config["study"]
    for room in ROOMS:
        _write_if_new(room_path(study, room), {job.stem: job.digest for job in plan.room(room)})
    newest: dict[str, float] = {}
    records = _Records(HERE)
    for job in plan.jobs.values():
        inputs = [source.job.stem for sources in job.inputs.values() for source in sources]
        newest_input = max((newest[stem] for stem in inputs), default=0.0)
        newest[job.stem] = _settle(job, path_of(study, job.stem), newest_input, records)


def write_for(plan: Plan, results: Results):
    """The same where the results lie in a store, which sets their times itself.

    A spec is newer than results that are there and are not what it says, and of 2000-01-01 otherwise.
    """
    records = _Records(results)
    for job in plan.jobs.values():
        path = path_of(plan.config["study"], job.stem)
        try:
            made = results.time(job.made)
        except FileNotFoundError:
            made = None  # it runs when somebody needs it
        if made is None or _up_to_date(job, records):
            _write_if_new(path, {"spec": job.spec, "wanted": None})
            _set_time(path, OLD)
        else:
            _write_if_new(path, {"spec": job.spec, "wanted": time.time_ns()})
            _set_time(path, max(time.time(), made + 1))


def write_one(plan: Plan, stem: str):
    """Write the spec of one job where there is none, or another: on a machine that is to make it and nothing else."""
    path, job = path_of(plan.config["study"], stem), plan.jobs[stem]
    if not path.exists() or read(path) != job.spec:
        _write_if_new(path, {"spec": job.spec, "wanted": None})


def path_of(study: str, stem: str) -> Path:
    """The file of the spec of the job that makes a stem."""
    return Path("specs", study, f"{stem}.json")


def read(path: Path) -> dict:
    """A spec from its file."""
    return load_json(path)["spec"]


def room_path(study: str, room: str) -> Path:
    """The file of a room's digests."""
    return Path("specs", study, f"{room}.json")


def up_to_date(job: Job, results: Results = HERE) -> bool:
    """Whether the job's results are all there, whole, and made from its spec and from its inputs as they are now."""
    return _up_to_date(job, _Records(results))


class _Records:
    """What results say of themselves, each read once."""

    def __init__(self, results: Results):
        self.results = results
        self._read: dict[str, dict | None] = {}

    def of(self, job: Job) -> dict | None:
        """The record of a job; None where it is missing or not what was written."""
        if job.made not in self._read:
            try:
                self._read[job.made] = provenance.read(self.results.fetch(job.made))
            except FileNotFoundError:
                self._read[job.made] = None
        return self._read[job.made]


def _up_to_date(job: Job, records: _Records) -> bool:
    made = records.of(job)
    if made is None or provenance.digest(made["spec"]) != job.digest:  # dicts that are equal may hold 1 for 1.0
        return False
    try:
        if any(records.results.size(job.path(name)) != said["bytes"] for name, said in made["outputs"].items()):
            return False
    except FileNotFoundError:
        return False
    return not any(_is_another(source, made["inputs"], records) for each in job.inputs.values() for source in each)


def _is_another(source: Source, sums: dict[str, str], records: _Records) -> bool:
    """Whether an input holds other bytes now than those that were used; what is gone meanwhile holds none."""
    path, record = source.job.path(source.name), records.of(source.job)
    return record is not None and provenance.sum_of(record, path) != sums.get(path)


def verify(job: Job):
    """Raise ValueError naming the file unless every output of a job is the one that its spec made, byte for byte."""
    for name in job.outputs:
        provenance.verify(Path(job.path(name)), Path(job.made), job.digest)


def _settle(job: Job, path: Path, newest_input: float, records: _Records) -> float:
    """Write one spec, set its time and those of its outputs; returns the newest of these (0 where there are none)."""
    outputs, now = [each for each in map(Path, (job.made, *map(job.path, job.outputs))) if each.exists()], time.time()
    for each in outputs:
        if each.stat().st_mtime >= now:  # a clock was wrong, and what is made of it now would look older
            _set_time(each, now - 1)
    newest = max((each.stat().st_mtime for each in outputs), default=0.0)
    if outputs and not _up_to_date(job, records):
        # a mark that no earlier file had: a tool may remember that it ran this very spec, though its results are gone
        _write_if_new(path, {"spec": job.spec, "wanted": time.time_ns()})
        if not newest < path.stat().st_mtime <= now:
            _set_time(path, now)
        return newest
    # nothing to be out of date (it runs when somebody needs it), or up to date
    _write_if_new(path, {"spec": job.spec, "wanted": None})
    _set_time(path, OLD)
    for each in outputs:
        if each.stat().st_mtime < newest_input:
            _set_time(each, newest_input)
    return max(newest, newest_input) if outputs else 0.0


def _write_if_new(path: Path, content: dict):
    text = provenance.text(content)
    if not path.exists() or path.read_text() != text:
        with replacing(path) as partial:
            partial.write_text(text)


def _set_time(path: Path, seconds: float):
    if path.stat().st_mtime == seconds:
        return
    try:
        os.utime(path, (seconds, seconds))
    except OSError as error:
        reason = f"{path}: its time cannot be set ({error.strerror}); make it writable, and yours, and run again"
        raise OSError(error.errno, reason) from error
