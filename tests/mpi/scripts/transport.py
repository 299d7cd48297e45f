"""Runs one side of every check of the transport's contract on each of two ranks.

Start it under mpiexec on two ranks, with the folder of transport_contract.py in
PYTHONPATH. Rank 0 is the master's side.
"""

from __future__ import annotations

import faulthandler
import sys
import traceback
import uuid

from mpitasks.wire import mpi
from mpitasks.wire.doorbell import Doorbell
from transport_contract import CHECKS, drive


def main() -> None:
    """Go through the checks, in the same order on both ranks."""
    faulthandler.dump_traceback_later(40.0, exit=False)
    comm = mpi.world().Dup()
    assert comm.Get_size() == 2
    rank = comm.Get_rank()
    spare_cores = "--spare-cores" in sys.argv
    # A single peer is received from in another way than any of several.
    peers = range(2) if "--any-source" in sys.argv else [1 - rank]
    bell = None
    if "--bell" in sys.argv:
        bell = Doorbell(comm.bcast(uuid.uuid4().hex), rank, [1 - rank])
        comm.Barrier()  # before anybody rings
    survives = "--survives" in sys.argv
    end = mpi.MpiTransport(comm, peers, spare_cores, bell, survives=survives)
    assert end.rank == rank
    for check in CHECKS:
        if rank == 0:
            print(f"{check.name} ...", flush=True)
        side = check.worker if rank else check.master
        drive(side(end, 1 - rank), end)
    comm.Barrier()
    assert bell is None or bell.trusted
    assert end.poll() is None
    assert not end.sending()
    end.close()
    comm.Barrier()
    if rank == 0:
        print(f"checks: {len(CHECKS)} passed", flush=True)
    mpi.finalize()


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
        mpi.abort(1)
