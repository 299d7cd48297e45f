"""Exceptions arrive as what they were, made without their own `__init__`."""

from __future__ import annotations

import copyreg
import dataclasses
import json
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from mpitasks.errors import RemoteError, Stopped
from mpitasks.wire import codec
from mpitasks.wire.diagnose import describe
from mpitasks.wire.exceptions import TBLIB, carried
from mpitasks.wire.interrupts import interrupts


def _again(error: BaseException) -> Any:
    return pickle.loads(pickle.dumps(carried(error, "named"), 5))


class Busy(Exception):
    def __init__(self, what: str, *, since: int) -> None:
        super().__init__(f"{what} is busy since {since}")
        self.what = what


class NoPath(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(2, "no such thing", path)


class Slotted(ValueError):
    __slots__ = ("__hidden", "code", "unset")

    def __init__(self, code: int, *, hidden: int) -> None:
        self.code = code
        self.__hidden = hidden

    @property
    def hidden(self) -> int:
        return self.__hidden


class SlottedToo(Slotted):
    __slots__ = ("more",)

    def __init__(self) -> None:
        super().__init__(1, hidden=2)
        self.more = 3


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    x: int
    y: int = 3


class BadText(UnicodeDecodeError):
    def __init__(self) -> None:
        super().__init__("utf-8", b"abc", 0, 1, "bad")


class Leaves(SystemExit):
    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(code)
        self.why = why


class NoArgs(Exception):
    def __init__(self, a: int, *, b: int) -> None:
        self.a, self.b = a, b


class OwnNew(Exception):
    def __new__(cls, a: int, *, b: int) -> OwnNew:
        return super().__new__(cls, a)

    def __init__(self, a: int, *, b: int) -> None:
        super().__init__(a)
        self.b = b


class SaysHow(Exception):
    def __init__(self, a: int, *, b: int) -> None:
        super().__init__(a)
        self.b = b

    def __reduce__(self) -> Any:
        return _says_how, (self.args[0], self.b)


def _says_how(a: int, b: int) -> SaysHow:
    error = SaysHow(a, b=b)
    error.said = True  # type: ignore[attr-defined]
    return error


class ChangesArgs(KeyError):
    def __init__(self, key: str, *, table: str) -> None:
        super().__init__(key)
        self.args = (key, table)


ERRORS: list[Callable[[], BaseException]] = [
    lambda: Busy("disk", since=3),
    lambda: NoPath("/x"),
    lambda: Slotted(7, hidden=8),
    SlottedToo,
    lambda: Frozen(1),
    BadText,
    lambda: Leaves(3, why="so"),
    lambda: NoArgs(1, b=2),
    lambda: OwnNew(1, b=2),
    lambda: SaysHow(1, b=2),
    lambda: ChangesArgs("k", table="t"),
    lambda: ImportError("x", name="n", path="p"),
    lambda: StopIteration(4),
    lambda: OSError(2, "a", "b", None, "c"),
    lambda: SyntaxError("bad", ("file", 1, 2, "text")),
    lambda: json.JSONDecodeError("bad", "text", 1),
    lambda: UnicodeEncodeError("utf-8", "abc", 0, 1, "bad"),
    lambda: KeyError(),
    MemoryError,
]

FIELDS = (
    "what filename filename2 errno code hidden more x y start reason why a b "
    "name path value lineno offset msg doc pos"
)


@pytest.mark.parametrize("make", ERRORS)
def test_an_exception_keeps_all_there_is_of_it(make: Any) -> None:
    error = make()
    again = _again(error)
    assert type(again) is type(error)
    assert again.args == error.args
    assert str(again) == str(error)
    for name in FIELDS.split():
        assert getattr(again, name, None) == getattr(error, name, None)


def test_one_that_says_how_is_asked() -> None:
    assert _again(SaysHow(1, b=2)).said


def test_what_it_refers_to_comes_along() -> None:
    def fail() -> None:
        try:
            try:
                raise NoPath("/a")
            except NoPath:
                raise Busy("disk", since=1)  # noqa: B904  a context
        except Busy as busy:
            raise ValueError("x", Busy("arg", since=4)) from busy

    with pytest.raises(ValueError, match="x") as caught:
        fail()
    caught.value.other = Frozen(5)  # type: ignore[attr-defined]
    again = _again(caught.value)
    assert type(again.args[1]) is Busy
    assert again.other.x == 5
    assert again.__cause__.what == "disk"
    assert again.__suppress_context__
    assert again.__cause__.__context__.filename == "/a"
    assert not again.__cause__.__suppress_context__


def test_exceptions_that_refer_to_each_other() -> None:
    first, second = Busy("a", since=1), Busy("b", since=2)
    first.__cause__, second.__cause__ = second, first
    second.other = first  # type: ignore[attr-defined]
    again = _again(first)
    assert again.__cause__.what == "b"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="not there yet")
