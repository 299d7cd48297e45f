"""Objects whose every hook looks at our locks, and then does what a test wants.

A lock that our code makes while `watched` holds knows which thread holds it. So each
hook can tell whether its own thread holds one, and which. What a hook does then is an
`Act`: nothing, raise something, or call back into the executor.
"""

from __future__ import annotations

import _thread
import gc
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import mpitasks
from mpitasks.api import session
from mpitasks.api.executor import Executor
from mpitasks.errors import ConfigurationError, ExecutorClosedError
from mpitasks.master import future

SECONDS = 20.0

LOCKS: list[tuple[str, Callable[[], bool]]] = []
"""Our locks: where each was made, and whether this thread holds it."""

FAULTS: list[str] = []
"""What must not be and was."""

FIRED: Counter[str] = Counter()
"""The hooks that were called since a test looked last, and how often."""

CALLS = 1
"""A hook calls back so often; an object may be asked for the same hundreds of times."""

ASLEEP = {"mpitasks.wire.wakeup"}
"""Where a lock is a bed: a thread that waits for it is woken by another's release."""


class State:
    """What hooks do now.

    Attributes:
        armed: Whether they do anything.
        act: What.
        executor: Whom they call back.
        worker: The thread that runs tasks.
    """

    armed = False
    act: Act
    executor: Executor
    worker = 0


STATE = State()
_inside = threading.local()
_collecting: list[int] = []


class OwnedLock:
    """A lock that knows its owner."""

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._owner = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if blocking and timeout < 0 and self.mine():
            FAULTS.append("a thread waits for a lock that it holds")
            raise RuntimeError("deadlock")
        taken = self._lock.acquire(blocking, timeout)
        if taken:
            self._owner = threading.get_ident()
        return taken

    def release(self) -> None:
        self._owner = 0
        self._lock.release()

    def locked(self) -> bool:
        return self._lock.locked()

    def mine(self) -> bool:
        return self._owner == threading.get_ident()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


def _note_collection(phase: str, info: object) -> None:
    """Know which thread runs finalizers."""
    if phase == "start":
        _collecting.append(threading.get_ident())
    else:
        _collecting.clear()


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have every lock that our code makes from now on know its owner."""
    plain, reentrant = threading.Lock, threading.RLock
    condition = threading.Condition

    def made_by() -> str:
        return str(sys._getframe(2).f_globals.get("__name__"))

    def make_lock() -> Any:
        where = made_by()
        if not where.startswith("mpitasks.") or where in ASLEEP:
            return plain()
        lock = OwnedLock()
        LOCKS.append((where, lock.mine))
        return lock

    def make_rlock() -> Any:
        where = made_by()
        made = reentrant()
        if where.startswith("mpitasks."):
            LOCKS.append((where, made._is_owned))  # type: ignore[attr-defined]
        return made

    def make_condition(*args: Any) -> Any:
        where = made_by()
        made = condition(*args)
        if where.startswith("mpitasks."):
            LOCKS.append((where, made._is_owned))  # type: ignore[attr-defined]
        return made

    LOCKS[:] = [("mpitasks.master.future", future._gate._is_owned)]  # type: ignore[attr-defined]
    FAULTS.clear()
    FIRED.clear()
    lock = OwnedLock()
    monkeypatch.setattr(session, "_lock", lock)
    LOCKS.append(("mpitasks.api.session", lock.mine))
    monkeypatch.setattr(threading, "Lock", make_lock)
    monkeypatch.setattr(threading, "RLock", make_rlock)
    monkeypatch.setattr(threading, "Condition", make_condition)
    gc.callbacks.append(_note_collection)
    yield
    gc.callbacks.remove(_note_collection)


class armed:
    """Have hooks do something while this holds.

    A generator of `contextlib` would set attributes of the exceptions that pass it.
    """

    def __init__(self, act: Act, executor: Executor) -> None:
        STATE.act, STATE.executor = act, executor

    def __enter__(self) -> None:
        STATE.armed = True

    def __exit__(self, *error: object) -> None:
        STATE.armed = False


def fire(hook: str, *, raises: bool = True) -> None:
    """Do what a hook is to do.

    Args:
        hook: Which it is.
        raises: Whether it may raise; what a finalizer raises, Python prints.
    """
    if not STATE.armed or getattr(_inside, "now", False):
        return
    in_task = threading.get_ident() == STATE.worker
    name = f"{hook} in the {'worker' if in_task else 'script'}"
    FIRED[name] += 1
    held = [where for where, mine in LOCKS if mine()]
    collected = threading.get_ident() in _collecting
    if held and not collected:  # nobody can say when the garbage collector runs
        FAULTS.append(f"{hook} runs under the locks of {held}")
    if FIRED[name] <= CALLS:
        _inside.now = True
        try:
            STATE.act.call(in_task, collected)
        finally:
            _inside.now = False
    STATE.act.throw(in_task, raises)


class Act:
    """What a hook does: nothing.

    Attributes:
        expected: What the script may see of it, but for a `SerializationError`.
    """

    expected: tuple[type[BaseException], ...] = ()

    def call(self, in_task: bool, collected: bool) -> None:
        """Call back into the executor."""

    def throw(self, in_task: bool, raises: bool) -> None:
        """Raise something."""


class Raise(Act):
    """Raise an exception of a class."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind
        self.expected = (kind,)

    def throw(self, in_task: bool, raises: bool) -> None:
        if raises:
            raise self.kind("of a hook")


