"""What it costs that a run is watched: by the accounts, always there, and by a trace.

    mpiexec -n 3 python -m mpitasks --trace observing.json.gz benchmarks/observing.py

Tasks of nothing: 10^6 by `map`, 10^5 by `submit`, and 10^4 calls one after the other,
each waited for. In each of nine rounds all take their turn, with no listener, with the
accounts, and with accounts and trace. Printed are the medians of the times with no
listener, and those of the ratios within the rounds, with the least and the greatest. By
hand only: no part of `run.py`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import mpitasks
from mpitasks.api import session

ROUNDS = 9


def nothing(x: int) -> int:
    """Return at once."""
    return x


def by_map(executor: mpitasks.Executor) -> None:
    """10^6 tasks as a map."""
    for _ in executor.map(nothing, range(1_000_000)):
        pass


def by_submit(executor: mpitasks.Executor) -> None:
    """10^5 tasks as calls."""
    for future in [executor.submit(nothing, number) for number in range(100_000)]:
        future.result()


def one_by_one(executor: mpitasks.Executor) -> None:
    """10^4 calls, each waited for."""
    for number in range(10_000):
        executor.submit(nothing, number).result()


def seconds(way: Callable[[mpitasks.Executor], None], it: mpitasks.Executor) -> float:
    """Return how long it takes."""
    start = time.perf_counter()
    way(it)
    return time.perf_counter() - start


def main() -> None:
    """Print a line for each way."""
    with mpitasks.Executor() as executor:
        listeners = session.current().event_loop.engine.listeners
        accounts, *trace = listeners
        if not trace:
            raise SystemExit("start it with --trace FILE, so that there is one")
        kinds = {"none": [], "accounts": [accounts], "trace": [accounts, *trace]}
        for way in (by_map, by_submit, one_by_one):
            way(executor)
            times: dict[str, list[float]] = {name: [] for name in kinds}
            for _ in range(ROUNDS):
                for name, wanted in kinds.items():
                    listeners[:] = wanted
                    times[name].append(seconds(way, executor))
            listeners[:] = [accounts, *trace]
            line = f"{way.__name__}: {statistics.median(times['none']):.3f} s"
            for name in ("accounts", "trace"):
                pairs = zip(times[name], times["none"], strict=True)
                ratios = sorted(own / none for own, none in pairs)
                middle = statistics.median(ratios)
                line += f", {name} {middle:.3f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            print(line)


if __name__ == "__main__":
    main()
