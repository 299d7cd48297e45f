"""Waiting for futures by other means than `result()`.

    mpiexec -n 2 python benchmarks/waiting.py
    python benchmarks/waiting.py --pool 2       # ProcessPoolExecutor(2), to compare

    all by wait, all by as_completed   null tasks, all submitted and then waited for
                                       at once, in tasks a second from the first
                                       submit on
    one by wait, one by as_completed   a single task, from submit on, median
    one by callback                    the same: a done-callback puts it in a queue
    one by asyncio                     the same: by `asyncio.wrap_future`
    one by polling                     the same: `done()` until it is, and `sleep(0)`

A loop around `os.sched_yield` may give its core to a rank that spins, for 1.5 ms.

`wait` and `as_completed` are the standard library's. They make conditions and waiters
on each future, and drive our engine. The last three leave it to the background thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import statistics
import time
from types import SimpleNamespace

from bench import Bench, median_time, parser, timed
from pools import MPI4PY, OURS, Futures
from results import Figure
from tasks import identity

RATE, LATENCY = 50_000, 60
FIGURES = [
    Figure("all by wait", "tasks/s", aim=RATE),
    Figure("all by as_completed", "tasks/s", aim=RATE),
    Figure("one by wait", "us", lower=True, aim=LATENCY),
    Figure("one by as_completed", "us", lower=True, aim=LATENCY),
    Figure("one by callback", "us", lower=True, aim=LATENCY),
    Figure("one by asyncio", "us", lower=True, aim=LATENCY),
    Figure("one by polling", "us", lower=True, aim=LATENCY),
]


def measure(pool: Futures, tasks: int, trips: int) -> dict[str, float]:
    """Measure one candidate."""
    submit = pool.executor.submit

    def by_wait(count: int) -> None:
        concurrent.futures.wait([submit(identity, i) for i in range(count)])

    def by_as_completed(count: int) -> None:
        futures = [submit(identity, i) for i in range(count)]
        for future in concurrent.futures.as_completed(futures):
            future.result()

    done: queue.SimpleQueue[object] = queue.SimpleQueue()

    def by_callback(count: int) -> None:
        for i in range(count):
            submit(identity, i).add_done_callback(done.put)
            done.get()

    def by_polling(count: int) -> None:
        for i in range(count):
            future = submit(identity, i)
            while not future.done():
                time.sleep(0)

    async def by_asyncio() -> float:
        loop = asyncio.get_running_loop()
        times = []
        for i in range(trips):
            begun = loop.time()
            await asyncio.wrap_future(submit(identity, i))
            times.append(loop.time() - begun)
        return statistics.median(times)

    pool.call(identity, 0)
    return {
        "all by wait": tasks / timed(by_wait, tasks),
        "all by as_completed": tasks / timed(by_as_completed, tasks),
        "one by wait": 1e6 * median_time(trips, by_wait, 1),
        "one by as_completed": 1e6 * median_time(trips, by_as_completed, 1),
        "one by callback": 1e6 * median_time(trips, by_callback, 1),
        "one by asyncio": 1e6 * asyncio.run(by_asyncio()),
        "one by polling": 1e6 * median_time(trips, by_polling, 1),
    }


def measure_process_pool(workers: int, rounds: int) -> None:
    """Print the medians of the standard library's executor."""
    with concurrent.futures.ProcessPoolExecutor(workers) as executor:
        pool = SimpleNamespace(
            executor=executor,
            call=lambda function, item: executor.submit(function, item).result(),
        )
        found = [measure(pool, 1_000, 500) for _ in range(rounds or 5)]
    for figure in FIGURES:
        values = [each[figure.name] for each in found]
        print(f"{figure.name:20} {statistics.median(values):8.0f} {figure.unit}")


def main() -> None:
    """Run the benchmark."""
    arguments = parser(__doc__)
    arguments.add_argument("--pool", type=int, help="measure a ProcessPoolExecutor")
    options = arguments.parse_args()
    if options.pool:
        measure_process_pool(options.pool, options.rounds)
        return
    bench = Bench("waiting", FIGURES, options, measure, peers=[MPI4PY])
    tasks, trips = (100, 10) if bench.quick else (30_000, 500)
    for _ in bench.rounds():
        bench.note(OURS, bench.run(OURS, tasks=tasks, trips=trips))
        for peer in bench.peers:
            bench.note(peer, bench.run(peer, tasks=max(tasks // 30, 10), trips=trips))
    bench.finish()


if __name__ == "__main__":
    main()