class Interrupted(BaseException):
    """What the script's own handler of Ctrl-C makes of it."""


class Interrupt(Act):
    """Be interrupted by Ctrl-C, which is the script's."""

    expected = (KeyboardInterrupt,)

    def __init__(self) -> None:
        self.sent = 0

    def throw(self, in_task: bool, raises: bool) -> None:
        if threading.current_thread() is threading.main_thread():
            self.sent += raises
            if raises:
                signal.raise_signal(signal.SIGINT)


class CallBack(Act):
    """Use the executor."""

    def __init__(self, use: Callable[[Executor], Any], *refused: Any) -> None:
        self.use = use
        self.refused = refused

    def call(self, in_task: bool, collected: bool) -> None:
        if in_task:
            return  # where the executor is not: it cannot be sent
        try:
            self.use(STATE.executor)
        except self.refused:
            return
        except BaseException as error:
            refused = collected and isinstance(error, ConfigurationError)
            if not refused:
                FAULTS.append(f"calling back raises {error!r}")


def double(x: Any) -> Any:
    return x * 2


def _submit(executor: Executor) -> None:
    executor.submit(double, 1)


def _result(executor: Executor) -> None:
    assert executor.submit(double, 4).result(SECONDS) == 8


def _map(executor: Executor) -> None:
    assert list(executor.map(double, range(3))) == [0, 2, 4]
    assert list(executor.map(double, [[1]])) == [[1, 1]]


def _cancel(executor: Executor) -> None:
    future = executor.submit(double, 1)
    assert future.cancel() or future.result(SECONDS) == 2


def _wait(executor: Executor) -> None:
    future = executor.submit(double, 1)
    mpitasks.wait([future], SECONDS)
    assert next(iter(mpitasks.as_completed([future]))).result() == 2


def _callback(executor: Executor) -> None:
    future = executor.submit(double, [1])
    future.add_done_callback(lambda done: None)
    assert future.result(SECONDS) == [1, 1]


def _shutdown(executor: Executor) -> None:
    executor.shutdown(wait=False)


def _shutdown_cancelling(executor: Executor) -> None:
    executor.shutdown(wait=False, cancel_futures=True)


def _another(executor: Executor) -> None:
    with mpitasks.Executor() as another:
        assert another.submit(double, 2).result(SECONDS) == 4


class Own(Exception):
    """An exception of the user's own."""


