"""Checks of wait, as_completed, asyncio, and of several threads of the script."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    as_completed,
    wait,
)
from typing import Any

from support import Gate, Occupied, double, echo, fail, fresh, raises, until

import mpitasks as mt


def check_wait_for_all(ex: mt.Executor) -> None:
    futures = [ex.submit(double, n) for n in range(50)]
    futures.append(ex.submit(fail, ValueError))
    done, pending = wait(futures, 20, return_when=ALL_COMPLETED)
    assert done == set(futures)
    assert not pending
    again, pending = wait(futures, 0)
    assert again == done
    assert not pending


def check_wait_for_first(ex: mt.Executor) -> None:
    gate = Gate()
    first = ex.submit(fresh(echo), 1)
    held = ex.submit(fresh(gate.hold), 2)
    done, pending = wait([held, first], 20, return_when=FIRST_COMPLETED)
    assert done == {first}
    assert pending == {held}
    gate.open()
    done, pending = wait([held, first], 20)
    assert (done, pending) == ({first, held}, set())


def check_wait_for_first_exception(ex: mt.Executor) -> None:
    gate = Gate()
    good = ex.submit(fresh(echo), 1)
    bad = ex.submit(fresh(fail), ValueError, "bad")
    held = ex.submit(fresh(gate.hold), 2)
    done, pending = wait([good, bad, held], 20, return_when=FIRST_EXCEPTION)
    assert bad in done
    assert held in pending
    gate.open()
    done, pending = wait([good, held], 20, return_when=FIRST_EXCEPTION)
    assert done == {good, held}


def check_wait_in_vain(ex: mt.Executor) -> None:
    gate = Gate()
    held = ex.submit(fresh(gate.hold))
    for seconds in (0, 0.05):
        done, pending = wait([held], seconds)
        assert (done, pending) == (set(), {held})
    gate.open()


def check_wait_with_cancelled(ex: mt.Executor) -> None:
    with Occupied(ex) as occupied:
        queued = ex.submit(fresh(echo), 1)
        waiter: list[Any] = []
        thread = threading.Thread(target=lambda: waiter.append(wait([queued], 20)))
        thread.start()
        assert queued.cancel()
        thread.join(120)
        assert waiter[0].done == {queued}
        futures = [queued, *occupied.futures]
        assert wait(futures, 20, return_when=FIRST_COMPLETED).done == {queued}


def check_wait_for_none_or_twice(ex: mt.Executor) -> None:
    future = ex.submit(echo, 1)
    assert wait([future, future], 20).done == {future}
    assert wait([], 20).done == set()


def check_as_completed(ex: mt.Executor) -> None:
    futures = [ex.submit(double, n) for n in range(100)]
    futures.append(ex.submit(fail, ValueError))
    assert set(as_completed(futures, 20)) == set(futures)
    assert len(list(as_completed(futures + futures, 20))) == len(futures)
    assert set(as_completed(iter(futures), 0)) == set(futures)
    assert list(as_completed([])) == []


def check_as_completed_as_they_complete(ex: mt.Executor) -> None:
    gates = [Gate() for _ in range(ex.num_workers)]
    futures = [ex.submit(fresh(gate.hold)) for gate in gates]
    for gate in gates:
        until(lambda gate=gate: gate.waiting == 1, "each gate holds its own task")
    results = as_completed(futures, 20)
    for gate, future in reversed(list(zip(gates, futures, strict=True))):
        gate.open()
        assert next(results) is future


def check_as_completed_in_vain(ex: mt.Executor) -> None:
    gate = Gate()
    quick, held = ex.submit(fresh(echo), 1), ex.submit(fresh(gate.hold))
    seen = []

    def collect(seconds: float) -> None:
        seen.extend(as_completed([quick, held], seconds))

    assert quick.result(120) == 1
    for seconds in (0, 0.05):
        raises(concurrent.futures.TimeoutError, lambda s=seconds: collect(s))
    assert seen == [quick, quick]
    gate.open()


def check_as_completed_with_cancelled(ex: mt.Executor) -> None:
    with Occupied(ex):
        queued = ex.submit(fresh(echo), 1)
        queued.cancel()
        assert list(as_completed([queued], 20)) == [queued]


def check_as_completed_among_other_executors(ex: mt.Executor) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        mixed = [ex.submit(echo, 1), threads.submit(echo, 2)]
        assert {f.result() for f in as_completed(mixed, 20)} == {1, 2}


def check_asyncio(ex: mt.Executor) -> None:
    async def script() -> None:
        loop = asyncio.get_running_loop()
        assert await asyncio.wrap_future(ex.submit(double, 4)) == 8
        assert await loop.run_in_executor(ex, double, 5) == 10
        many = [loop.run_in_executor(ex, double, n) for n in range(100)]
        assert await asyncio.gather(*many) == [2 * n for n in range(100)]
        failed = asyncio.wrap_future(ex.submit(fail, OSError, 7))
        await asyncio.wait([failed])
        assert type(failed.exception()) is OSError

    asyncio.run(asyncio.wait_for(script(), 20))


def check_asyncio_cancel_and_timeout(ex: mt.Executor) -> None:
    async def script() -> None:
        with Occupied(ex):
            queued = ex.submit(fresh(echo), 1)
            wrapped = asyncio.wrap_future(queued)
            wrapped.cancel()
            await asyncio.wait([wrapped], timeout=20)
            assert wrapped.cancelled()
            assert queued.cancelled()
            held = ex.submit(fresh(echo), 1)
            try:
                await asyncio.wait_for(asyncio.wrap_future(held), 0.05)
            except asyncio.TimeoutError:
                pass
            else:
                raise AssertionError("no TimeoutError")

    asyncio.run(asyncio.wait_for(script(), 20))


def _in_threads(count: int, work: Any) -> None:
    """Run ``work(number)`` in threads; raise what the first of them raised."""
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=guarded, args=(n,), daemon=True) for n in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def check_threads_that_submit(ex: mt.Executor) -> None:
    def work(number: int) -> None:
        futures = [ex.submit(pow, number, n) for n in range(100)]
        assert [f.result(120) for f in futures] == [number**n for n in range(100)]

    _in_threads(8, work)


def check_threads_that_wait_for_each(ex: mt.Executor) -> None:
    def work(number: int) -> None:
        for n in range(30):
            assert ex.submit(pow, number, n).result(120) == number**n

    _in_threads(5, work)


def check_threads_that_map(ex: mt.Executor) -> None:
    def work(number: int) -> None:
        expected = [number + n for n in range(200)]
        for _ in range(3):
            assert list(ex.map(_add, [number] * 200, range(200))) == expected
        pairs = ex.map_unordered(_add, [number] * 200, range(200))
        assert sorted(pairs) == list(enumerate(expected))

    _in_threads(4, work)


def _add(first: int, second: int) -> int:
    return first + second


def check_threads_that_wait_for_one(ex: mt.Executor) -> None:
    gate = Gate()
    future = ex.submit(fresh(gate.hold), 4)
    started = threading.Barrier(7)

    def work(number: int) -> None:
        started.wait(120)
        if number == 6:
            gate.open()
        assert future.result(120) == 4

    _in_threads(7, work)


def check_threads_that_cancel(ex: mt.Executor) -> None:
    futures = [ex.submit(fresh(double), n) for n in range(200)]
    taken: list[int] = []

    def work(number: int) -> None:
        taken.extend(n for n, f in enumerate(futures) if n % 4 == number and f.cancel())

    _in_threads(4, work)
    for number, future in enumerate(futures):
        if number in taken:
            assert future.cancelled()
        else:
            assert future.result(120) == 2 * number


def check_progress_while_the_script_is_elsewhere(ex: mt.Executor) -> None:
    done = threading.Event()
    futures = [ex.submit(double, n) for n in range(200)]
    futures[-1].add_done_callback(lambda _: done.set())
    assert done.wait(120)
    until(lambda: all(f.done() for f in futures), "all are done without being asked")
