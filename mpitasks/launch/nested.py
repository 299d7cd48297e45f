"""A task that opens an Executor: master and worker of its own, in its own process.

As the size-1 mode (`mpitasks.launch.local`), but in one thread: whoever waits for a
child runs it. There is one master for each depth of nesting, made when it is first
needed and used by one task of that depth after the other. So a task that waits only
runs its own children, and what they wait for; never another task.
"""

from __future__ import annotations

import functools
import os
import threading
from typing import TYPE_CHECKING

from mpitasks import forks
from mpitasks.api.session import IN_TASK
from mpitasks.errors import ConfigurationError, InternalError
from mpitasks.launch.nested_session import NestedSession
from mpitasks.master.inline_loop import InlineEventLoop
from mpitasks.runner import nesting
from mpitasks.wire.inline_transport import inline_pair
from mpitasks.wire.node_memory import is_attachable
from mpitasks.worker.loop import Worker

if TYPE_CHECKING:
    from mpitasks.runner.nesting import Home
    from mpitasks.scheduler.events import Task

__all__ = ["close_levels", "session_of_task"]

IN_THREAD = (
    "an Executor in a task is for the thread that runs the task: its children run "
    "there, while it waits for them"
)

_levels: list[_Level] = []


class _Level:
    """The master of a task that has children, and the worker that runs these.

    Attributes:
        session: What the task's Executors use.
    """

    def __init__(self, home: Home) -> None:
        master_end, worker_end = inline_pair()
        self._end = master_end
        master_end.take_turn = self._take_turn
        self._thread = home.thread
        self._worker = Worker(
            worker_end, home.where, rank=home.rank, host=home.host, own=False
        )
        self._worker.attend_here(home.thread)
        master_end.hear = self._hear
        self._current_task = functools.partial(
            self._worker.current_task, home.rank, home.host
        )
        event_loop = InlineEventLoop(
            master_end,
            [worker_end.rank],
            near=[worker_end.rank] if is_attachable(os.getpid()) else [],
            threads=False,
        )
        event_loop.thread = home.thread
        event_loop.engine.scheduler.may_revoke = self._may_revoke
        event_loop.functions.looks_around = False  # they are in the same process
        event_loop.engine.kept.bound({worker_end.rank: (home.host, None)})
        self.session = NestedSession(event_loop, hosts={worker_end.rank: home.host})
        forks.in_child(self._worker.disown)

    @property
    def is_sound(self) -> bool:
        """Whether it can be used again."""
        return self.session.event_loop.error is None

    def _take_turn(self) -> None:
        if threading.get_ident() != self._thread:
            raise ConfigurationError(IN_THREAD)
        try:
            nesting.run_child(self._worker, self._current_task, self._worker.step)
        except BaseException as error:
            # Not the user's, or raised by a signal anywhere: who knows what was done?
            self.session.event_loop.abandon(_broken(error))
            raise
        nesting.tell_helping()

    def _hear(self) -> set[int]:
        self._end.was_heard = True
        return self._worker.hear()

    def _may_revoke(self, task: Task) -> bool:
        """Whether a child that was handed to the worker was not begun."""
        return task.id in self._hear()

    def close(self, error: BaseException | None) -> None:
        """The task has ended: do what it has not waited for; nothing after an error."""
        event_loop = self.session.event_loop
        if error is not None:
            event_loop.cancel_queue(isolated=True)
        try:
            event_loop.finish()
            event_loop.nudge()
            if self._end.is_awaited:  # the worker lets go of what it keeps
                self._take_turn()
        finally:
            self.session.close_handles()

    def end(self) -> None:
        """End the processes that it has started."""
        self._worker.close_isolation()


def _broken(error: BaseException) -> InternalError:
    broken = InternalError(f"a task was interrupted while its children ran: {error!r}")
    broken.__cause__ = error
    return broken


def session_of_task() -> NestedSession:
    """Return the session of the task that is running in the calling thread.

    Raises:
        ConfigurationError: Another thread of the task calls.
        RecursionError: Tasks are nested too deep.
    """
    home = nesting.here()
    if home is None:
        raise ConfigurationError(IN_TASK)
    if not nesting.runs_here():
        raise ConfigurationError(IN_THREAD)
    depth = nesting.depth()
    if depth >= nesting.MOST_DEPTH:
        raise RecursionError(
            f"tasks are nested {depth} deep, and each waits for the next: "
            f"{' > '.join(nesting.chain())}"
        )
    home.runner.on_leave = close_levels
    while len(_levels) <= depth:
        _levels.append(_Level(home))
    if not _levels[depth].is_sound:
        _levels[depth].end()
        _levels[depth] = _Level(home)
    level = _levels[depth]
    nesting.open_with(level.close)
    return level.session


def close_levels() -> None:
    """This process runs no more tasks."""
    while _levels:
        _levels.pop().end()
