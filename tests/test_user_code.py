"""User code runs under no lock of ours, whatever it does: raise, call back, be stopped.

In one process, with a real worker in a thread. Each hook of `hooks` travels to every
place where a user can put an object. `tests/programs/hooks_hold_no_lock.py` does the
same with ranks of an MPI.
"""

from __future__ import annotations

import functools
import gc
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import hooks
import mpitasks
from hands import Hands
from hooks import (
    ACTS,
    ERRORS,
    FAULTS,
    FIRED,
    SECONDS,
    STATE,
    VALUES,
    Act,
    Interrupt,
    Number,
    Reduced,
    Text,
    armed,
    double,
    fire,
)
from mpitasks import randomness
from mpitasks.api import session
from mpitasks.api.executor import Executor
from mpitasks.api.session import Session
from mpitasks.errors import ConfigurationError, ExecutorClosedError, OptionError
from mpitasks.journal import keys, modules
from mpitasks.journal.code import parts_of
from mpitasks.wire import rebuild
from mpitasks.worker.loop import Worker

Open = Callable[..., Executor]
Place = Callable[[Executor, Callable[[], Any]], Any]


@pytest.fixture(params=[False, True], ids=["", "journal"])
def opening(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Open]:
    """Open Executors whose worker is a thread; with a journal, or without one."""
    # What the modules are, which takes long to tell, changes in none of these tests.
    monkeypatch.setattr(modules, "cover", functools.cache(modules.cover))
    monkeypatch.setattr(keys, "parts_of", parts_of_known)
    # Hundreds of journals wait for hundreds of flushes of a disk, beside other tests.
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path))
    gc.collect()
    gc.freeze()  # what other tests have left is not looked through at each attempt
    with hooks.watched(monkeypatch):
        played = Hands(1)
        worker = Worker(played.ends[1], "rank 1 on here", own=False)
        functions = worker.functions
        thread = threading.Thread(target=worker.serve, daemon=True)

        def in_task() -> bool:
            return threading.current_thread() is thread

        session.install(Session(played.event_loop, in_task))
        side = rebuild.side()
        rebuild.set_side(lambda: functions.side if in_task() else side)
        randomness.provide(lambda: worker.draw() if in_task() else None)
        thread.start()
        assert thread.ident is not None
        STATE.worker = thread.ident
        opened: list[Executor] = []

        def open_executor(**options: Any) -> Executor:
            if request.param:
                options.setdefault("journal", folder / f"{len(opened)}.db")
            opened.append(Executor(**options))
            return opened[-1]

        yield open_executor
        for executor in opened:
            executor.shutdown(cancel_futures=True)
        session.uninstall()
        assert played.event_loop.close(10.0) == []
        thread.join(10.0)
        assert not thread.is_alive()
        rebuild.set_side(None)
        randomness.provide(lambda: None)
    gc.unfreeze()
    shutil.rmtree(folder)


KNOWN: dict[int, Any] = {}
"""Classes that were looked into, by their ids, and what was found."""


def parts_of_known(value: Any, cover: Any) -> Any:
    """Look into a class once for all tests: none of them changes one."""
    if not issubclass(type(value), type):
        return parts_of(value, cover)
    if id(value) not in KNOWN:
        KNOWN[id(value)] = value, parts_of(value, cover)
    return KNOWN[id(value)][1]


# What tasks do.


def first(*args: Any, **kwargs: Any) -> Any:
    return args[0] if args else None


def kind_of(*args: Any, **kwargs: Any) -> str:
    return "kind"


def make_value(kind: str) -> Any:
    return VALUES[kind]()


def make_list(kind: str) -> Any:
    return [VALUES[kind](), 1, VALUES[kind]()]


def fail(kind: str) -> Any:
    raise ERRORS[kind]()


def fail_beyond(kind: str) -> Any:
    try:
        raise ERRORS[kind]()
    except BaseException as error:
        raise ValueError("beyond") from error


# Where an object travels.


def closure(value: Any) -> Callable[[Any], str]:
    return lambda x: type(value).__name__


def default(value: Any) -> Callable[[Any], str]:
    def inner(x: Any, given: Any = value) -> str:
        return type(given).__name__

    return inner


class Bound:
    def __init__(self, value: Any) -> None:
        self.value = value

    def method(self, x: Any) -> str:
        return type(self.value).__name__


