"""What mpi4py.futures documents, as checks that pass there and here.

Started with ``python -m mpi4py.futures`` and ``FUTURES=mpi4py.futures``, it tries the
checks on the original; with ``python -m mpitasks`` and ``FUTURES=mpitasks.futures``, on
ours. Exits with 1 if a check failed, and then says which on stderr.
"""

from __future__ import annotations

import faulthandler
import functools
import importlib
import itertools
import operator
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from support import Gate, raises, run_checks, until

futures: Any = importlib.import_module(os.environ["FUTURES"])
IS_OURS = futures.__name__.startswith("mpitasks")

# Threads of mpi4py 4.1 fail at times when some of them end (their list is mutated).
KINDS = [futures.MPIPoolExecutor, futures.ThreadPoolExecutor][: 1 + IS_OURS]


def each_kind(check: Callable[[Any], None]) -> Callable[[], None]:
    """Have a check tried with executors of each kind that start without processes."""

    @functools.wraps(check)
    def tried() -> None:
        for kind in KINDS:
            check(kind)

    tried.__dict__.pop("__wrapped__")  # or it would seem to take an Executor
    return tried


def fail_at(place: int, value: int) -> int:
    """Task: raise for one of the values."""
    if value == place:
        raise LookupError(value)
    return value


def broken_input() -> Iterator[int]:
    """Yield an item, and raise then."""
    yield 1
    raise ArithmeticError("no more input")


def initialize(value: Any) -> None:
    """Leave a value for tasks."""
    global left
    left = value


def left_by_initializer() -> Any:
    """Task: return that value."""
    return left


def refuse() -> NoReturn:
    """Initializer: fail."""
    raise LookupError("no licence")


def workers_in_communicator() -> int:
    """Task: return how many workers can communicate."""
    return int(futures.get_comm_workers().Get_size())


def check_names() -> None:
    """Every name of mpi4py's documentation is there."""
    names = """ALL_COMPLETED BrokenExecutor CancelledError Executor FIRST_COMPLETED
        FIRST_EXCEPTION Future InvalidStateError MPICommExecutor MPIPoolExecutor
        ProcessPoolExecutor ThreadPoolExecutor TimeoutError as_completed collect compose
        get_comm_workers wait"""
    assert sorted(futures.__all__) == sorted(names.split())
    assert all(hasattr(futures, name) for name in names.split())
    for kind in (futures.ThreadPoolExecutor, futures.ProcessPoolExecutor):
        assert issubclass(kind, futures.MPIPoolExecutor)
    assert issubclass(futures.MPIPoolExecutor, futures.Executor)


@each_kind
def check_submit(kind: Any) -> None:
    """Calls, keywords, results, exceptions."""
    with kind(max_workers=2) as executor:
        future = executor.submit(int, "11", base=2)
        assert isinstance(future, futures.Future)
        assert future.result() == 3
        assert future.exception() is None
        assert future.done()
        failed = executor.submit(fail_at, 1, 1)
        assert raises(LookupError, failed.result).args == (1,)
        assert type(failed.exception()) is LookupError
        raises(TypeError, executor.submit(None).result)
    raises(TypeError, executor.submit)


@each_kind
def check_map(kind: Any) -> None:
    """Orders, several iterables, chunks, items that are tuples."""
    with kind(max_workers=2) as executor:
        assert list(executor.map(pow, [2, 3, 4], [5, 2])) == [32, 9]
        assert list(executor.map(abs, [])) == []
        assert list(executor.starmap(pow, [])) == []
        pairs = [(2, 5), [3, 2], (4, 1)]
        for chunksize, unordered in itertools.product([1, 2, 7], [False, True]):
            options = {"chunksize": chunksize, "unordered": unordered}
            kept = list if not unordered else sorted
            squares = executor.map(pow, range(9), [2] * 9, **options)
            assert kept(squares) == [n * n for n in range(9)]
            assert kept(executor.starmap(pow, iter(pairs), **options)) == kept(
                [32, 9, 4]
            )
        for buffersize in (1, 2, 50):
            items = iter(range(9))
            lazy = executor.map(abs, items, buffersize=buffersize)
            ahead = 9 - operator.length_hint(items)
            assert ahead == min(buffersize, 9)
            assert list(lazy) == list(range(9))
        assert list(executor.starmap(pow, iter(pairs), None, 1, 2)) == [32, 9, 4]


@each_kind
def check_errors_of_items(kind: Any) -> None:
    """What an item raises comes at its place, and ends the results."""
    with kind(max_workers=2) as executor:
        results = executor.map(functools.partial(fail_at, 2), range(4))
        assert [next(results), next(results)] == [0, 1]
        assert raises(LookupError, lambda: next(results)).args == (2,)
        raises(StopIteration, lambda: next(results))
        results = executor.starmap(fail_at, [(0, 0)], unordered=True)
        raises(LookupError, lambda: next(results))
        results = executor.map(functools.partial(fail_at, 1), range(2), chunksize=2)
        raises(LookupError, lambda: [*results])


