"""The Executor's contract over two hosts, with TCP between them.

The hosts are network namespaces of this machine, so this needs root.
"""

from __future__ import annotations

import socket

import pytest

from launching import SCRIPTS, Launch, Mpi
from network import Hosts

WHERE = """
import socket
import mpitasks as mt

def where(_):
    return socket.gethostname()

if __name__ == "__main__":
    with mt.Executor() as ex:
        print(socket.gethostname(), *sorted(set(ex.map(where, range(500)))))
"""


def over_hosts(mpi: Mpi, net: Hosts, per_host: int, words: list[str]) -> list[str]:
    """Return the words that run ``python -m mpitasks`` on both hosts."""
    ranks = per_host * len(net.names)
    program = [str(mpi.python), "-m", "mpitasks", *words]
    mpiexec = str(mpi.bin / "mpiexec")
    if mpi.name == "mpich":
        where = ["-iface", net.bridge, "-hosts", ",".join(net.addresses)]
        agent = ["-launcher", "ssh", "-launcher-exec", str(net.agent)]
        sizes = ["-ppn", str(per_host), "-n", str(ranks)]
        return net.beside([mpiexec, *agent, *where, *sizes, *program])
    # Open MPI's own daemon must be on the network of the hosts.
    slots = ",".join(f"{address}:{per_host}" for address in net.addresses)
    agent = ["--prtemca", "plm_ssh_agent", str(net.agent), "--host", slots]
    # Each host believes that all cores are its own, and would bind its first rank to
    # the first of them: two ranks on one core, while others are free.
    sizes = ["--bind-to", "none", "-n", str(ranks)]
    return net.on(0, [mpiexec, *agent, *sizes, *program])


# Without this, UCX finds the memory that the "hosts" share.
WIRE = {"UCX_TLS": "tcp,self", "OMPI_MCA_btl": "tcp,self", "OMPI_MCA_pml": "ob1"}


def test_the_machine_gets_no_interface_of_theirs(two_hosts: Hosts) -> None:
    """Ranks of other tests would take it, and fail when it goes."""
    token = two_hosts.bridge.removeprefix("mtbr")
    assert not [name for _, name in socket.if_nameindex() if token in name]


def test_ranks_are_on_both_hosts(mpi: Mpi, two_hosts: Hosts, launch: Launch) -> None:
    launch.script(WHERE)
    command = over_hosts(mpi, two_hosts, 2, ["script.py"])
    outcome = launch(command, environ=WIRE, seconds=50)
    assert outcome.code == 0, str(outcome)
    names = outcome.out.split()
    assert names[0] == two_hosts.names[0]
    assert set(names[1:]) <= set(two_hosts.names), str(outcome)
    assert two_hosts.names[1] in names[1:], str(outcome)


def test_contract_over_two_hosts(mpi: Mpi, two_hosts: Hosts, launch: Launch) -> None:
    words = [str(SCRIPTS / "contract.py"), "3"]
    command = over_hosts(mpi, two_hosts, 2, words)
    outcome = launch(command, environ=WIRE, seconds=110)
    assert outcome.code == 0, str(outcome)
    assert " passed, 0 failed" in outcome.out, str(outcome)


@pytest.mark.parametrize(
    "name", ["shared_objects", "futures_as_arguments", "kept_results"]
)
def test_data_over_two_hosts(
    mpi: Mpi, two_hosts: Hosts, launch: Launch, name: str
) -> None:
    program = str(SCRIPTS.parents[1] / "programs" / f"{name}.py")
    command = over_hosts(mpi, two_hosts, 2, [program])
    outcome = launch(command, environ=WIRE, seconds=60)
    assert outcome.code == 0, str(outcome)
    assert outcome.out.splitlines()[-1:] == ["ok"], str(outcome)


SILENT_THERE = """
import os, socket, sys, time
if socket.gethostname() != sys.argv[1]:
    from mpi4py import MPI
    time.sleep(60)
sys.argv = ["mpitasks", "--start-timeout", "2", "script.py"]
from mpitasks.launch.cli import main
main()
"""


def test_missing_ranks_are_named_with_their_host(
    mpi: Mpi, two_hosts: Hosts, launch: Launch
) -> None:
    """Open MPI's PMIx knows it; with MPICH nobody tells of a host that is silent."""
    launch.script(WHERE)
    launch.script(SILENT_THERE, "silent.py")
    command = over_hosts(mpi, two_hosts, 2, [])
    at = command.index("-m")
    command[at:] = ["silent.py", two_hosts.names[0]]
    outcome = launch(command, environ=WIRE, seconds=50)
    assert outcome.code == 78, str(outcome)
    (line,) = outcome.said
    where = two_hosts.names[1] if mpi.name == "openmpi" else "a silent host"
    assert f"2 of 4 ranks did not start within 2 s: rank 2, 3 on {where}" in line