def quiet(make: Callable[[], Any], wrap: Callable[[Any], Any]) -> Any:
    """Make what holds a value, and fire nothing: this is not what is looked at."""
    STATE.armed = False
    try:
        return wrap(make())
    finally:
        STATE.armed = True


def later(executor: Executor, function: Any, *args: Any, **kwargs: Any) -> Any:
    return executor.submit(function, *args, **kwargs).result(SECONDS)


def drop(executor: Executor, make: Callable[[], Any]) -> None:
    executor.submit(first, make())
    later(executor, double, 2)


def watched(executor: Executor, make: Callable[[], Any]) -> Any:
    future = executor.submit(first, make())
    future.add_done_callback(lambda done: None)
    return future.result(SECONDS)


PLACES: dict[str, Place] = {
    "argument": lambda e, make: later(e, first, make()),
    "argument alone": lambda e, make: later(e, kind_of, make()),
    "argument beside a future": lambda e, make: later(
        e, first, make(), e.submit(double, 1)
    ),
    "argument of a future": lambda e, make: later(
        e, first, e.submit(first, make()), e.submit(double, 1)
    ),
    "items with futures": lambda e, make: list(
        e.starmap(first, [(make(), e.submit(double, 1)), (e.submit(first, make()), 2)])
    ),
    "shared": lambda e, make: later(e, first, e.share([make()])),
    "argument in a list": lambda e, make: later(e, first, [make(), 1, make()]),
    "argument by name": lambda e, make: later(e, kind_of, x=make()),
    "value in a dictionary": lambda e, make: later(e, first, {"a": make()}),
    "key of a dictionary": lambda e, make: later(
        e, first, quiet(make, lambda value: {value: 1})
    ),
    "element of a set": lambda e, make: later(
        e, first, quiet(make, lambda value: {value, 1})
    ),
    "many arguments": lambda e, make: [
        future.result(SECONDS)
        for future in [e.submit(first, make(), n) for n in range(40)]
    ],
    "dropped": drop,
    "watched": watched,
    "function": lambda e, make: later(e, make(), 1),
    "partial": lambda e, make: later(e, functools.partial(first, make()), 1),
    "closure": lambda e, make: later(e, closure(make()), 1),
    "default": lambda e, make: later(e, default(make()), 1),
    "bound method": lambda e, make: later(e, Bound(make()).method, 1),
    "items": lambda e, make: list(e.map(first, [make(), make()])),
    "items in chunks": lambda e, make: list(
        e.map(first, [make(), 1, make(), make()], chunksize=2)
    ),
    "items as they come": lambda e, make: list(
        e.map_unordered(first, (make() for _ in range(3)))
    ),
    "items of two": lambda e, make: list(e.map(first, [make(), 1], [1, make()])),
    "arguments in tuples": lambda e, make: list(
        e.starmap(first, [(make(), 1), (1, make())])
    ),
    "items in a window": lambda e, make: list(
        e.map(kind_of, (make() for _ in range(5)), buffersize=2)
    ),
    "function of a map": lambda e, make: list(
        e.map(functools.partial(first, make()), range(3))
    ),
    "attempts": lambda e, make: later(
        e.with_options(retries=1), functools.partial(raising, make())
    ),
    "key": lambda e, make: later(e.with_options(key=lambda *x: make()), first, [1]),
    "key of an item": lambda e, make: list(
        e.with_options(key=lambda *x: make()).map(first, [[1], 2])
    ),
    "wait": lambda e, make: mpitasks.wait([e.submit(first, make())], SECONDS),
    "cancelled": lambda e, make: [
        future.cancel() for future in [e.submit(first, make()) for _ in range(5)]
    ],
}


def raising(value: Any) -> Any:
    raise hooks.Own(value)


RESULTS: dict[str, Callable[[Executor, str], Any]] = {
    "result": lambda e, kind: later(e, make_value, kind),
    "part of a result": lambda e, kind: later(e, make_list, kind),
    "results": lambda e, kind: list(e.map(make_value, [kind] * 4)),
    "results in a chunk": lambda e, kind: list(
        e.map(make_list, [kind] * 4, chunksize=4)
    ),
    "results as they come": lambda e, kind: list(
        e.map_unordered(make_value, [kind] * 4)
    ),
    "result that is never asked for": lambda e, kind: (
        e.submit(make_value, kind),
        later(e, double, 2),
    ),
}


def ignored(future: Any) -> None:
    future.add_done_callback(lambda done: None)
    assert future.exception(SECONDS) is not None


