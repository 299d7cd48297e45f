"""Where the time of one call goes: time stamps on its way, on both ranks.

    mpiexec -n 2 python -m mpitasks benchmarks/steps.py

Submits a null call alone and waits for it, 3,000 times. The stamps are set by
replacing two functions of the transport on both ranks; they cost some 2 us in all. Both
ranks must be on one host, whose clock they share. By hand only: no part of `run.py`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import mpitasks
from mpitasks.wire import messages

CALLS = 3000
WARM_UP = 300
STEPS = [
    ("submit, up to Isend", "rank 0"),
    ("Isend", "rank 0"),
    ("on its way", ""),
    ("unpickle the message", "worker"),
    ("run, up to Isend", "worker"),
    ("Isend", "worker"),
    ("on its way", ""),
    ("unpickle the message", "rank 0"),
    ("back to the caller", "rank 0"),
]

stamps: list[float] = []


def stamp_transport() -> None:
    """Have this rank's transport note when a frame goes and when one comes."""
    from mpitasks.wire import mpi_transport

    send, transport, inbox = (
        mpi_transport.MpiTransport._send,
        mpi_transport.MpiTransport,
        mpi_transport.Posted,
    )

    def stamped_send(self: Any, *words: Any) -> None:
        stamps.append(time.perf_counter())
        send(self, *words)
        stamps.append(time.perf_counter())

    def stamped_take(self: Any, seconds: float) -> Any:
        if not self._posted:
            self._request.Start()
            self._posted = True
        end = time.perf_counter() + seconds if seconds else 0.0
        while not self._request.Test():
            if not end or time.perf_counter() >= end:
                return None
        stamps.append(time.perf_counter())
        self._posted = False
        unpacked = messages.unpack(self._room)
        stamps.append(time.perf_counter())
        return self._source, unpacked

    transport._send, inbox.take = stamped_send, stamped_take


def identity(value: int) -> int:
    """Do nothing."""
    return value


def forget() -> None:
    """Let go of the stamps of this rank."""
    stamps.clear()


def fetch() -> list[float]:
    """Return the stamps of this rank, those of the call that fetches them last."""
    return stamps.copy()


def measure(executor: mpitasks.Executor) -> list[list[float]]:
    """Return the seconds of each step, for each call."""
    # Functions of a module, not of __main__: these have the module's own `stamps`.
    import steps

    executor.submit(steps.stamp_transport).result()
    stamp_transport()
    for number in range(WARM_UP):
        executor.submit(identity, number).result()
    executor.submit(steps.forget).result()
    stamps.clear()
    began, ended = [], []
    for number in range(CALLS):
        began.append(time.perf_counter())
        executor.submit(identity, number).result()
        ended.append(time.perf_counter())
    own = stamps[: 4 * CALLS]
    other = executor.submit(steps.fetch).result()
    other = other[2:][: 4 * CALLS]  # the first two are of the reply to `forget`
    rows = []
    for call, (start, end) in enumerate(zip(began, ended, strict=True)):
        sent, gone, came, read = own[4 * call : 4 * call + 4]
        there, known, reply, left = other[4 * call : 4 * call + 4]
        way = [start, sent, gone, there, known, reply, left, came, read, end]
        steps_of_call = [b - a for a, b in itertools.pairwise(way)]
        # What Isend still takes when the message has left is no part of its way.
        steps_of_call[2], steps_of_call[6] = there - sent, came - reply
        rows.append(steps_of_call)
    return rows


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share of the values is."""
    return sorted(values)[int(share * len(values))]


def main() -> None:
    """Print the table."""
    with mpitasks.Executor() as executor:
        if executor.num_workers != 1:
            raise SystemExit("steps.py needs 2 ranks")
        rows = measure(executor)
    print(f"{'step':24} {'where':8} {'p10 (us)':>9} {'median (us)':>12}")
    for at, (step, where) in enumerate(STEPS):
        column = [1e6 * row[at] for row in rows]
        low, middle = percentile(column, 0.1), percentile(column, 0.5)
        print(f"{step:24} {where:8} {low:9.1f} {middle:12.1f}")


if __name__ == "__main__":
    main()
