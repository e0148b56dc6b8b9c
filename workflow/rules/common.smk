# Shared by all rules: the checked config, the plan, and a spec per job (docs/reruns.md).
import atexit
import functools
import os
import shlex
import sys
from pathlib import Path

sys.path.insert(0, f"{workflow.basedir}/src")
sys.path.append(f"{workflow.basedir}/workflow/commands")

import failures
import folders
from attriflow import io, resources, specs, study, warm
from attriflow.config import ConfigError, given, merge, read
from attriflow.results import HERE


include: "store.smk"


# As `make` does, plain `snakemake` reads a config with our reader: its own takes the last of a key that is there twice,
# and 0300 as octal. The order is that of Snakemake: ours, --configfile, --config.
said = workflow.config_settings
default = [] if said.replace_workflow_config else [f"{workflow.basedir}/config.yaml"]
try:
    strict = merge(read(*default, *said.configfiles), given(said.config))
except ConfigError as error:
    raise WorkflowError("\n".join(f"config: {line}" for line in error.errors))


configfile: f"{workflow.basedir}/config.yaml"


config = strict

# The processes that jobs of a cluster begin with read specs alone, as the plan of a large study takes a while; without
# a common folder there is nothing to read yet.
ours = workflow.is_main_process
logger.addFilter(failures.of_meaning if ours else failures.of_a_node)
stored = bool(workflow.storage_settings.default_storage_provider)
if ours or stored:
    try:
        plan = study.plan(workflow.basedir, config)
    except ConfigError as error:
        raise WorkflowError("\n".join(f"config: {line}" for line in error.errors))
    # figures are drawn into files: what draws in a notebook or on a screen may not be there for a job
    os.environ.update(ATTRIFLOW_DEVICE=plan.config["device"], MPLBACKEND="agg")
if stored:
    link_to_copies()
else:
    refuse_copies()
place = Stored() if stored and ours else HERE
if ours:
    os.environ.update(folders.usable_caches())
    # Snakemake's own records of jobs do not travel with a download, and nothing goes by them: specs say what must run
    workflow.log_missing_metadata_info = workflow.log_outdated_metadata_info = (
        lambda: None
    )
    for line in study.overlapping(workflow.basedir, plan.config):
        logger.warning(line)
    try:
        folders.expect_folders()
        io.expect_space(Path())
        if stored:
            specs.write_for(plan, place)
            place.forget()
        else:
            specs.write(plan)
    except OSError as error:
        raise WorkflowError(error.strerror or str(error))


envvars:
    "ATTRIFLOW_DEVICE",


# Jobs find the Python that runs this workflow (under conda the environment's comes first), our package and our scripts.
python = os.path.dirname(sys.executable)
os.environ.update(PATH=os.pathsep.join([python, os.getenv("PATH", "")]))
shell.prefix(
    f"export PYTHONPATH={shlex.quote(workflow.basedir)}/src; "
    f"SCRIPTS={shlex.quote(workflow.basedir)}/workflow/scripts; "
    f'python() {{{{ command python {shlex.quote(warm.__file__)} "$@"; }}}}; '  # with the libraries imported, where it can
)


onstart:
    # Its timers multiply: every finished job adds one look a second at all ready jobs, a quarter of a core after 200 jobs
    # (Snakemake 9.27). Profiles limit how many jobs there are, so nothing is lost.
    workflow.scheduler.job_rate_limiter = None
    if not workflow.touch:
        followed = failures.Failures()
        logger.addHandler(followed)
        atexit.register(followed.tell)  # after Snakemake's own last words
    try:
        io.expect_writable(Path("results"))
    except OSError as error:
        raise WorkflowError(error.strerror)
    if workflow.local_exec and sys.platform == "linux":
        os.environ[warm.WARM] = warm.start()


wildcard_constraints:
    study="([a-z][a-z0-9_]*/)?",
    dataset="[a-z][a-z0-9_]*",
    setting="[a-z][a-z0-9_]*",
    truth="[a-z][a-z0-9_]*",
    ensemble="[a-z][a-z0-9_]*",
    queries="queries[.](0|[a-z][a-z0-9_]*)",
    method="[a-z][a-z0-9_]*",
    table="summary|mislabel|mechanism|stability|theory|further([.][a-z]+)?",
    figure="[a-z][a-z0-9_]*",
    model="[A-Za-z_][^/]*",
    point="[^/]+",
    block="[0-9.]+",


@functools.cache
def begin():
    """In a process on a cluster's node that several small jobs share, before the first: import the libraries once."""
    several = len(workflow.dag_settings.target_jobs) > 1
    if several and not workflow.local_exec and sys.platform == "linux":
        os.environ[warm.WARM] = warm.start()


def needs(stem):
    """The spec and the inputs of the job that makes a stem."""

    def of(wildcards):
        if not ours:
            begin()
        made = stem.format(**wildcards)
        path = specs.path_of(config.get("study", "default"), made)
        if stored and not ours:
            specs.write_one(plan, made)
        inputs = (plan.jobs[made].spec if ours else specs.read(path))["inputs"]
        files = {
            name: [each["path"] for each in sources] for name, sources in inputs.items()
        }
        if stored:  # what lies beside results in a folder must be fetched, too
            every = [each["made"] for sources in inputs.values() for each in sources]
            files["records"] = sorted(set(every))
        return {"spec": kept_here(path)} | files

    return of


def memory(stem):
    """The memory (MB) that the job that makes a stem takes; to be determined while its inputs are not there.

    Twice as much at every further attempt; on a cluster, with what the workflow itself takes there.
    """

    def of(wildcards, attempt):
        if not ours:
            return 0  # it was given its memory when it was submitted
        needed = resources.megabytes(
            plan.jobs[stem.format(**wildcards)], plan.registry, place
        )
        beside = 0 if workflow.local_exec else resources.BESIDE
        return (needed + beside) * 2 ** (attempt - 1)

    return of


def minutes(stem):
    """The time (minutes) after which the job that makes a stem must be stuck; twice as much at every further attempt."""

    def of(wildcards, attempt):
        if not ours:
            return 0
        needed = resources.minutes(
            plan.jobs[stem.format(**wildcards)], plan.registry, place
        )
        return needed * 2 ** (attempt - 1)

    return of


def gpus(_wildcards):
    """The GPUs that a job takes which computes with models: one where the config names them."""
    return int(ours and plan.config["device"] == "cuda")


def made_by(room):
    """Every output of a room."""
    if not ours:
        return []
    return [job.path(name) for job in plan.room(room) for name in job.outputs]


def ends(room):
    """Every output of a room's jobs from which nothing else is made."""
    if not ours:
        return []
    used = {
        source.job.stem
        for job in plan.jobs.values()
        for each in job.inputs.values()
        for source in each
    }
    return [
        job.path(name)
        for job in plan.room(room)
        if job.stem not in used
        for name in job.outputs
    ]
