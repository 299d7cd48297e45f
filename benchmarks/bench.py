"""Rounds of candidates on one launch: who runs when, and what was measured.

Each program is started by mpiexec, all ranks run it, and it says in each round which
candidate goes next:

    bench = Bench("latency", FIGURES, options, measure, peers=[...])
    for _ in bench.rounds():
        bench.note(RAW, bench.raw(raw_trips, count))
        bench.note(OURS, bench.run(OURS, trips=count))
    bench.finish()

The candidates of a round follow each other, so that they see the same machine, and a
ratio is the median of the ratios within the rounds. Whoever has nothing to do waits
asleep: a rank that waits inside MPI would spin and take a core from the others.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import results
from peers import Peer, PeerError
from pools import MPI4PY, OURS, PEERS, Futures
from results import Figure

if TYPE_CHECKING:
    from mpi4py import MPI

LONGEST_NAP = 0.02


def parser(documentation: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all programs have."""
    assert documentation is not None
    parser = argparse.ArgumentParser(description=documentation.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="default: 5, and 1 with --quick")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: whether it works at all"
    )
    parser.add_argument(
        "--results", type=Path, help="write NAME-RANKS.json into this folder"
    )
    parser.add_argument(
        "--peers",
        default=",".join([MPI4PY, *PEERS]),
        help="whom to measure beside us, if installed; 'none' for nobody "
        "(default: %(default)s)",
    )
    return parser


def launched_rank() -> int:
    """Return this process's rank as the launcher tells it, before MPI is loaded."""
    for name in ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


def timed(work: Callable[..., object], *args: Any) -> float:
    """Return how many seconds one call takes."""
    start = time.perf_counter()
    work(*args)
    return time.perf_counter() - start


def median_time(count: int, work: Callable[..., object], *args: Any) -> float:
    """Return the median seconds of so many calls."""
    return statistics.median(timed(work, *args) for _ in range(count))


def quiet_barrier(comm: MPI.Intracomm) -> None:
    """Wait for all ranks of the communicator, asleep."""
    request = comm.Ibarrier()
    nap = 0.0001
    while not request.Test():
        time.sleep(nap)
        nap = min(2 * nap, LONGEST_NAP)


class Bench:
    """One program's run, on every rank; figures are kept on rank 0.

    Args:
        name: The program's module, whose `measure` the peers run.
        figures: What it measures; or a function of the number of workers, where the
            aims depend on it.
        options: Of a parser made by `parser`.
        measure: Called as ``measure(pool, **sizes)``; returns values by name.
        peers: Whom this program measures beside us.
        least: Fewest ranks that make sense.
    """

    def __init__(
        self,
        name: str,
        figures: Iterable[Figure] | Callable[[int], Iterable[Figure]],
        options: argparse.Namespace,
        measure: Callable[..., Mapping[str, float]] | None = None,
        *,
        peers: Iterable[str] = (),
        least: int = 2,
    ) -> None:
        self.name = name
        self.options = options
        self.quick: bool = options.quick
        self.skipped: list[str] = []
        self._measure = measure
        wanted = options.peers.split(",")
        self.peers = [peer for peer in peers if peer in wanted]
        self._children: dict[str, Peer] = {}
        if launched_rank() == 0:
            self._children = {p: Peer(p) for p in self.peers if p in PEERS}
        from mpi4py import MPI

        self.comm = MPI.COMM_WORLD
        sys.excepthook = self._abort
        self.rank: int = self.comm.rank
        self.workers: int = self.comm.size - 1
        if self.comm.size < least:
            raise SystemExit(
                f"start it with: mpiexec -n {least} python benchmarks/{name}.py"
            )
        self._figures = list(figures(self.workers) if callable(figures) else figures)
        self._rounds: dict[str, dict[str, list[float]]]
        self._rounds = defaultdict(lambda: defaultdict(list))
        for peer, child in list(self._children.items()):
            self._try(peer, child.start, self.workers)

    def rounds(self) -> Iterator[int]:
        """Iterate over the rounds."""
        count = self.options.rounds or (1 if self.quick else 5)
        for number in range(count):
            self.quiet()
            yield number
        self.quiet()

    def quiet(self) -> None:
        """Wait for all ranks, asleep."""
        quiet_barrier(self.comm)

    def run(self, who: str, **sizes: Any) -> dict[str, float]:
        """Let one candidate run `measure`; every rank must call it.

        Returns:
            What `measure` returned, on rank 0; nothing on other ranks, and where the
            candidate is missing.
        """
        assert self._measure is not None
        self.quiet()
        values: Mapping[str, float] | None = None
        if who == OURS:
            values = self._run_ours(sizes)
        elif who == MPI4PY:
            values = self._run_mpi4py(sizes)
        elif who in self._children:
            child = self._children[who]
            values = self._try(who, child.measure, self.name, sizes)
        self.quiet()
        return dict(values or {})

    def raw(
        self, work: Callable[..., Mapping[str, float] | None], *args: Any
    ) -> dict[str, float]:
        """Call ``work(comm, *args)`` on every rank; return what rank 0 returned."""
        self.quiet()
        values = work(self.comm, *args)
        self.quiet()
        return dict(values or {}) if self.rank == 0 else {}

    def note(self, who: str, values: Mapping[str, float]) -> None:
        """Add one round's values of a candidate; they must be of known figures."""
        known = {figure.name for figure in self._figures}
        for name, value in values.items():
            if name not in known:
                raise KeyError(f"{self.name} has no figure {name!r}")
            self._rounds[name][who].append(value)

    def skip(self, line: str) -> None:
        """Say once what is missing from the table, and why."""
        if line not in self.skipped:
            self.skipped.append(line)

    def finish(self) -> None:
        """Print the table, write the JSON, end the peers."""
        for child in self._children.values():
            child.close()
        if self.rank == 0:
            results.publish(
                self.name,
                self.comm.size,
                self._figures,
                self._rounds,
                self.options,
                self.skipped,
            )
        self.quiet()

    def _run_ours(self, sizes: Mapping[str, Any]) -> Mapping[str, float] | None:
        import mpitasks

        measure = self._measure
        assert measure is not None
        return mpitasks.run(lambda executor: measure(Futures(executor), **sizes))

    def _run_mpi4py(self, sizes: Mapping[str, Any]) -> Mapping[str, float] | None:
        from mpi4py.futures import MPICommExecutor

        assert self._measure is not None
        if MPI4PY not in self.peers:
            return None
        with MPICommExecutor(self.comm, root=0) as executor:
            if executor is not None:
                return self._measure(Futures(executor), **sizes)
        return None

    def _abort(self, *error: Any) -> None:
        """End the launch after an error, for which the other ranks would wait."""
        sys.__excepthook__(*error)
        self.comm.Abort(1)

    def _try(self, who: str, ask: Callable[..., Any], *args: Any) -> Any:
        try:
            return ask(*args)
        except PeerError as error:
            self.skip(f"{who}: {error}")
            self._children.pop(who).close()
            return None