FAILURES: dict[str, Callable[[Executor, str], Any]] = {
    "exception": lambda e, kind: later(e, fail, kind),
    "cause of an exception": lambda e, kind: later(e, fail_beyond, kind),
    "exception of an item": lambda e, kind: list(e.map(fail, [kind] * 3)),
    "exceptions as values": lambda e, kind: list(
        e.map(fail, [kind] * 3, return_exceptions=True, chunksize=3)
    ),
    "first exception": lambda e, kind: list(e.map(fail, [kind] * 3, fail_fast=True)),
    "exceptions beyond the limit": lambda e, kind: list(
        e.map(fail, [kind] * 5, max_failures=1, return_exceptions=True)
    ),
    "exception of attempts": lambda e, kind: later(
        e.with_options(retries=1), fail, kind
    ),
    "exceptions of attempts in a map": lambda e, kind: list(
        e.with_options(retries=1).map(fail, [kind] * 3)
    ),
    "exception that is watched": lambda e, kind: ignored(e.submit(fail, kind)),
    "exception that nobody asks for": lambda e, kind: (
        e.with_options(retries=1).submit(fail, kind),
        later(e, double, 2),
    ),
    "exception of the block": lambda e, kind: block(e, kind),
}


def block(executor: Executor, kind: str) -> None:
    with mpitasks.Executor() as another:
        another.submit(double, 1)
        fail(kind)


def attempt(
    opening: Open, executor: Executor, act: Act, name: str, use: Callable[[], Any]
) -> Executor:
    """Do what a user does, and see whether all is well afterwards."""
    FIRED.clear()
    sent = act.sent if isinstance(act, Interrupt) else 0
    raised: BaseException | None = None
    try:
        with armed(act, executor):
            use()
    except BaseException as error:
        raised = error
    if isinstance(act, Interrupt) and act.sent > sent:
        if not isinstance(raised, KeyboardInterrupt):
            FAULTS.append(f"Ctrl-C in {sorted(FIRED)} ends in {raised!r}")
    elif raised is not None and not expected(raised, act):
        FAULTS.append(f"{sorted(FIRED)} end in {raised!r}")
    del raised
    try:
        assert executor.submit(double, 2).result(SECONDS) == 4
        assert list(executor.map(double, range(3))) == [0, 2, 4]
    except ExecutorClosedError:
        executor = opening()
        assert executor.submit(double, 2).result(SECONDS) == 4
    assert not FAULTS, f"{name}: {FAULTS}"
    return executor


def expected(error: BaseException, act: Act) -> bool:
    """Whether a script may be shown an exception."""
    kinds = (
        *act.expected,
        mpitasks.SerializationError,
        mpitasks.RemoteError,
        mpitasks.TooManyFailures,
        hooks.Own,
        TypeError,  # some values cannot be what they are used as
        OptionError,
    )
    closed = isinstance(error, ExecutorClosedError) and getattr(act, "refused", ())
    made = type(error).__name__ in SHOWN
    return bool(closed or made or isinstance(error, kinds))


SHOWN = {
    "Raised",
    "Asked",
    "Properties",
    "ReducedError",
    "ClassedError",
    "ValueError",
    "InitializerError",
    "CancelledError",
}
"""The names of others: to look at their classes would fire hooks."""


RECORDED = {
    "argument",
    "key of a dictionary",
    "partial",
    "items in chunks",
    "arguments in tuples",
    "key",
    "key of an item",
    "results",
}
"""Where a journal looks at objects; the other places take it long."""


@pytest.mark.parametrize(
    "opening", [False, pytest.param(True, marks=pytest.mark.slow)], indirect=True
)
@pytest.mark.parametrize("act", ACTS)
def test_objects_of_users(opening: Open, act: str) -> None:
    travel(opening, ACTS[act](), {*PLACES, *RESULTS})


@pytest.mark.parametrize("opening", [True], indirect=True)
@pytest.mark.parametrize("act", ACTS)
def test_objects_of_users_in_a_journal(opening: Open, act: str) -> None:
    travel(opening, ACTS[act](), RECORDED)


def travel(opening: Open, act: Act, places: set[str]) -> None:
    """Send every object to each of these places."""
    executor = opening()
    for kind, make in VALUES.items():
        uses = {name: functools.partial(use, make=make) for name, use in PLACES.items()}
        for name, give in RESULTS.items():
            uses[name] = functools.partial(give, kind=kind)
        for name in uses:
            if name in places:
                call = functools.partial(uses[name], executor)
                executor = attempt(opening, executor, act, f"{kind}, {name}", call)


