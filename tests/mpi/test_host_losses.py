"""Deaths of ranks and of hosts, over two hosts with TCP between them.

The hosts are network namespaces of this machine, so this needs root.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from launching import Job, Launch, Mpi, Outcome
from network import Hosts
from test_hosts import WIRE, over_hosts

pytestmark = pytest.mark.slow

SCRIPT = """
import os, pathlib, signal, socket, sys, time
import mpitasks as mt

def where(_):
    time.sleep(0.05)
    return socket.gethostname(), os.getpid()

def square(n):
    time.sleep(0.01)
    return n * n

if __name__ == "__main__":
    with mt.Executor() as ex:
        ranks = set(ex.map(where, range(60), chunksize=1))
        print(os.getpid(), *(pid for host, pid in sorted(ranks)), flush=True)
        while not pathlib.Path("go").exists():
            time.sleep(0.01)
        CASE
"""

WORK = "print(sum(ex.map(square, range(600), chunksize=1)), ex.num_workers, flush=True)"
TOTAL = sum(n * n for n in range(600))


class Run:
    """A run of four ranks on two hosts, that goes on when some die.

    Attributes:
        job: The job.
        rank_0: Process ids; the workers of the other host are `far`.
    """

    def __init__(self, mpi: Mpi, net: Hosts, launch: Launch, case: str) -> None:
        launch.script(SCRIPT.replace("CASE", case.replace("\n", "\n        ")))
        slots = ",".join(f"{address}:2" for address in net.addresses)
        # Without the last, each host's first rank is bound to the same core.
        words = f"--prtemca plm_ssh_agent {net.agent} --host {slots} --bind-to none"
        command = [str(mpi.python), "-m", "mpitasks", "-n", "4", "--survive"]
        command += [f"--mpiexec-args={words}", "script.py"]
        self.job: Job = launch.start(net.on(0, command), environ=WIRE, seconds=60)
        self.job.until(lambda: "\n" in self.job.output()[0], "the ranks are known")
        pids = self.job.output()[0].split()
        self.rank_0, _, *self.far = map(int, pids)
        self.go: Path = launch.folder / "go"

    def finish(self) -> Outcome:
        """Let the script go on; wait for the end."""
        self.go.touch()
        outcome = self.job.finish()
        assert not outcome.left, f"{outcome.left}\n{outcome}"
        return outcome


def processes_on(pid: int) -> list[int]:
    """Return the processes on the host of that one."""
    own = Path(f"/proc/{pid}/ns/net").stat().st_ino
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "ns/net").stat().st_ino == own:
                found.append(int(entry.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


@pytest.mark.parametrize("victims", [1, 2])
def test_the_ranks_of_a_host_die(
    openmpi: Mpi, two_hosts: Hosts, launch: Launch, victims: int
) -> None:
    run = Run(openmpi, two_hosts, launch, f"{WORK}\nsys.exit(3)")
    for pid in run.far[:victims]:
        os.kill(pid, signal.SIGKILL)
    outcome = run.finish()
    assert outcome.code == 3, str(outcome)
    assert f"{TOTAL} {3 - victims}\n" in outcome.out, str(outcome)


def test_an_idle_worker_is_frozen(
    openmpi: Mpi, two_hosts: Hosts, launch: Launch
) -> None:
    case = f"while ex.num_workers > 2:\n    time.sleep(0.01)\n{WORK}"
    run = Run(openmpi, two_hosts, launch, case)
    os.kill(run.far[0], signal.SIGSTOP)
    outcome = run.finish()
    assert outcome.code == 0, str(outcome)
    assert f"{TOTAL} 2\n" in outcome.out, str(outcome)


def test_a_lost_worker_comes_back(
    openmpi: Mpi, two_hosts: Hosts, launch: Launch
) -> None:
    run = Run(
        openmpi,
        two_hosts,
        launch,
        f"""
while ex.num_workers > 1:
    time.sleep(0.01)
for host, pid in ranks:
    if host != socket.gethostname():
        os.kill(pid, signal.SIGCONT)
{WORK}
sys.exit(4)""",
    )
    for pid in run.far:  # both, or one would kill the other
        os.kill(pid, signal.SIGSTOP)
    outcome = run.finish()
    assert outcome.code == 4, str(outcome)
    assert f"{TOTAL} 1\n" in outcome.out, str(outcome)


def test_rank_0_dies(openmpi: Mpi, two_hosts: Hosts, launch: Launch) -> None:
    run = Run(openmpi, two_hosts, launch, "pass")
    os.kill(run.rank_0, signal.SIGKILL)
    outcome = run.job.finish()
    assert outcome.code != 0, str(outcome)
    assert not outcome.left, str(outcome.left)


def test_a_host_with_its_daemon_dies(
    openmpi: Mpi, two_hosts: Hosts, launch: Launch
) -> None:
    """Open MPI's mpiexec gives the run up, with exit code 0; not so ours."""
    run = Run(openmpi, two_hosts, launch, f"{WORK}\ntime.sleep(600)")
    for pid in processes_on(run.far[0]):
        os.kill(pid, signal.SIGKILL)
    outcome = run.job.finish()
    assert outcome.code == 69, str(outcome)
    assert not outcome.left, str(outcome.left)


DIE = """
import ctypes, os, signal, sys, time
import mpitasks as mt

def host_of(_):
    time.sleep(0.05)
    return mt.current_task().host

def die(how):
    time.sleep(0.5)  # so that each worker gets one
    if mt.current_task().host == home:
        return
    try:
        os.close(os.open("one", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return  # another one dies
    time.sleep(1.0)  # while the others have nothing to do
    if how.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, how))
    ctypes.CDLL(None)._exit(int(how))  # unlike Python's own, which we see

if __name__ == "__main__":
    home = os.uname().nodename
    with mt.Executor(max_crashes=1) as ex:
        print(len(set(ex.map(host_of, range(60), chunksize=1))), flush=True)
        errors = [f.exception() for f in [ex.submit(die, HOW) for _ in range(3)]]
        print([type(e).__name__ for e in errors if e], ex.num_workers, flush=True)
"""


@pytest.mark.parametrize("how", ["3", "SIGSTOP"])
def test_what_open_mpi_does_not_report(
    openmpi: Mpi, two_hosts: Hosts, launch: Launch, how: str
) -> None:
    """Fellow workers of that host do: of ends, and of ranks frozen in a task."""
    launch.script(DIE.replace("HOW", repr(how)))
    slots = ",".join(f"{address}:2" for address in two_hosts.addresses)
    words = f"--prtemca plm_ssh_agent {two_hosts.agent} --host {slots} --bind-to none"
    command = [str(openmpi.python), "-m", "mpitasks", "-n", "4", "--survive"]
    command += [f"--mpiexec-args={words}", "script.py"]
    outcome = launch(two_hosts.on(0, command), environ=WIRE, seconds=60)
    assert outcome.out == "2\n['WorkerLost'] 2\n", str(outcome)
    assert outcome.code == 0, str(outcome)


def test_mpich_ends_when_a_rank_elsewhere_ends(
    mpich: Mpi, two_hosts: Hosts, launch: Launch
) -> None:
    """Its mpiexec waits for the others of the run then, for ever."""
    launch.script(DIE.replace("HOW", repr("3")))
    command = over_hosts(mpich, two_hosts, 2, ["script.py"])
    outcome = launch(command, environ=WIRE, seconds=60)
    assert outcome.code != 0, str(outcome)
    assert outcome.out.startswith("2\n"), str(outcome)
    assert "WorkerLost" not in outcome.out, str(outcome)
    assert "the run ends with it" in outcome.err, str(outcome)
