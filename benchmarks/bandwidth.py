"""Arrays out and back, many large results, and one array for many tasks.

    mpiexec -n 2 python benchmarks/bandwidth.py

    64 MiB, 1 GiB out and back   an array of float64 as argument and as result of one
                                 task, median; raw MPI: Send and Recv, received into
                                 fresh memory on both sides
    1,000 results of 1 MiB       by map, all kept; the array is made once on the
                                 worker; raw MPI: as many Sends, received into fresh
                                 memory and kept
    32 MiB to 100 tasks          the same array as argument of each; raw MPI: as many
                                 Sends, received into fresh memory, each answered by
                                 an object

Raw MPI and we take turns in going first. Peers send 200 results of 1 MiB. Ray keeps
large objects in shared memory and hands out views of it. mpi4py.futures is left out
unless --patient is given: under MPICH one array of 64 MiB takes it half a minute.
"""

from __future__ import annotations

import functools

import raw
import tasks
from bench import Bench, median_time, parser, timed
from pools import DASK, MPI4PY, MULTIPROCESSING, OURS, RAW, RAY, Pool
from results import Figure

MIB = 1 << 20
ECHO, ECHO_LARGE = "64 MiB out and back", "1 GiB out and back"
COLLECT, DEAL = "1,000 results of 1 MiB", "32 MiB to 100 tasks"

FIGURES = [
    Figure(ECHO, "ms", lower=True, against={RAW: 1.25}),
    Figure(ECHO_LARGE, "ms", lower=True, against={RAW: 1.25}),
    Figure(COLLECT, "MiB/s", against={RAW: 0.8}),
    Figure(DEAL, "ms", lower=True, against={RAW: 1.25}),
]
SIZES = {
    ECHO: {"nbytes": 64 * MIB, "count": 5},
    ECHO_LARGE: {"nbytes": 1024 * MIB, "count": 1},
    COLLECT: {"nbytes": MIB, "count": 1000},
    DEAL: {"nbytes": 32 * MIB, "count": 100},
}
PEER_SIZES = {
    ECHO: {"nbytes": 64 * MIB, "count": 1},
    COLLECT: {"nbytes": MIB, "count": 200},  # 1,000 take Ray and Dask seven seconds
}


def measure(pool: Pool, what: str, nbytes: int, count: int) -> dict[str, float]:
    """Measure one thing of one candidate."""
    import numpy as np

    if what == COLLECT:
        pool.call(tasks.block, nbytes)
        seconds = timed(pool.map, tasks.block, [nbytes] * count)
        return {what: count * nbytes / MIB / seconds}
    pool.call(tasks.identity, 0)
    array = np.ones(nbytes // 8)
    if what == DEAL:
        return {what: 1e3 * timed(pool.stream, tasks.measure_array, [array] * count)}
    return {what: 1e3 * median_time(count, pool.call, tasks.identity, array)}


def measure_raw(comm: object, what: str, nbytes: int, count: int) -> dict[str, float]:
    """Measure one thing of raw MPI."""
    limit = {COLLECT: raw.collect, DEAL: raw.deal}.get(what, raw.array_trip)
    seconds = limit(comm, nbytes, count)
    if what == COLLECT and seconds:
        return {what: count * nbytes / MIB / seconds}
    return {what: 1e3 * seconds}


def needed(what: str, nbytes: int, count: int) -> int:
    """Return the bytes of arrays that one rank has in use at once."""
    return nbytes * (count if what == COLLECT else 2)


def main() -> None:
    """Run the benchmark."""
    options = parser(__doc__)
    options.add_argument("--patient", action="store_true", help="mpi4py.futures too")
    options.add_argument("--most", type=int, default=1024, help="largest array, MiB")
    options = options.parse_args()
    peers = [MULTIPROCESSING, RAY, DASK] + [MPI4PY] * options.patient
    bench = Bench("bandwidth", FIGURES, options, measure, peers=peers)
    if not options.patient:
        bench.skip(f"{MPI4PY}: 64 MiB may take it half a minute; --patient has it")
    shrink = 1000 if bench.quick else 1
    for number in bench.rounds():
        for what, sizes in SIZES.items():
            if sizes["nbytes"] > options.most * MIB:
                bench.skip(f"{what}: --most {options.most}")
                continue
            shrunk = {name: max(size // shrink, 1) for name, size in sizes.items()}
            limit = functools.partial(measure_raw, what=what, **shrunk)
            for who in [RAW, OURS] if number % 2 else [OURS, RAW]:
                bench.raw(raw.touch_memory, needed(what, **shrunk))
                if who == RAW:
                    bench.note(RAW, bench.raw(limit))
                else:
                    bench.note(OURS, bench.run(OURS, what=what, **shrunk))
        for peer in bench.peers:
            for what, sizes in PEER_SIZES.items():
                shrunk = {name: max(size // shrink, 1) for name, size in sizes.items()}
                bench.note(peer, bench.run(peer, what=what, **shrunk))
    bench.finish()


if __name__ == "__main__":
    main()