@pytest.mark.parametrize("act", ACTS)
def test_exceptions_of_users(opening: Open, act: str) -> None:
    executor = opening()
    does = ACTS[act]()
    for kind in ERRORS:
        for place, use in FAILURES.items():
            call = functools.partial(use, executor, kind)
            executor = attempt(opening, executor, does, f"{kind}, {place}", call)


def handled(executor: Executor) -> None:
    """Have a handler of log records run on rank 0."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            fire("emit")

    logger = logging.getLogger("hooks")
    handler = Handler()
    logger.addHandler(handler)
    try:
        with mpitasks.Executor(logging=True) as another:
            later(another, warn)
    finally:
        logger.removeHandler(handler)


def warn() -> None:
    logging.getLogger("hooks").warning("%s", "a warning")


def called_back(executor: Executor) -> None:
    future = executor.submit(double, [1])
    future.add_done_callback(hooks.Called())
    assert future.result(SECONDS) == [1, 1]
    with suppress(Exception):  # as the standard library does, at once
        future.add_done_callback(hooks.Called())


def opened_with(executor: Executor, **options: Any) -> None:
    with mpitasks.Executor(**options) as another:
        later(another, double, 2)


def raises_other(executor: Executor) -> None:
    """Have a failure looked at while the result of another call is waited for."""
    other = executor.with_options(retries=1, retry_on=hooks.Retried)
    failed = other.submit(fail, "classed")
    later(executor, double, 2)
    assert failed.exception(SECONDS) is not None


USES: dict[str, Callable[[Executor], Any]] = {
    "iterator": lambda e: list(e.map(double, hooks.Iterated())),
    "iterators": lambda e: list(e.map(kind_of, hooks.Iterated(), hooks.Iterated())),
    "iterator as wanted": lambda e: list(e.map_unordered(double, hooks.Iterated())),
    "iterator of a window": lambda e: list(
        e.map(double, hooks.Iterated(), buffersize=1)
    ),
    "iterator of tuples": lambda e: list(
        e.starmap(kind_of, [hooks.Iterated(), hooks.Iterated()])
    ),
    "iterator dropped": lambda e: next(e.map(double, hooks.Iterated())),
    "max_workers": lambda e: opened_with(e, max_workers=hooks.Count()),
    "seed": lambda e: opened_with(e, seed=hooks.Count()),
    "initializer": lambda e: opened_with(e, initializer=hooks.Called()),
    "initargs": lambda e: opened_with(
        e, initializer=kind_of, initargs=(Reduced(), hooks.SetState(), Text("a"))
    ),
    "timeout of a result": lambda e: e.submit(double, 2).result(hooks.Count(20)),  # type: ignore[arg-type]
    "timeout of a map": lambda e: list(
        e.map(double, range(3), timeout=hooks.Count(20))  # type: ignore[arg-type]
    ),
    "timeout of wait": lambda e: mpitasks.wait(
        [e.submit(double, 2)],
        hooks.Count(20),  # type: ignore[arg-type]
    ),
    "timeout of as_completed": lambda e: list(
        mpitasks.as_completed([e.submit(double, 2)], Number(20))
    ),
    "numbers of a map": lambda e: list(
        e.map(double, range(3), chunksize=hooks.Count(), buffersize=hooks.Count())  # type: ignore[arg-type]
    ),
    "options": lambda e: later(
        e.with_options(
            priority=hooks.Count(),
            retries=Number(1),
            retry_delay=hooks.Count(0),
            timeout=hooks.Count(20),
            label=Text("label"),
        ),
        double,
        2,
    ),
    "options of a failure": lambda e: later(
        e.with_options(retries=Number(1), retry_delay=Number(0), label=Text("label")),
        fail,
        "raised",
    ),
    "retry_on": lambda e: later(
        e.with_options(retries=1, retry_on=hooks.Retried), fail, "holding"
    ),
    "retry_on of a map": lambda e: list(
        e.map(fail, ["holding"] * 3, retries=1, retry_on=hooks.Retried)
    ),
    "retry_on of another": raises_other,
    "key": lambda e: later(e.with_options(key=Text("key")), double, 2),
    "number for a key": lambda e: later(e.with_options(key=Number(5)), double, 2),
    "index for a key": lambda e: later(e.with_options(key=hooks.Count()), double, 2),
    "function for keys": lambda e: list(
        e.with_options(key=hooks.Called()).map(double, [1, [2]])
    ),
    "callback": called_back,
    "handler of logs": handled,
    "futures": lambda e: mpitasks.wait(hooks.Iterated(0), 1.0),
    "return_when": lambda e: mpitasks.wait(
        [e.submit(double, 2)], SECONDS, Text("ALL_COMPLETED")
    ),
    "names of arguments": lambda e: later(e, kind_of, **{Text("name"): 1}),
    "callable": lambda e: later(e, hooks.Called(), 1),
    "callable of a map": lambda e: list(e.map(hooks.Called(), range(3))),
}


@pytest.mark.parametrize("act", ACTS)
def test_what_is_no_value(opening: Open, act: str, tmp_path: Path) -> None:
    executor = opening()
    does = ACTS[act]()
    for name, use in USES.items():
        executor = attempt(
            opening, executor, does, name, functools.partial(use, executor)
        )
    for number in range(2):
        path = hooks.Path(tmp_path / f"own{number}.db")
        use = functools.partial(opened_with, executor, journal=path)
        executor = attempt(opening, executor, does, "path of a journal", use)


# Finalizers run where the garbage collector happens to come by: so under a lock, too.


def once(use: Callable[[], Any], said: list[Any]) -> Callable[..., None]:
    """Return what does something at its first call, and notes what was raised."""

    def finalize(*args: Any) -> None:
        if said:
            return
        said.append(None)
        try:
            use()
        except BaseException as error:
            said.append(error)

    return finalize


IN_FINALIZERS: dict[str, tuple[Callable[[Executor], Any], bool]] = {
    "submit": (lambda e: e.submit(double, [1]), True),
    "cancel": (lambda e: e.submit(double, 1).cancel(), True),
    "shutdown": (lambda e: e.shutdown(wait=False), True),
    "shutdown cancelling": (
        lambda e: e.shutdown(wait=False, cancel_futures=True),
        True,
    ),
    "result": (lambda e: e.submit(double, [2]).result(SECONDS), False),
    "map": (lambda e: list(e.map(double, [1, 2])), False),
    "wait": (lambda e: mpitasks.wait([e.submit(double, 1)], SECONDS), False),
    "shutdown and wait": (lambda e: e.shutdown(), False),
    "another": (opened_with, False),
}
"""What a finalizer does, and whether it may in the middle of a turn."""


@pytest.mark.parametrize("driver", [False, True], ids=["in a turn", "between turns"])
@pytest.mark.parametrize("name", IN_FINALIZERS)
def test_finalizers_in_turns(
    opening: Open, monkeypatch: pytest.MonkeyPatch, name: str, driver: bool
) -> None:
    executor = opening()
    use, allowed = IN_FINALIZERS[name]
    event_loop = executor._handle.event_loop
    said: list[Any] = []
    finalize = once(functools.partial(use, executor), said)
    if driver:
        wait = event_loop._transport.wait

        def waiting(seconds: float) -> None:
            finalize()
            wait(seconds)

        monkeypatch.setattr(event_loop._transport, "wait", waiting)
    else:
        event_loop.engine.listen(finalize)
    assert executor.submit(slow, 2).result(SECONDS) == 4
    assert said
    if allowed:
        assert said == [None]
    else:
        with pytest.raises(ConfigurationError, match="finalizer"):
            raise said[1]
    again = opening() if executor._handle.closed else executor
    assert list(again.map(double, range(3))) == [0, 2, 4]
    assert not FAULTS


def slow(x: int) -> int:
    time.sleep(0.05)
    return x * 2


@pytest.mark.parametrize("name", ["submit", "result", "map", "cancel"])
def test_finalizers_in_a_journal(
    opening: Open, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    executor = opening()
    journal = executor._handle.journal
    if journal is None:
        pytest.skip("there is no journal")
    said: list[Any] = []
    finalize = once(functools.partial(IN_FINALIZERS[name][0], executor), said)
    number = journal._keys.number

    def numbered(key: bytes) -> bytes:
        finalize()
        return number(key)

    monkeypatch.setattr(journal._keys, "number", numbered)
    assert executor.submit(slow, 2).result(SECONDS) == 4
    assert said == [None]
    assert not FAULTS