ACTS: dict[str, Callable[[], Act]] = {
    "look": Act,
    "Exception": lambda: Raise(Own),
    "SystemExit": lambda: Raise(SystemExit),
    "KeyboardInterrupt": lambda: Raise(KeyboardInterrupt),
    "RecursionError": lambda: Raise(RecursionError),
    "MemoryError": lambda: Raise(MemoryError),
    "AttributeError": lambda: Raise(AttributeError),
    "TypeError": lambda: Raise(TypeError),
    "Ctrl-C": Interrupt,
    "submit": lambda: CallBack(_submit),
    "result": lambda: CallBack(_result),
    "map": lambda: CallBack(_map),
    "cancel": lambda: CallBack(_cancel),
    "wait": lambda: CallBack(_wait),
    "callback": lambda: CallBack(_callback),
    "another": lambda: CallBack(_another),
    "shutdown": lambda: CallBack(_shutdown, ExecutorClosedError),
    "shutdown cancelling": lambda: CallBack(_shutdown_cancelling, ExecutorClosedError),
}


# Objects of users.


def remade(*parts: Any) -> Any:
    """Make an object again that was pickled."""
    fire("rebuilding")
    return "remade"


class Plain:
    """Nothing but finalized."""


class Reduced:
    def __reduce__(self) -> Any:
        fire("__reduce__")
        return Plain, ()


class ReducedEx:
    def __reduce_ex__(self, protocol: Any) -> Any:
        fire("__reduce_ex__")
        return Plain, ()


class Rebuilt:
    def __reduce__(self) -> Any:
        return remade, ()


class GetState:
    def __getstate__(self) -> Any:
        fire("__getstate__")
        return {"state": 1}


class SetState:
    def __getstate__(self) -> Any:
        return {"state": 1}

    def __setstate__(self, state: Any) -> None:
        fire("__setstate__")


class NewArgs:
    def __getnewargs_ex__(self) -> Any:
        fire("__getnewargs_ex__")
        return (), {}


class Finalized:
    def __del__(self) -> None:
        fire("__del__", raises=False)


class Cyclic(Finalized):
    def __init__(self) -> None:
        self.own = self


class Compared:
    """Everything that Python asks of an object but to be pickled."""

    def __eq__(self, other: object) -> bool:
        fire("__eq__")
        return self is other

    def __hash__(self) -> int:
        fire("__hash__")
        return 1

    def __lt__(self, other: object) -> bool:
        fire("__lt__")
        return False

    def __bool__(self) -> bool:
        fire("__bool__")
        return True

    def __len__(self) -> int:
        fire("__len__")
        return 3

    def __iter__(self) -> Any:
        fire("__iter__")
        return iter(())

    def __contains__(self, value: object) -> bool:
        fire("__contains__")
        return False

    def __getitem__(self, key: Any) -> Any:
        fire("__getitem__")
        raise IndexError

    def __index__(self) -> int:
        fire("__index__")
        return 1

    def __float__(self) -> float:
        fire("__float__")
        return 1.0

    def __repr__(self) -> str:
        fire("__repr__")
        return "Compared()"

    def __str__(self) -> str:
        fire("__str__")
        return "compared"

    def __format__(self, spec: str) -> str:
        fire("__format__")
        return "compared"

    def __sizeof__(self) -> int:
        fire("__sizeof__")
        return 8

    def __call__(self, *args: Any) -> Any:
        return "called"

    def __getattr__(self, name: str) -> Any:
        fire("__getattr__")
        raise AttributeError(name)

    @property
    def nbytes(self) -> int:
        fire("nbytes")
        return 1 << 30

    @property
    def dtype(self) -> Any:
        fire("dtype")
        return np.dtype(float)

    @property
    def __array_interface__(self) -> Any:
        fire("__array_interface__")
        raise AttributeError

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        fire("__array__")
        return np.zeros(1)

    def __buffer__(self, flags: int) -> Any:
        fire("__buffer__")
        return memoryview(b"buffer")


class Attributed:
    """Whose attributes are all computed."""

    def __getattribute__(self, name: str) -> Any:
        fire("__getattribute__")
        return super().__getattribute__(name)


