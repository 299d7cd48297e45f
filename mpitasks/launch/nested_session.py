"""The session of a task that has tasks of its own; see `mpitasks.launch.nested`.

It opens Executors cheaply, since a task may be one of many that open one each. They are
closed when the task ends.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mpitasks.api.session import ExecutorHandle, Session
from mpitasks.errors import ConfigurationError
from mpitasks.runner import nesting

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpitasks.journal.recorder import Journal
    from mpitasks.master.event_loop import EventLoop

__all__ = ["NestedSession"]

NO_JOURNAL = (
    "journal= is for Executors of the script: the result of the task that opens this "
    "one is recorded there, with all that its children have done for it"
)


class NestedSession(Session):
    """The part of a run that one task after another has for its children.

    Args:
        event_loop: Drives it.
        hosts: Where the worker is, by rank.
    """

    def __init__(self, event_loop: EventLoop, *, hosts: dict[int, str]) -> None:
        super().__init__(event_loop, hosts=hosts)
        self.is_nested = True
        self._opened: list[ExecutorHandle] = []
        self._parent: Any = None
        self._count = 0

    def open(
        self,
        max_workers: int | None = None,
        open_journal: Callable[[], Journal | None] | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        seed: int | None = None,
        logging: bool = False,
    ) -> ExecutorHandle:
        """As `Session.open`, for an Executor of a task.

        Raises:
            ConfigurationError: A journal is asked for.
            SerializationError: The initializer cannot be pickled.
        """
        if open_journal is not None:
            raise ConfigurationError(NO_JOURNAL)
        event_loop = self.event_loop
        handle = ExecutorHandle(self, max_workers)
        handle.label_path = nesting.label()
        handle.journal = None  # the one of the command line is the script's
        handle.set_up = event_loop.functions.open(initializer, initargs)
        others = [each for each in self._opened if each.open]
        handle.origin, handle.ids = event_loop.open(
            *self._place(seed), None, others=[each.origin for each in others]
        )
        self._opened = [*others, handle]
        return handle

    def limit_workers(self) -> None:
        """Use all workers: a task that has children needs one to run them."""

    def _place(self, seed: int | None) -> tuple[int, tuple[int, ...]]:
        """Return the seed of an Executor, and its place below that of the task."""
        if seed is not None:
            return seed, (0,)
        place = nesting.place()
        if place is None:
            return int.from_bytes(os.urandom(16), "little"), (0,)
        if place != self._parent:
            self._parent, self._count = place, 0
        entropy, where = place
        self._count += 1
        return entropy, (*where, self._count - 1)

    def close_handles(self) -> None:
        """The task has ended: its Executors take no more calls."""
        for handle in self._opened:
            handle.closed = True
        self._opened.clear()
        self._parent = None