@each_kind
def check_errors_of_input(kind: Any) -> None:
    """What the iterable raises comes at the call."""
    with kind(max_workers=2) as executor:
        for chunksize, unordered in itertools.product([1, 2], [False, True]):
            options = {"chunksize": chunksize, "unordered": unordered}
            broken = functools.partial(executor.map, abs, broken_input(), **options)
            raises(ArithmeticError, broken)
        lazy = executor.map(abs, broken_input(), buffersize=1)
        raises(ArithmeticError, lambda: [*lazy])


@each_kind
def check_arguments(kind: Any) -> None:
    """Wrong arguments are refused at the call."""
    for number in (0, -1, "0"):
        raises(ValueError, lambda n=number: kind(max_workers=n))
    raises(ValueError, lambda: kind("two"))
    raises(TypeError, lambda: kind([2]))
    raises(TypeError, lambda: kind(initializer=7))
    raises(TypeError, lambda: kind(initializer=print, initargs=7))
    with kind() as executor:
        for chunksize in (0, -1):
            raises(ValueError, lambda c=chunksize: executor.map(abs, [], chunksize=c))
            raises(ValueError, lambda c=chunksize: executor.starmap(abs, [], None, c))
        raises(TypeError, lambda: executor.map(abs, [1], chunksize="1"))
        raises(TypeError, lambda: executor.map(abs, [1], buffersize=1.5))
        raises(ValueError, lambda: executor.map(abs, [1], buffersize=0))
        raises(ValueError, lambda: executor.map(abs, [1], buffersize=1, unordered=True))
        raises(TypeError, lambda: executor.map(abs, 7))
        raises(TypeError, lambda: executor.map(abs, [1], no_such_option=1))


@each_kind
def check_time_limits(kind: Any) -> None:
    """A result that is not there in time."""
    gate = Gate()
    with kind(max_workers=1) as executor:
        for unordered, limit in itertools.product([False, True], [0, 0.01]):
            late = executor.map(gate.hold, [1], timeout=limit, unordered=unordered)
            raises(futures.TimeoutError, lambda late=late: next(late))
        future = executor.submit(gate.hold, 3)
        raises(futures.TimeoutError, lambda: future.result(0.01))
        raises(futures.TimeoutError, lambda: future.exception(timeout=0))
        gate.open()
        assert future.result(timeout=60) == 3
        assert list(executor.map(gate.hold, [1, 2], timeout=60)) == [1, 2]


@each_kind
def check_workers(kind: Any) -> None:
    """How many there are, and getting them ready."""
    executor = kind(max_workers=1)
    assert executor.bootup() is executor
    assert executor.bootup(wait=False) is executor
    assert executor.num_workers >= 1
    assert executor._max_workers == executor.num_workers
    executor.shutdown()
    assert executor.num_workers == executor._max_workers == 0
    raises(RuntimeError, executor.bootup)
    raises(RuntimeError, lambda: executor.bootup(wait=False))


@each_kind
def check_shutdown(kind: Any) -> None:
    """Nothing is taken afterwards, and all that was taken is done."""
    for wait in (True, False):
        executor = kind(max_workers=1)
        executor.shutdown(wait)
        executor.shutdown(wait=wait)
        raises(RuntimeError, lambda executor=executor: executor.submit(abs, 1))
        raises(RuntimeError, lambda executor=executor: executor.map(abs, [1]))
        raises(RuntimeError, lambda executor=executor: executor.starmap(abs, [(1,)]))
    executor = kind()
    taken = [executor.submit(abs, -n) for n in range(20)]
    results = executor.map(abs, range(20))
    executor.shutdown(wait=False)
    assert [future.result() for future in taken] == list(range(20))
    assert list(results) == list(range(20))
    executor.shutdown()
    with kind() as executor:
        executor.submit(abs, 1)
        executor.shutdown()
        executor.shutdown()
    dropped = kind().submit(abs, -5)  # nobody refers to the executor
    assert dropped.result() == 5


@each_kind
def check_cancelling(kind: Any) -> None:
    """What runs is finished, and what waits is not begun."""
    gate = Gate()
    with kind(max_workers=1) as executor:
        running = [executor.submit(gate.hold, 1) for _ in range(executor.num_workers)]
        until(lambda: gate.waiting == len(running), "all workers are busy")
        waiting = [executor.submit(abs, n) for n in range(4 * len(running))]
        assert not running[0].cancel()
        assert running[0].running()
        assert waiting[-1].cancel()
        assert waiting[-1].cancelled()
        raises(futures.CancelledError, waiting[-1].result)
        executor.shutdown(wait=False, cancel_futures=True)
        assert waiting[-2].cancelled()
        gate.open()
    assert [future.result() for future in running] == [1] * len(running)


