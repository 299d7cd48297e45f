"""The errors of isolated tasks: who, where, what happened, and what to try."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from mpitasks.errors import TaskCrashed, TaskMemoryExceeded, TaskTimeout

if TYPE_CHECKING:
    from mpitasks.sandbox.children import ChildExit
    from mpitasks.sandbox.request import SandboxRequest

__all__ = ["TaskErrors"]


class TaskErrors:
    """Writes the errors of one rank.

    Args:
        rank: The rank's number.
        host: Its host.
    """

    def __init__(self, rank: int, host: str) -> None:
        self._rank = rank
        self._host = host

    def crash(self, order: SandboxRequest, ending: ChildExit) -> TaskCrashed:
        """Return the error of a task that took its process with it."""
        return self._crashed(order, f"{_task(order)} {_fate(ending)}", ending)

    def stillborn(self, order: SandboxRequest, ending: ChildExit) -> TaskCrashed:
        """Return the error of a task whose function cannot even be loaded."""
        what = f"loading the function of {_task(order)} {_fate(ending)}, several times"
        return self._crashed(order, what, ending)

    def ruin(
        self, order: SandboxRequest, ending: ChildExit, damage: Exception
    ) -> TaskCrashed:
        """Return the error of a task that broke the process that it ran in."""
        what = (
            f"{_task(order)} wrote into memory or files of its process that are not "
            f"its own ({damage}), and its process was killed,"
        )
        return self._crashed(order, what, ending)

    def overdue(self, order: SandboxRequest) -> TaskTimeout:
        """Return the error of a task that ran for too long."""
        return TaskTimeout(
            f"{_task(order)} took longer than its timeout of {order.timeout:g} s on "
            f"{self._place()}, and its process was killed"
        )

    def overflow(self, resident: int, order: SandboxRequest) -> TaskMemoryExceeded:
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

    def _crashed(
        self, order: SandboxRequest, what: str, ending: ChildExit
    ) -> TaskCrashed:
        error = TaskCrashed(f"{what} on {self._place()}")
        error.signal, error.exit_code = ending.signal, ending.exit_code
        error.rank, error.host, error.label = self._rank, self._host, order.label
        return error

    def _place(self) -> str:
        return f"rank {self._rank} ({self._host})"


def _task(order: SandboxRequest) -> str:
    return "the task" if order.label is None else f"the task {order.label!r}"


def _fate(ending: ChildExit) -> str:
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