class ClassLiar:
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        fire("__class__")
        return dict


class Meta(type):
    """A class that is asked, too."""

    def __hash__(cls) -> int:
        fire("type.__hash__")
        return 1

    def __eq__(cls, other: object) -> bool:
        fire("type.__eq__")
        return cls is other

    def __instancecheck__(cls, instance: Any) -> bool:
        fire("type.__instancecheck__")
        return super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: Any) -> bool:
        fire("type.__subclasscheck__")
        return super().__subclasscheck__(subclass)

    def __getattr__(cls, name: str) -> Any:
        fire("type.__getattr__")
        raise AttributeError(name)

    def __repr__(cls) -> str:
        fire("type.__repr__")
        return "a class"

    def __bool__(cls) -> bool:
        fire("type.__bool__")
        return True


class Classed(metaclass=Meta):
    pass


class Large(np.ndarray):  # type: ignore[type-arg]
    """An array whose memory travels on its own."""

    def __array_finalize__(self, other: Any) -> None:
        fire("__array_finalize__")

    def __reduce_ex__(self, protocol: Any) -> Any:
        fire("__reduce_ex__")
        return super().__reduce_ex__(protocol)

    def __setstate__(self, state: Any) -> None:
        fire("__setstate__")
        super().__setstate__(state)

    def __eq__(self, other: Any) -> Any:
        fire("__eq__")
        return super().__eq__(other)

    def __len__(self) -> int:
        fire("__len__")
        return super().__len__()

    def __del__(self) -> None:
        fire("__del__", raises=False)


def large() -> Any:
    return np.zeros(100_000).view(Large)


class Text(str):
    """Text of a class of the user's."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        fire("str.__eq__")
        return super().__eq__(other)

    def __hash__(self) -> int:
        fire("str.__hash__")
        return super().__hash__()

    def __len__(self) -> int:
        fire("str.__len__")
        return super().__len__()

    def __str__(self) -> str:
        fire("str.__str__")
        return super().__str__()

    def __repr__(self) -> str:
        fire("str.__repr__")
        return super().__repr__()

    def __format__(self, spec: str) -> str:
        fire("str.__format__")
        return super().__format__(spec)

    def encode(self, *args: Any) -> bytes:
        fire("str.encode")
        return super().encode(*args)


class Number(int):
    """A number of a class of the user's."""

    def __eq__(self, other: object) -> bool:
        fire("int.__eq__")
        return super().__eq__(other)

    def __hash__(self) -> int:
        fire("int.__hash__")
        return super().__hash__()

    def __index__(self) -> int:
        fire("int.__index__")
        return super().__index__()

    def __float__(self) -> float:
        fire("int.__float__")
        return super().__float__()

    def __lt__(self, other: Any) -> bool:
        fire("int.__lt__")
        return super().__lt__(other)

    def __repr__(self) -> str:
        fire("int.__repr__")
        return super().__repr__()


class Mapping(dict):  # type: ignore[type-arg]
    """A container of the user's."""

    def __iter__(self) -> Any:
        fire("dict.__iter__")
        return super().__iter__()

    def __len__(self) -> int:
        fire("dict.__len__")
        return super().__len__()

    def items(self) -> Any:
        fire("dict.items")
        return super().items()


VALUES: dict[str, Callable[[], Any]] = {
    "reduce": Reduced,
    "reduce_ex": ReducedEx,
    "rebuilt": Rebuilt,
    "getstate": GetState,
    "setstate": SetState,
    "newargs": NewArgs,
    "finalized": Finalized,
    "cyclic": Cyclic,
    "compared": Compared,
    "attributed": Attributed,
    "class liar": ClassLiar,
    "classed": Classed,
    "a class": lambda: Classed,
    "large": large,
    "text": lambda: Text("text"),
    "number": lambda: Number(3),
    "mapping": lambda: Mapping(a=1),
}


# Exceptions of users.


