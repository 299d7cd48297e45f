"""The errors of isolated tasks: who, where, what happened, and what to try."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from mpitasks.errors import TaskCrashed, TaskMemoryExceeded, TaskTimeout

if TYPE_CHECKING:
    from mpitasks.worker.children import Ending
    from mpitasks.worker.order import Order

__all__ = ["Blame"]


class Blame:
    """Writes the errors of one rank.

    Args:
        rank: The rank's number.
        host: Its host.
    """

    def __init__(self, rank: int, host: str) -> None:
        self._rank = rank
        self._host = host

    def crash(self, order: Order, ending: Ending) -> TaskCrashed:
        """Return the error of a task that took its process with it."""
        return self._crashed(order, f"{_task(order)} {_fate(ending)}", ending)

    def stillborn(self, order: Order, ending: Ending) -> TaskCrashed:
        """Return the error of a task whose function cannot even be loaded."""
        what = f"loading the function of {_task(order)} {_fate(ending)}, several times"
        return self._crashed(order, what, ending)

    def overdue(self, order: Order) -> TaskTimeout:
        """Return the error of a task that ran for too long."""
        return TaskTimeout(
            f"{_task(order)} took longer than its timeout of {order.timeout:g} s on "
            f"{self._place()}, and its process was killed"
        )

    def overflow(self, resident: int, order: Order) -> TaskMemoryExceeded:
        """Return the error of a task that took too much memory."""
        limit = order.memory_limit
        assert limit is not None
        error = TaskMemoryExceeded(
            f"{_task(order)} held {_size(resident)} of memory on {self._place()}, more "
            f"than its memory_limit of {_size(limit)}, and its process was killed"
        )
        error.resident, error.limit = resident, limit
        error.rank, error.host, error.label = self._rank, self._host, order.label
        return error

    def _crashed(self, order: Order, what: str, ending: Ending) -> TaskCrashed:
        error = TaskCrashed(f"{what} on {self._place()}")
        error.signal, error.exit_code = ending.signal, ending.exit_code
        error.rank, error.host, error.label = self._rank, self._host, order.label
        return error

    def _place(self) -> str:
        return f"rank {self._rank} ({self._host})"


def _task(order: Order) -> str:
    return "the task" if order.label is None else f"the task {order.label!r}"


def _fate(ending: Ending) -> str:
    if ending.signal is None and ending.exit_code is None:
        return "lost its process, nobody saw how,"
    if ending.signal is None:
        return f"ended its process with exit code {ending.exit_code}"
    if ending.signal == signal.SIGKILL:
        return (
            f"was killed by SIGKILL, from outside or for want of memory (it had held "
            f"up to {_size(ending.peak)}),"
        )
    return f"crashed with {_name(ending.signal)}"


def _name(number: int) -> str:
    try:
        known = signal.Signals(number)
    except ValueError:
        return f"signal {number}"
    text = signal.strsignal(number)
    return f"{known.name} ({text})" if text else known.name


def _size(nbytes: int) -> str:
    if nbytes >= 10**9:
        return f"{nbytes / 1e9:.3g} GB"
    return f"{nbytes / 1e6:.3g} MB"