@each_kind
def check_several_executors(kind: Any) -> None:
    """One beside another, and one after another."""
    with kind() as one, kind() as two:
        assert one.submit(abs, -1).result() == 1
        assert list(two.map(abs, [-1, -2])) == [1, 2]
        one.shutdown()
        assert two.submit(abs, -3).result() == 3
    for number in range(3):
        with kind(max_workers=number + 1) as executor:
            assert executor.submit(abs, -number).result() == number


@each_kind
def check_waiting(kind: Any) -> None:
    """The functions that wait for several futures."""
    gate = Gate()
    with kind(max_workers=1) as executor:
        held = executor.submit(gate.hold, 1)
        assert futures.wait([held], timeout=0).not_done == {held}
        raises(futures.TimeoutError, lambda: [*futures.as_completed([held], timeout=0)])
        gate.open()
        others = [executor.submit(abs, n) for n in range(4)]
        done, not_done = futures.wait([held, *others])
        assert (done, not_done) == ({held, *others}, set())
        assert sorted(each.result() for each in futures.as_completed(others)) == [
            *range(4)
        ]
        failed = executor.submit(fail_at, 0, 0)
        done, _ = futures.wait([failed], return_when=futures.FIRST_EXCEPTION)
        assert done == {failed}
        plain: Any = futures.Future()
        plain.set_result(3)
        done, _ = futures.wait([plain, held], return_when=futures.FIRST_COMPLETED)
        assert plain in done


@each_kind
def check_collected_futures(kind: Any) -> None:
    """A future of several, and a future of another."""
    with kind(max_workers=2) as executor:
        parts = [executor.submit(abs, -n) for n in range(5)]
        assert futures.collect(parts).result() == [0, 1, 2, 3, 4]
        assert futures.collect(reversed(parts)).result() == [4, 3, 2, 1, 0]
        assert futures.collect([parts[1], parts[1]]).result() == [1, 1]
        assert futures.collect([]).result() == []
        failing = executor.submit(fail_at, 0, 0)
        raises(LookupError, futures.collect([*parts, failing]).result)
        twice = functools.partial(operator.mul, 2)
        assert futures.compose(parts[4], twice).result() == 8
        assert futures.compose(parts[4]).result() == 4
        raises(LookupError, futures.compose(failing, twice).result)
        assert futures.compose(failing, twice, repr).result() == "LookupError(0)"
        raises(ValueError, futures.compose(failing, None, ValueError).result)
        raises(TypeError, futures.compose(parts[4], len).result)


def check_initializer() -> None:
    """It is called before the first call, in every process."""
    with futures.MPIPoolExecutor(
        initializer=initialize, initargs=["set up"]
    ) as executor:
        found = executor.starmap(left_by_initializer, [()] * 20)
        assert set(found) == {"set up"}


@each_kind
def check_initializer_that_fails(kind: Any) -> None:
    """Nothing runs, and the next call is refused."""
    executor = kind(initializer=refuse)
    future = executor.submit(abs, -1)
    raises(futures.BrokenExecutor, future.result)
    raises(futures.BrokenExecutor, lambda: executor.submit(abs, 1))
    assert executor.num_workers == 0
    executor.shutdown()
    broken = kind(initializer=refuse)
    broken.bootup()
    assert broken.num_workers == 0
    raises(futures.BrokenExecutor, lambda: broken.submit(abs, 1))
    raises(futures.BrokenExecutor, lambda: [*broken.map(abs, [1])])
    broken.shutdown()
    with kind() as executor:
        assert executor.submit(abs, -2).result() == 2


def check_communicators() -> None:
    """MPICommExecutor in a script that one rank runs, and its arguments."""
    from mpi4py import MPI

    if MPI.COMM_WORLD.Get_size() > 1:  # here all have the workers of the run
        for comm in (None, MPI.COMM_WORLD, MPI.COMM_SELF):
            with futures.MPICommExecutor(comm) as executor:
                assert isinstance(executor, futures.MPIPoolExecutor)
                assert executor.submit(abs, -1).result() == 1
    for root in (-1, MPI.COMM_WORLD.Get_size()):
        raises(ValueError, lambda r=root: futures.MPICommExecutor(root=r))
        raises(
            ValueError, lambda r=root: futures.MPICommExecutor(MPI.COMM_WORLD, root=r)
        )
    raises(ValueError, lambda: futures.MPICommExecutor(MPI.COMM_SELF, 1))
    entered = futures.MPICommExecutor(MPI.COMM_WORLD)
    with entered:
        raises(RuntimeError, entered.__enter__)
    raises(RuntimeError, futures.get_comm_workers)
    with futures.MPIPoolExecutor() as executor:
        workers = executor.submit(workers_in_communicator).result()
        assert workers == executor.num_workers


def main() -> int:
    """Run the checks."""
    faulthandler.dump_traceback_later(100.0, exit=False)
    return run_checks([sys.modules["__main__"]], *sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
