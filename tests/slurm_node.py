"""A SLURM cluster of this machine alone, to run docs/slurm.md by hand: ``python tests/slurm_node.py FOLDER``, as root.

It says which variables to set, and ends with Ctrl-C or SIGTERM. Everything listens on the loopback address. The node
claims eight GPUs, which are empty files, and more cores and memory than there may be, so that real job scripts run
unchanged but for ``--device cpu``. Two partitions: ``gpu``, and ``urgent``, which takes nodes away from it.

Needs (Debian): ``apt-get install slurm-wlm munge``.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

GPUS = 8
CONFIG = """
ClusterName=hand
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ReturnToService=2
JobRequeue=1
KillWait=30
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs=64 RealMemory=512000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=gpu Nodes={host} Default=YES MaxTime=2880 State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes={host} MaxTime=2880 State=UP PriorityTier=10 PreemptMode=OFF
"""
SACCT = """#!/bin/sh
# Answers submitit, where accounting is off, from what the controller remembers (of ended jobs, for MinJobAge).
echo "JobID|State|NodeList"
scontrol -o show job 2>/dev/null | awk '{
  split("", field)
  for (i = 1; i <= NF; i++) { at = index($i, "="); field[substr($i, 1, at - 1)] = substr($i, at + 1) }
  id = field["JobId"]
  if (field["ArrayJobId"]) {
    task = field["ArrayTaskId"]
    id = field["ArrayJobId"] "_" (task ~ /[-,%]/ ? "[" task "]" : task)
  }
  if (id) print id "|" field["JobState"] "|" field["NodeList"]
}'
"""


def write_files(folder: Path) -> None:
    """slurm.conf, gres.conf, the files that stand for GPUs, and ``bin/sacct``."""
    for name in ("bin", "log", "spool", "state"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, host=socket.gethostname(), gpus=GPUS))
    for number in range(GPUS):
        (folder / f"gpu{number}").touch()
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-{GPUS - 1}]\n")
    (folder / "bin" / "sacct").write_text(SACCT)
    (folder / "bin" / "sacct").chmod(0o755)


def start(folder: Path) -> list[subprocess.Popen[bytes]]:
    """munged, slurmctld and slurmd, in the foreground of this process."""
    run = Path("/run/munge")
    subprocess.run(["install", "-d", "-o", "munge", run], check=True)
    as_munge = ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups"]
    daemons = [_start([*as_munge, "munged", "--foreground"], folder)]
    while not list(run.glob("*.socket.2")) and daemons[0].poll() is None:
        time.sleep(0.1)
    return daemons + [_start([name, "-D"], folder) for name in ("slurmctld", "slurmd")]


def _start(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    with (folder / "log" / "daemons.log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def main(folder: Path) -> int:
    """Serve until a signal, or until a daemon ends; 1 in that case."""
    write_files(folder)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    daemons = start(folder)
    print(f"export SLURM_CONF={shlex.quote(str(folder / 'slurm.conf'))} PATH={shlex.quote(str(folder / 'bin'))}:$PATH")
    sys.stdout.flush()
    try:
        while all(daemon.poll() is None for daemon in daemons):
            time.sleep(0.5)
        print(f"a daemon has ended; see {folder}/log", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute()))
