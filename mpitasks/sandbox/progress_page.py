"""A page that a rank and its child share: where the child is, readable after its death.

The child writes here before each item it runs, and leaves small results of a chunk
here as they come, at the price of a memory access and not of a message. When it dies,
the rank reads which item it was at, since when, and what was finished before. The rank
writes here where the child is to stop, and when the job ends.

A task may write here as well, by accident. So each side goes by what it knows itself,
and writes it again and again: nothing that the other reads here is taken for granted.
Results carry their number and a checksum; and what a child still has whole, it sends.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import time
from collections.abc import Iterator
from pickle import dumps, loads  # by themselves: a task may patch the module
from time import monotonic_ns
from typing import Any
from zlib import crc32

from mpitasks.runner.damage import Damaged

__all__ = ["ProgressPage", "new_page", "read_notes"]

BYTES = 256 << 10
HEAD = 128
BEGUN, END, SINCE, WIPED, USED, READY, DREW, STATE, JOB_END, MARGIN, STOP = range(11)

# What is under STATE: a number that nobody writes by accident, other for each request,
# and how far that has come.
FIRST_NUMBER = 0x6D70697400000000
UNTOUCHED, TAKEN, ANSWERED = range(3)

_NOTE = struct.Struct("<III")
"""Before each note: its bytes, the item that it is of, and a checksum of both."""


class ProgressPage:
    """One side's view of the page.

    Args:
        fd: A descriptor of at least `BYTES` bytes; it stays the caller's.

    Attributes:
        number: That of the last request.
        noted_draw: Whether the child noted that its task asked for random numbers.
    """

    BYTES = BYTES

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, BYTES)
        self._view = memoryview(self._memory)
        self._words = self._view[:HEAD].cast("Q")
        # In the child: what it wrote, and where tasks do not find it by its address.
        self._kept = bytearray()
        self._wiped = 0
        self.noted_draw = False
        self.number = FIRST_NUMBER

    @property
    def begun(self) -> int:
        """How many items were begun."""
        return self._words[BEGUN]

    @property
    def since(self) -> float:
        """When the last of them was, as `time.monotonic` tells it."""
        return self._words[SINCE] / 1e9

    @property
    def ready(self) -> float:
        """When the function was loaded that the last request brought."""
        return self._words[READY] / 1e9

    @property
    def untouched(self) -> bool:
        """Whether the child has not taken the last request yet."""
        return self._words[STATE] == self.number + UNTOUCHED

    @property
    def answered(self) -> bool:
        """Whether the child has sent its last answer to it."""
        return self._words[STATE] == self.number + ANSWERED

    def take_up(self, number: int) -> None:
        """In the child: a request is there, of that number."""
        self.number = number
        self._kept.clear()
        self._wiped = 0
        self.noted_draw = False
        self._words[STATE] = number + TAKEN

    def note_answered(self) -> None:
        """In the child: the last answer was sent."""
        self._words[STATE] = self.number + ANSWERED

    def begin(self, at: int) -> bool:
        """In the child: item `at` comes; return whether it is wanted."""
        words = self._words
        words[SINCE] = monotonic_ns()
        words[BEGUN] = at + 1
        words[STATE] = self.number + TAKEN
        if at < words[END]:
            return True
        words[BEGUN] = at  # whoever reads on a corpse must not blame this one
        return False

    def loaded(self) -> None:
        """In the child: the function is loaded."""
        self._words[READY] = monotonic_ns()

    @property
    def drew(self) -> bool:
        """Whether an item of the last request asked for random numbers of ours."""
        return bool(self._words[DREW])

    def note_drawn(self) -> None:
        """In the child: the item that runs asks for random numbers of ours."""
        self.noted_draw = True
        self._words[DREW] = 1

    def reset(self, first: int, end: int) -> None:
        """On the rank, while the child is idle: items from `first` to `end` come."""
        words = self._words
        words[BEGUN] = first
        words[END] = end
        words[USED] = 0
        words[WIPED] = 0
        words[DREW] = 0
        self.number += 4
        words[STATE] = self.number + UNTOUCHED
        words[SINCE] = monotonic_ns()

    def tell_job_end(self, end: float, margin: float, stopping: bool) -> None:
        """On the rank: what `mpitasks.walltime.known` returns there."""
        words = self._words
        words[JOB_END] = 0 if math.isinf(end) else max(int(end * 1e9), 1)
        words[MARGIN] = int(margin * 1e9)
        words[STOP] = stopping

    def job_end(self) -> tuple[float, float, bool]:
        """In the child: what the rank has told of it."""
        words = self._words
        end = words[JOB_END] / 1e9 if words[JOB_END] else math.inf
        return end, words[MARGIN] / 1e9, bool(words[STOP])

    def stop_at(self, end: int) -> bool:
        """On the rank: have the child begin no item from `end` on.

        Returns:
            Whether it has begun none of them. If not, it may or may not stop: its
            answer tells how far it came.
        """
        self._words[END] = end
        # The child writes what it begins, and then reads the end. Each core may delay
        # its own writes, by far less than this; so either we see its, or it sees ours.
        time.sleep(0.001)
        return self._words[BEGUN] <= end

    def note(self, at: int, record: Any) -> bool:
        """In the child: leave the record of item `at`; return whether it fits."""
        data = dumps(record, 5)
        size = data.__len__()
        kept = self._kept
        start = HEAD + kept.__len__()
        end = start + _NOTE.size + size
        if end > BYTES:
            return False
        note = _NOTE.pack(size, at, crc32(data, at)) + data
        kept += note
        self._view[start:end] = note
        self._words[USED] = end - HEAD  # last: only now it counts
        return True

    def take(self) -> bytes:
        """In the child: return all notes, to be sent as they are."""
        return bytes(self._kept)

    def whole(self) -> bool:
        """In the child: whether the page still has the notes that it has written."""
        kept = self._kept
        end = HEAD + kept.__len__()
        # As bytes: comparing views takes ten times as long.
        return self._words[USED] == end - HEAD and bytes(self._view[HEAD:end]) == kept

    def wipe(self) -> None:
        """In the child: notes were sent."""
        self._kept.clear()
        self._wiped += 1
        self._words[USED] = 0
        self._words[WIPED] = self._wiped  # after it: who has read in between sees this

    def notes(self) -> bytes:
        """On the rank: the notes; none, if the child wipes them at this moment."""
        before = self._words[WIPED]
        notes = bytes(self._view[HEAD : HEAD + min(self._words[USED], BYTES)])
        return notes if self._words[WIPED] == before else b""

    def close(self) -> None:
        """Let go of the page."""
        self._words.release()
        self._view.release()
        self._memory.close()


def read_notes(notes: bytes) -> Iterator[tuple[int, Any]]:
    """Yield items, and the records of them.

    Raises:
        Damaged: Somebody else has written there.
    """
    at = 0
    while at < len(notes):
        try:
            size, item, checksum = _NOTE.unpack_from(notes, at)
        except struct.error:
            raise Damaged("a result was overwritten") from None
        at += _NOTE.size
        data = memoryview(notes)[at : at + size]
        if len(data) != size or crc32(data, item) != checksum:
            raise Damaged("a result was overwritten")
        yield item, loads(data)
        at += size


def new_page() -> tuple[ProgressPage, int]:
    """Return a fresh page, and its descriptor, which is the caller's to close."""
    from mpitasks.wire.node_memory import anonymous_memory

    fd = anonymous_memory("mpitasks-page", BYTES)
    try:
        return ProgressPage(fd), fd
    except BaseException:
        os.close(fd)
        raise