def test_groups_and_notes() -> None:
    group = ExceptionGroup("g", [Busy("a", since=1), ExceptionGroup("h", [BadText()])])  # noqa: F821
    group.exceptions[0].add_note("note")
    again = _again(group)
    assert again.message == "g"
    assert again.exceptions[0].what == "a"
    assert again.exceptions[0].__notes__ == ["note"]
    assert type(again.exceptions[1].exceptions[0]) is BadText


def test_what_cannot_be_pickled_is_left_out_of_the_chain() -> None:
    error = Busy("a", since=1)
    error.__context__ = ValueError(threading.Lock())
    again = _again(error)
    assert again.what == "a"
    assert again.__context__ is None


def test_an_exception_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(Exception, match="lock"):
        carried(ValueError(threading.Lock()), "named")


_here = True


class OnlyThere(Exception):
    def __init__(self, *, x: int) -> None:
        super().__init__(Arrives())


class Arrives:
    def __reduce__(self) -> Any:
        return _arrive, ()


def _arrive() -> int:
    if not _here:
        raise Panic("not on rank 0")
    return 3


class Panic(BaseException):
    pass


def test_one_that_cannot_be_made_again_on_rank_0_arrives_as_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = pickle.dumps(carried(OnlyThere(x=1), "OnlyThere: so"), 5)
    monkeypatch.setattr(f"{__name__}._here", False)
    again = pickle.loads(frame)
    assert type(again) is RemoteError
    assert "OnlyThere: so [it cannot be unpickled here: Panic: not on rank 0]" in str(
        again
    )


# Interrupts.


def _throw(error: BaseException) -> Any:
    raise error


class Raises:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __getstate__(self) -> Any:
        raise self.error


def _caught(call: Callable[[], Any]) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError


def _sends_sigint() -> None:
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_is_told_from_what_user_code_raises() -> None:
    assert interrupts(_caught(_sends_sigint))
    assert not interrupts(_caught(lambda: _throw(KeyboardInterrupt())))
    assert not interrupts(_caught(lambda: _throw(SystemExit(3))))
    assert not interrupts(_caught(lambda: _throw(Panic())))
    assert interrupts(_caught(lambda: _throw(Stopped())))


def test_a_handler_of_the_script_interrupts_too() -> None:
    def handler(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handler)
    try:
        assert interrupts(_caught(_sends_sigint))
        assert not interrupts(_caught(lambda: _throw(KeyboardInterrupt())))
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_is_never_interrupted() -> None:
    seen: list[bool] = []

    def look() -> None:
        seen.append(interrupts(KeyboardInterrupt()))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [False]


class SendsSigint:
    def __getstate__(self) -> Any:
        signal.raise_signal(signal.SIGINT)
        return {}


def test_ctrl_c_while_something_is_pickled_is_let_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        codec.encode(SendsSigint(), "it")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), Panic("x")])
def test_other_errors_are_those_of_what_is_pickled(error: BaseException) -> None:
    with pytest.raises(codec.SerializationError) as caught:
        codec.encode([Raises(error)], "it")
    assert type(error).__name__ in str(caught.value)
    assert caught.value.__cause__ is error


class Wordless(Exception):
    def __str__(self) -> str:
        raise Panic


def test_an_error_that_panics_when_it_is_described() -> None:
    assert describe(Wordless()) == "Wordless"


def test_what_tblib_registers_for_all_classes_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def pickle_exception(error: BaseException) -> Any:
        return type(error), ()  # which knows none of them

    monkeypatch.setattr(pickle_exception, "__module__", TBLIB)
    for kind in (Busy, StopIteration):
        monkeypatch.setitem(copyreg.dispatch_table, kind, pickle_exception)
    assert _again(Busy("node1", since=3)).what == "node1"
    assert _again(StopIteration(7)).value == 7
