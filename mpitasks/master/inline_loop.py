"""The event loop of a task that has children, which run on its own stack.

Nothing moves unless the task waits. So whatever asks for a child without waiting for it
has it run here: who polls `Future.done`, and who adds a done-callback, as `asyncio`
does.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from mpitasks.master.event_loop import EventLoop

if TYPE_CHECKING:
    from mpitasks.master.future import Future

__all__ = ["InlineEventLoop"]


class InlineEventLoop(EventLoop):
    """An event loop whose only worker takes its turn when the caller waits.

    Attributes:
        thread: The thread that runs the task, and its children.
    """

    thread: int = 0

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
