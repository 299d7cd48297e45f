"""A real SLURM on this machine: munged, slurmctld and one slurmd for each virtual node.

Everything is in one folder, on ports that were free, and ends with the test session:
daemons, what they started, folder and sockets. Needs root, and Debian's packages
slurm-wlm and munge (their slurmd allows several on one host).
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from launching import Outcome, clean_environment

NODES = ("node1", "node2")
CPUS = 16
MARKER = "TEST_CLUSTER_OF_MPITASKS"  # not MPITASKS_, which jobs do not inherit
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
DAEMON = re.compile(r"\S*\b(munged|slurmctld|slurmd)\b")
UP_SECONDS = 30.0
END_SECONDS = 20.0

# A job that was requeued starts once its credential has expired, after 2 minutes unless
# told otherwise.
CONFIG = """\
ClusterName=mpitasks
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
FirstJobId={first}
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
KillWait=2
OverTimeLimit=0
UnkillableStepTimeout=60
NodeName=node1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cpus}
NodeName=node2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cpus}
PartitionName=main Nodes=node[1-2] Default=YES MaxTime=60 State=UP
"""


def find_program(name: str) -> str | None:
    """Return the path of a program; daemons are where only root looks."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def why_not() -> str | None:
    """Return why this machine cannot have such a cluster, or None if it can."""
    missing = [name for name in PROGRAMS if find_program(name) is None]
    if missing:
        return f"needs {', '.join(missing)} (apt-get install slurm-wlm munge)"
    if os.geteuid() != 0:
        return "slurmd needs root"
    return None


class Cluster:
    """The cluster, from `start` to `stop`.

    Attributes:
        folder: Where all its files are.
        environ: What a program needs in its environment to use it.
    """

    def __init__(self) -> None:
        # Not pytest's: the path of a socket has 107 characters at most.
        self.folder = Path(tempfile.mkdtemp(prefix="mpitasks-slurm-"))
        self.folder.chmod(0o755)  # munged's clients may be any user
        self._marker = uuid.uuid4().hex
        self.environ = {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            MARKER: self._marker,
        }
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start it, and wait until every node is idle."""
        (self.folder / "state").mkdir()
        (self.folder / "spool").mkdir()
        # MPICH names shared memory after the job: no other cluster's job on this
        # machine may have the same number.
        first = 1000 + secrets.randbelow(1_000_000)
        ports = _free_ports(3)
        text = CONFIG.format(folder=self.folder, ports=ports, cpus=CPUS, first=first)
        (self.folder / "slurm.conf").write_text(text)
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        munge = self.folder / "munge.socket"
        self._daemon(
            "munged",
            "--foreground",
            f"--key-file={key}",
            f"--socket={munge}",
            f"--pid-file={self.folder}/munged.pid",
            f"--log-file={self.folder}/munged.log",
            f"--seed-file={self.folder}/munged.seed",
        )
        self._until(munge.exists, "munged is there")
        self._daemon("slurmctld", "-D", "-c")
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node)
        self._until(lambda: self.node_states() == ["idle"] * 2, "the nodes are idle")

    def stop(self) -> list[str]:
        """End everything; return the command lines of what jobs had left running."""
        with contextlib.suppress(AssertionError, OSError, subprocess.SubprocessError):
            self.clear()
        left = list(self.stray().values())
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        while processes := self._processes():
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        shutil.rmtree(self.folder)
        return left

    def call(self, *words: str) -> str:
        """Run a program of SLURM's and return what it prints."""
        return subprocess.run(
            words,
            env={**clean_environment(), **self.environ},
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        ).stdout

    def run(
        self,
        words: Sequence[object],
        folder: Path,
        *,
        seconds: float = 60.0,
        environ: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run a command on the "login node" to its end; jobs may go on after it."""
        done = subprocess.run(
            [str(word) for word in words],
            env={**clean_environment(), **self.environ, **(environ or {})},
            cwd=folder,
            check=False,
            capture_output=True,
            text=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def node_states(self) -> list[str]:
        """Return the state of each node."""
        try:
            return self.call("sinfo", "-h", "-N", "-o", "%T").split()
        except subprocess.CalledProcessError:
            return []

    def jobs(self) -> list[str]:
        """Return the ids of the jobs that are not over."""
        return self.call("squeue", "-h", "-r", "-o", "%i").split()

    def clear(self) -> None:
        """Cancel what is left; wait until jobs and nodes have come to rest."""
        for job in self.jobs():
            self.call("scancel", job)
        self._until(lambda: not self.jobs(), "no job is left")
        for node in NODES:
            with contextlib.suppress(subprocess.CalledProcessError):
                self.call("scontrol", "update", f"nodename={node}", "state=resume")
        self._until(lambda: self.node_states() == ["idle"] * 2, "the nodes are idle")

    def settled(self) -> list[str]:
        """Wait until no process of a job is left; return those that stay."""
        end = time.monotonic() + END_SECONDS
        while (stray := self.stray()) and time.monotonic() < end:
            time.sleep(0.05)
        return list(stray.values())

    def stray(self) -> dict[int, str]:
        """Return the processes of jobs, by pid; those of the daemons are none."""
        return {
            pid: line
            for pid, line in self._processes().items()
            if not DAEMON.match(line)
        }

    def _daemon(self, program: str, *words: str) -> None:
        path = find_program(program)
        assert path is not None
        with (self.folder / f"{program}.out").open("ab") as out:
            self._daemons.append(
                subprocess.Popen(
                    [path, *words],
                    env={**clean_environment(), **self.environ},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    cwd=self.folder,
                    start_new_session=True,
                )
            )

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + UP_SECONDS
        while not condition():
            ended = [d.args for d in self._daemons if d.poll() is not None]
            assert not ended, f"{ended} ended, while waited for: {what}\n{self}"
            assert time.monotonic() < end, f"not before time was up: {what}\n{self}"
            time.sleep(0.05)

    def __str__(self) -> str:
        logs = sorted(self.folder.glob("*.log")) + sorted(self.folder.glob("*.out"))
        return "\n".join(
            f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}" for log in logs
        )

    def _processes(self) -> dict[int, str]:
        """Return the command lines of the processes that carry the marker."""
        needle = f"{MARKER}={self._marker}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if needle in (entry / "environ").read_bytes().split(b"\0"):
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(entry.name)] = line.decode(errors="replace")
            except OSError:  # it has ended meanwhile
                continue
        return found


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on; held together, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
