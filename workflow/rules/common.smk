# Shared by all rules: the checked config, the plan, and a spec per job (docs/reruns.md).
import os
import shlex
import sys
from pathlib import Path

sys.path.insert(0, f"{workflow.basedir}/src")

from attriflow import io, resources, specs, study, warm
from attriflow.config import ConfigError

try:
    plan = study.plan(workflow.basedir, config)
except ConfigError as error:
    raise WorkflowError("\n".join(f"config: {line}" for line in error.errors))

if workflow.is_main_process:
    try:
        io.expect_space(Path())
        specs.write(plan)
    except OSError as error:
        raise WorkflowError(error.strerror)

# Jobs find the Python that runs this workflow (under conda the environment's comes first), our package and our scripts.
python = os.path.dirname(sys.executable)
os.environ.update(PATH=os.pathsep.join([python, os.getenv("PATH", "")]))
shell.prefix(
    f"export PYTHONPATH={shlex.quote(workflow.basedir)}/src ATTRIFLOW_DEVICE={plan.config['device']}; "
    f"SCRIPTS={shlex.quote(workflow.basedir)}/workflow/scripts; "
    f'python() {{{{ command python {shlex.quote(warm.__file__)} "$@"; }}}}; '  # with the libraries imported, where it can
)


onstart:
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


def needs(stem):
    """The spec and the inputs of the job that makes a stem."""

    def of(wildcards):
        job = plan.jobs[stem.format(**wildcards)]
        spec = {"spec": str(specs.spec_path(plan.config["study"], job))}
        return spec | {
            name: [source.job.path(source.name) for source in sources]
            for name, sources in job.inputs.items()
        }

    return of


def memory(stem):
    """The memory (MB) that the job that makes a stem takes; to be determined while its inputs are not there."""

    def of(wildcards):
        if not workflow.is_main_process:
            return 0  # a job on a node of a cluster was given its memory when it was submitted
        return resources.megabytes(plan.jobs[stem.format(**wildcards)], plan.registry)

    return of


def made_by(room):
    """Every output of a room."""
    return [job.path(name) for job in plan.room(room) for name in job.outputs]


def ends(room):
    """Every output of a room's jobs from which nothing else is made."""
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
