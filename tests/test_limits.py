"""A time limit ends Python code, in any thread, and leaves the rest alone."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from mpitasks.errors import TaskTimeout
from mpitasks.runner.limits import Limited


def _in_main(call: Callable[[], Any]) -> Any:
    return call()


def _in_thread(call: Callable[[], Any]) -> Any:
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((call(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(120.0)
    assert not thread.is_alive()
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


WHERE = pytest.mark.parametrize("where", [_in_main, _in_thread])


def spin() -> None:
    while True:
        pass


def stubborn() -> None:
    """Swallows the first exception that it gets."""
    try:
        spin()
    except TaskTimeout:
        spin()


@WHERE
@pytest.mark.parametrize("function", [spin, stubborn])
def test_it_ends_a_loop(where: Any, function: Any) -> None:
    with pytest.raises(TaskTimeout, match=r"^the task took longer than its limit of"):
        where(lambda: Limited(function, 0.02)())


def test_it_ends_a_sleep() -> None:
    with pytest.raises(TaskTimeout):
        Limited(time.sleep, 0.02)(60.0)


@WHERE
def test_it_returns_and_raises_what_the_function_does(where: Any) -> None:
    assert where(lambda: Limited(divmod, 30.0)(7, 2)) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        where(lambda: Limited(divmod, 30.0)(7, 0))
    assert where(lambda: Limited(dict, 30.0)(a=1)) == {"a": 1}


@WHERE
def test_nothing_is_raised_after_the_end(where: Any) -> None:
    """The limit passes about when the function ends: it is over, or it is not."""

    def body() -> tuple[int, int]:
        ended = late = 0
        for at in range(400):
            limited = Limited(time.sleep, 1e-4 if at % 2 else 1e-6)
            try:
                limited(1e-4)
                ended += 1
            except TaskTimeout:
                late += 1
        return ended, late

    assert sum(where(body)) == 400
    names = [thread.name for thread in threading.enumerate()]
    assert "mpitasks-limit" not in names  # it would raise in whoever comes next


def test_the_alarm_is_given_back() -> None:
    def own(number: int, frame: Any) -> None:
        """Never called."""

    before = signal.signal(signal.SIGALRM, own)
    try:
        Limited(int, 30.0)()
        assert signal.getsignal(signal.SIGALRM) is own
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.signal(signal.SIGALRM, before)