class Raised(Exception):
    """An exception all of whose hooks fire."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        fire("error.__init__")

    def __str__(self) -> str:
        fire("error.__str__")
        return "raised"

    def __repr__(self) -> str:
        fire("error.__repr__")
        return "Raised()"

    def __eq__(self, other: object) -> bool:
        fire("error.__eq__")
        return self is other

    def __hash__(self) -> int:
        fire("error.__hash__")
        return 1

    def __bool__(self) -> bool:
        fire("error.__bool__")
        return True

    def __len__(self) -> int:
        fire("error.__len__")
        return 1

    def __setattr__(self, name: str, value: Any) -> None:
        fire("error.__setattr__")
        super().__setattr__(name, value)

    def __del__(self) -> None:
        fire("error.__del__", raises=False)


class Asked(Exception):
    """An exception whose attributes are computed."""

    def __getattribute__(self, name: str) -> Any:
        fire("error.__getattribute__")
        return super().__getattribute__(name)


class Properties(Exception):
    """An exception with properties in the place of what every exception has."""

    @property
    def args(self) -> Any:  # type: ignore[override]
        fire("error.args")
        return ("args",)

    @property
    def __traceback__(self) -> Any:  # type: ignore[override]
        fire("error.__traceback__")
        return None

    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        fire("error.__cause__")
        return None

    @property
    def __context__(self) -> Any:  # type: ignore[override]
        fire("error.__context__")
        return None

    @property
    def __notes__(self) -> Any:  # type: ignore[override]
        fire("error.__notes__")
        return ["a note"]

    @property
    def __suppress_context__(self) -> Any:  # type: ignore[override]
        fire("error.__suppress_context__")
        return False


class ReducedError(Exception):
    def __reduce__(self) -> Any:
        fire("error.__reduce__")
        return ReducedError, ()

    def __setstate__(self, state: Any) -> None:
        fire("error.__setstate__")


class ClassedError(Exception, metaclass=Meta):
    pass


ERRORS: dict[str, Callable[[], BaseException]] = {
    "raised": lambda: Raised("text"),
    "holding": lambda: Own(Reduced(), Finalized(), Compared(), SetState(), Classed()),
    "asked": Asked,
    "properties": Properties,
    "reduced": ReducedError,
    "classed": ClassedError,
}


# What is no value of a task.


class Iterated:
    """What a map iterates over."""

    def __init__(self, count: int = 3) -> None:
        self._left = count

    def __iter__(self) -> Any:
        fire("iter")
        return self

    def __next__(self) -> Any:
        fire("next")
        if not self._left:
            raise StopIteration
        self._left -= 1
        return self._left

    def __len__(self) -> int:
        fire("len")
        return self._left

    def __length_hint__(self) -> int:
        fire("length_hint")
        return self._left


class Count:
    """What serves as an integer, and as a number of seconds."""

    def __init__(self, value: int = 2) -> None:
        self._value = value

    def __index__(self) -> int:
        fire("__index__")
        return self._value

    def __float__(self) -> float:
        fire("__float__")
        return float(self._value)

    def __repr__(self) -> str:
        fire("__repr__")
        return "Count()"


class Path:
    """What serves as the name of a file."""

    def __init__(self, path: Any) -> None:
        self._path = str(path)

    def __fspath__(self) -> str:
        fire("__fspath__")
        return self._path


class Retried(Exception, metaclass=Meta):
    """A class of exceptions that is asked which are its own."""


class Called:
    """A callable that is asked for everything."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        fire("__call__")

    def __eq__(self, other: object) -> bool:
        fire("callable.__eq__")
        return self is other

    def __hash__(self) -> int:
        fire("callable.__hash__")
        return 1

    def __repr__(self) -> str:
        fire("callable.__repr__")
        return "Called()"

    def __bool__(self) -> bool:
        fire("callable.__bool__")
        return True

    def __getattr__(self, name: str) -> Any:
        fire("callable.__getattr__")
        raise AttributeError(name)
