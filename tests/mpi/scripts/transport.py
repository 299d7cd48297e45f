"""Runs one side of every check of the transport's contract on each of two ranks.

Start it under mpiexec on two ranks, with the folder of transport_contract.py in
PYTHONPATH. Rank 0 is the master's side.
"""

from __future__ import annotations

import faulthandler
import sys
import traceback
import uuid

from mpitasks.wire import mpi_transport
from mpitasks.wire.wakeup import Wakeup
from transport_contract import CHECKS, drive


def main() -> None:
    """Go through the checks, in the same order on both ranks."""
    faulthandler.dump_traceback_later(40.0, exit=False)
    comm = mpi_transport.world().Dup()
    assert comm.Get_size() == 2
    rank = comm.Get_rank()
    spare_cores = "--spare-cores" in sys.argv
    # A single peer is received from in another way than any of several.
    peers = range(2) if "--any-source" in sys.argv else [1 - rank]
    wakeup = None
    if "--bell" in sys.argv:
        name, secret = comm.bcast((uuid.uuid4().hex, uuid.uuid4().bytes))
        wakeup = Wakeup(name, secret, rank, [1 - rank])
        comm.Barrier()  # before anybody rings
    survives = "--survives" in sys.argv
    end = mpi_transport.MpiTransport(
        comm, peers, spare_cores, wakeup, survives=survives
    )
    assert end.rank == rank
    for check in CHECKS:
        if rank == 0:
            print(f"{check.name} ...", flush=True)
        side = check.worker if rank else check.master
        drive(side(end, 1 - rank), end)
    comm.Barrier()
    assert wakeup is None or wakeup.trusted
    assert end.poll() is None
    assert not end.sending()
    end.close()
    comm.Barrier()
    if rank == 0:
        print(f"checks: {len(CHECKS)} passed", flush=True)
    mpi_transport.finalize()


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
        mpi_transport.abort(1)
