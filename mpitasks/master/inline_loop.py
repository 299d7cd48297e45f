"""The event loop of a task that has children, which run on its own stack.

Nothing moves unless the task waits. So whatever asks for a child without waiting for it
has it run here: who polls `Future.done`, and who adds a done-callback, as `asyncio`
does.

A call that is submitted stays in the inbox until the task waits. A few calls then go to
the worker one by one, and each has its result before the next one goes: so a tree of
calls is walked in the order of the script. Many go together, as on rank 0.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from mpitasks.errors import ConfigurationError
from mpitasks.master.event_loop import EventLoop

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpitasks.master.future import Future
    from mpitasks.scheduler.events import Task
    from mpitasks.wire.inline_transport import MasterEnd

__all__ = ["InlineEventLoop"]

OF_PARENT = (
    "a task waits for a task of its parent, which runs on the same stack and would "
    "wait for it: pass futures as arguments, or let a child open its own Executor"
)

FEW = 4
"""So many calls in the inbox are no batch: to make one takes longer than they do."""


class InlineEventLoop(EventLoop):
    """An event loop whose only worker takes its turn when the caller waits.

    Attributes:
        thread: The thread that runs the task, and its children.
    """

    thread: int = 0
    _transport: MasterEnd
    _priority = 0  # of what is in the inbox
    _is_mixed = False  # whether that is not the same for all

    def submit(self, task: Task) -> None:
        """Take a call in. It runs when the task waits."""
        if not self._inbox:
            self._priority = task.priority
            self._is_mixed = False
        elif task.priority != self._priority:
            self._is_mixed = True
        self._inbox.append(task)

    def drive(
        self,
        done: Callable[[], bool],
        block: Callable[[float], object],
        timeout: float | None = None,
    ) -> bool:
        """As `EventLoop.drive`.

        Raises:
            ConfigurationError: The caller is a child, and what it waits for is its
                parent's.
        """
        inbox = self._inbox
        if self._driving == threading.get_ident() and not (self._is_mine() or done()):
            raise ConfigurationError(OF_PARENT)
        if timeout is None and inbox and len(inbox) <= FEW and self._may_drive():
            self._run_some(done)
            if self._callbacks:
                self._run_callbacks()
        if done() and self.settle_logs is None:
            return True
        return super().drive(done, block, timeout)

    def _run_some(self, done: Callable[[], bool]) -> None:
        """Run calls of the inbox, one after the other, as long as each succeeds."""
        engine, transport, inbox = self.engine, self._transport, self._inbox
        with self._driver:
            own = self._driving = threading.get_ident()
            self.driven = True
            try:
                moves = True
                while moves and not (self._callbacks or done()):
                    # To look whether all is done may have taken the inbox in.
                    if not inbox or self._is_mixed or self._scheduler.outstanding:
                        break
                    with self._lock:
                        self._holder = own
                        try:
                            engine.submit(inbox.popleft())
                        finally:
                            self._holder = 0
                    if transport.is_awaited:
                        transport.wait(0.0)
                    with self._lock:
                        self._holder = own
                        try:
                            moves = transport.has_result and engine.take_result()
                        finally:
                            self._holder = 0
            finally:
                self.driven = False
                self._driving = 0

    def help(self, future: Future) -> bool:
        """Run what is to be run next; return whether the future is done then."""
        if self._may_help():
            self.nudge()
            self._transport.wait(0.0)
            self.nudge()
        return future.is_over()

    def before_callback(self, future: Future) -> None:
        """Run the call of the future: nobody may wait for it."""
        if self._may_help() and not future.is_over():
            self.drive(future.is_over, time.sleep)

    def _may_help(self) -> bool:
        own: Any = threading.get_ident()
        return own == self.thread and self._driving != own and not self.is_shut

    def _may_drive(self) -> bool:
        """Whether nothing is wrong, so that the caller need not be told."""
        return (
            self._may_help()
            and not self._is_mine()
            and not self._driver.locked()
            and self._refusal is None
            and self.engine.error is None
            and self.engine.completion.excess is None
        )
