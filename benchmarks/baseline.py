"""Throughput, latency and bandwidth beside raw mpi4py and mpi4py.futures, in one run.

    mpiexec -n 2 python benchmarks/baseline.py [--json FILE]

Every rank runs this file. Rounds of raw MPI, mpitasks and mpi4py.futures follow each
other, so that all three see the same machine; the table shows the median of the
rounds and the ratio to raw MPI within it.

    throughput  null tasks, one submit and one Future each, all submitted, then all
                results asked for
    map         null tasks by map, no chunksize given
    latency     one submit, one result, and again; raw: a pickled object there and back
    echo        an array of 64 MiB of float64 out and back; raw: Send and Recv into
                fresh memory, both ways
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from mpi4py.futures import MPICommExecutor

import mpitasks

COMM = MPI.COMM_WORLD
ECHO_ITEMS = 8 << 20


def identity(value: Any) -> Any:
    """The null task."""
    return value


def rate(count: int, work: Callable[[], object]) -> float:
    """Return how many a second, `count` being done by one call of `work`."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def median_seconds(count: int, work: Callable[[], object]) -> float:
    """Return the median time of one call of `work`."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure_executor(
    executor: Any, tasks: int, trips: int, echoes: int
) -> dict[str, float]:
    """Measure one executor; same code for ours and the peer's."""
    array = np.random.default_rng(1).random(ECHO_ITEMS)

    def stream() -> None:
        futures = [executor.submit(identity, i) for i in range(tasks)]
        for future in futures:
            future.result()

    executor.submit(identity, 0).result()
    figures = {
        "throughput (tasks/s)": rate(tasks, stream),
        "map (tasks/s)": rate(
            tasks, lambda: sum(1 for _ in executor.map(identity, range(tasks)))
        ),
        "latency (us)": 1e6
        * median_seconds(trips, lambda: executor.submit(identity, 1).result()),
    }
    if echoes:
        figures["echo (ms)"] = 1e3 * median_seconds(
            echoes, lambda: executor.submit(identity, array).result()
        )
    return figures


def measure_raw(trips: int) -> dict[str, float]:
    """Measure the limit: what mpi4py itself does between ranks 0 and 1."""
    peer = 1 - COMM.rank
    array = np.random.default_rng(1).random(ECHO_ITEMS)

    def object_trip() -> None:
        if COMM.rank == 0:
            COMM.send(1, peer)
            COMM.recv(source=peer)
        else:
            COMM.send(COMM.recv(source=peer), peer)

    def array_trip() -> None:
        fresh = np.empty_like(array)
        if COMM.rank == 0:
            COMM.Send(array, peer)
            COMM.Recv(fresh, peer)
        else:
            COMM.Recv(fresh, peer)
            COMM.Send(fresh, peer)

    figures = {}
    if COMM.rank < 2:
        object_trip()
        array_trip()
        trip = median_seconds(trips, object_trip)
        figures["latency (us)"] = 1e6 * trip
        figures["throughput (tasks/s)"] = 1 / trip
        figures["echo (ms)"] = 1e3 * median_seconds(5, array_trip)
    COMM.Barrier()
    return figures


def run_rounds(options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Run all rounds; the figures are complete on rank 0."""
    rounds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def note(who: str, figures: dict[str, float] | None) -> None:
        for name, value in (figures or {}).items():
            rounds[who][name].append(value)

    for number in range(options.rounds):
        note("raw mpi4py", measure_raw(options.trips))
        note(
            "mpitasks",
            mpitasks.run(
                lambda ex: measure_executor(ex, options.tasks, options.trips, 5)
            ),
        )
        COMM.Barrier()
        with MPICommExecutor(COMM, root=0) as executor:
            if executor is not None:
                tasks, trips = options.tasks // 50, options.trips // 50
                # One echo: under MPICH it takes a minute.
                echoes = 1 if number == 0 and not options.no_peer_echo else 0
                figures = measure_executor(executor, tasks, trips, echoes)
                note("mpi4py.futures", figures)
        COMM.Barrier()
    return rounds


def report(rounds: dict[str, dict[str, list[float]]]) -> None:
    """Print the table."""
    medians = {
        who: {name: statistics.median(values) for name, values in figures.items()}
        for who, figures in rounds.items()
    }
    print(f"{'':22}" + "".join(f"{who:>18}" for who in medians) + f"{'ours/raw':>10}")
    for name in medians["mpitasks"]:
        cells = [medians[who].get(name) for who in medians]
        line = "".join(f"{'-' if c is None else format(c, ',.1f'):>18}" for c in cells)
        raw = medians["raw mpi4py"].get(name)
        ratio = f"{medians['mpitasks'][name] / raw:10.2f}" if raw else f"{'-':>10}"
        print(f"{name:22}{line}{ratio}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=50_000)
    parser.add_argument("--trips", type=int, default=5_000)
    parser.add_argument("--no-peer-echo", action="store_true")
    parser.add_argument("--json", help="write the raw figures of each round here")
    options = parser.parse_args()
    if COMM.size < 2:
        sys.exit("start it with: mpiexec -n 2 python benchmarks/baseline.py")
    rounds = run_rounds(options)
    if COMM.rank:
        return
    machine = {
        "date": datetime.date.today().isoformat(),
        "cores": os.cpu_count(),
        "ranks": COMM.size,
        "python": platform.python_version(),
        "mpi": " ".join(MPI.Get_library_version().splitlines()[0].strip("\0").split()),
        "mpitasks": mpitasks.__version__,
        "tasks": options.tasks,
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    report(rounds)
    if options.json:
        figures = {"machine": machine, "rounds": rounds}
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
