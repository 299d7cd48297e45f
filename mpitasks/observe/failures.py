"""Which exceptions tasks failed with, and the first traceback of each class.

`Failures` is told of each attempt that failed, with its exception, under no lock. It
formats one exception a class, which runs code of the user. How many tasks failed in all
is counted elsewhere: those that were lost or not run have no exception of theirs here.
"""

from __future__ import annotations

import threading
import traceback
from typing import TYPE_CHECKING, NamedTuple

from mpitasks.observe.accounts import label_of
from mpitasks.wire.interrupts import interrupts

if TYPE_CHECKING:
    from mpitasks.scheduler.events import Task

__all__ = ["Failure", "Failures"]

MOST_CLASSES = 50
MOST_TEXT = 8_000


class Failure(NamedTuple):
    """The first failure with an exception of some class.

    Attributes:
        label: That of the task.
        text: The traceback, or as much of it as there is room for.
    """

    label: str
    text: str


class Failures:
    """Takes failures down.

    Attributes:
        counts: How many tasks failed for good, by the name of the class.
        retried: How many attempts did that were followed by another one.
        first: The first of each; of `MOST_CLASSES` at most.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.retried: dict[str, int] = {}
        self._lock = threading.Lock()
        self.first: dict[str, Failure] = {}

    def record(self, task: Task, error: BaseException, final: bool) -> None:
        """Take a failure down; an error listener of `mpitasks.master.completion`."""
        kind = type.__dict__["__qualname__"].__get__(type(error))
        if kind not in self.first and len(self.first) < MOST_CLASSES:
            self.first[kind] = Failure(label_of(task.payload), _text(error))
        counts = self.counts if final else self.retried
        with self._lock:
            counts[kind] = counts.get(kind, 0) + 1


def _text(error: BaseException) -> str:
    """Return the traceback, the end of it if it is long."""
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException as wrong:  # a class of the user's that cannot be shown
        if interrupts(wrong):
            raise
        return "(the exception cannot be shown)"
    return text if len(text) <= MOST_TEXT else f"...{text[-MOST_TEXT:]}"
