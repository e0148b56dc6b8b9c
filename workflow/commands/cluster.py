"""Run a study on a SLURM cluster: `make cluster NAME=...`; arguments go to Snakemake.

Refuses what would fail or hang later: no SLURM here, jobs of an earlier run that still write. While Snakemake runs, it
is watched: where it waits for jobs of which SLURM knows none any more, as it does for ever if the answers about their
states are lost, it is stopped with a word. Whatever was finished stays; the same command goes on.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SITE = Path("profiles/site")
NAME = Path(".snakemake/attriflow.cluster")  # what the names of the last run's jobs begin with
PATIENCE = "ATTRIFLOW_CLUSTER_PATIENCE"  # seconds without a job in the queue and without a word of Snakemake


def main(arguments: list[str]) -> int:
    refuse_without_slurm()
    refuse_beside_jobs()
    name = f"attriflow-{secrets.token_hex(4)}"
    NAME.parent.mkdir(exist_ok=True)
    NAME.write_text(name)
    site = ["--profile", str(SITE)] if SITE.is_dir() else []
    command = ["snakemake", *site, "--workflow-profile", "profiles/slurm", "--slurm-jobname-prefix", name, *arguments]
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    running = subprocess.Popen(command, stdout=pipe, stderr=both, start_new_session=True, preexec_fn=heed_interrupts)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: running.send_signal(signal.SIGINT))  # Snakemake cancels its jobs on this one
    return watched(running, name, float(os.getenv(PATIENCE, "900")))


def heed_interrupts():
    """What a script starts in the background ignores them, and so would Snakemake."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def watched(running: subprocess.Popen, name: str, patience: float) -> int:
    """Pass on what a process says until it ends; its exit status. Stops it where nothing happens for too long.

    Nothing happens while it says nothing and no job whose name begins with `name` is in the queue, once one was.
    """
    os.set_blocking(running.stdout.fileno(), False)
    alive, seen, asked = time.monotonic(), False, 0.0
    while True:
        ended = running.poll()
        if said := running.stdout.read():
            alive = time.monotonic()
            sys.stderr.buffer.write(said)
            sys.stderr.flush()
        if ended is not None:
            return ended
        if time.monotonic() - asked > min(30, patience / 4):
            asked = time.monotonic()
            if queued(name) != []:  # some, or SLURM does not answer now
                seen, alive = True, time.monotonic()
        if seen and time.monotonic() - alive > patience:
            running.send_signal(signal.SIGINT)
            print(
                f"cluster: SLURM has had no job of this run for {patience:.0f} s, yet Snakemake waits for one: answers "
                "about states of jobs are lost. Stopped; nothing finished is lost, run the same command again. If it "
                "comes back, set slurm-status-command in profiles/site/config.yaml (docs/cluster.md)",
                file=sys.stderr,
            )
            running.wait()
            return 1
        time.sleep(0.2)


def refuse_without_slurm():
    """Commands, and a controller that answers."""
    if missing := [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]:
        sys.exit(f"cluster: no {', '.join(missing)} here; run this on a node that submits jobs, or `make study`")
    done = subprocess.run(["squeue", "--noheader", "--me"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"cluster: SLURM does not answer ({done.stderr.strip()}); nothing was submitted")


def refuse_beside_jobs():
    """Jobs of a run whose Snakemake was killed go on, and would write what a new run's jobs write."""
    name = NAME.read_text() if NAME.exists() else None
    if name and (still := queued(name)):
        sys.exit(
            f"cluster: {len(still)} jobs of an earlier run are in the queue: wait for them, or "
            f"`scancel {' '.join(still)}`; then `make unlock`, and run again"
        )


def queued(name: str) -> list[str] | None:
    """Numbers of the jobs that wait or run and whose names begin so; None where SLURM does not answer."""
    done = subprocess.run(["squeue", "--noheader", "--me", "--format=%i %j"], capture_output=True, text=True)
    if done.returncode:
        return None
    rows = (line.split(maxsplit=1) for line in done.stdout.splitlines())
    return [number for number, job in rows if job.startswith(name)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
