"""A SLURM of our own on this machine, for the tests marked `slurm`: its daemons, key, ports and files in one folder.

    python tests/slurm_here.py FOLDER [command ...]   start it, run the command (or wait for Ctrl-C), and stop it

Needs Debian's packages munge, slurmctld, slurmd and slurm-client, and root. Nothing outside the folder is touched, so
it runs beside a SLURM that is there already.
"""

import contextlib
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue")

_CONFIG = """
ClusterName=attriflow
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0,batch_sched_delay=0
ReturnToService=2
KillWait=2
CompleteWait=0
EnforcePartLimits=ALL
MinJobAge=300
GresTypes=gpu
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cpus} RealMemory={memory} Gres=gpu:1
PartitionName=main Nodes=n1 Default=YES MaxTime=INFINITE DefaultTime=60 State=UP DefMemPerCPU=500
"""


def missing() -> list[str]:
    """What this machine lacks for it."""
    return [name for name in PROGRAMS if shutil.which(name) is None] + ([] if os.geteuid() == 0 else ["root"])


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start it; what the environment must hold for its commands to find it."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key, config = folder / "munge.key", folder / "slurm.conf"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    host, memory = socket.gethostname().partition(".")[0], os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    config.write_text(
        _CONFIG.format(folder=folder, host=host, ports=_ports(2), cpus=os.cpu_count(), memory=memory // 2**20 * 9 // 10)
    )
    gpu = folder / "gpu0"  # what SLURM counts as a GPU is a file
    gpu.touch()
    (folder / "gres.conf").write_text(f"AutoDetect=off\nName=gpu File={gpu}\n")
    path = [str(_srun(folder, config)), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {"SLURM_CONF": str(config), "PATH": os.pathsep.join(path)}
    munge = ["--key-file", key, "--socket", folder / "munge.socket", "--pid-file", folder / "munge.pid"]
    logs = ["--log-file", folder / "munge.log", "--seed-file", folder / "munge.seed", "--force", "--foreground"]
    daemons = [["munged", *munge, *logs], ["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", "n1"]]
    running = []
    try:
        for command in daemons:
            running.append(_daemon(command, environment, folder))
            if command[0] == "munged":
                _wait_for((folder / "munge.socket").exists, "munged's socket")
        _wait_for(lambda: _answer(["sinfo", "-h", "-o", "%T"], environment).strip() == "idle", f"a node, see {folder}")
        yield environment
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGTERM)
        for process in reversed(running):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _srun(folder: Path, config: Path) -> Path:
    """A folder with an srun that knows this SLURM: within a job, Snakemake's takes every SLURM_ variable away."""
    script = folder / "bin/srun"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nSLURM_CONF={shlex.quote(str(config))} exec {shutil.which("srun")} "$@"\n')
    script.chmod(0o755)
    return script.parent


def _daemon(command: list, environment: dict[str, str], folder: Path) -> subprocess.Popen:
    with open(folder / f"{command[0]}.out", "w") as out:
        return subprocess.Popen(
            [str(each) for each in command], env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=out,
            stderr=out, start_new_session=True,
        )  # fmt: skip


def _ports(count: int) -> list[int]:
    """Ports that nobody listens at."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found


def _answer(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    return done.stdout


def _wait_for(there, what: str, seconds: float = 30):
    until = time.monotonic() + seconds
    while not there():
        if time.monotonic() > until:
            raise TimeoutError(f"no {what} after {seconds} s")
        time.sleep(0.1)


if __name__ == "__main__":
    with slurm(Path(sys.argv[1]).resolve()) as found:
        if sys.argv[2:]:
            sys.exit(subprocess.run(sys.argv[2:], env=os.environ | found).returncode)
        print(f"export SLURM_CONF={found['SLURM_CONF']}")
        signal.sigwait([signal.SIGINT, signal.SIGTERM])
