"""A page that a rank and its child share: where the child is, readable after its death.

The child writes here before each item it runs, and leaves small results of a chunk
here as they come, at the price of a memory access and not of a message. When it dies,
the rank reads which item it was at, since when, and what was finished before. The rank
writes here where the child is to stop.
"""

from __future__ import annotations

import mmap
import os
import pickle
import time
from collections.abc import Iterator
from typing import Any

__all__ = ["Slate", "new_slate", "read_notes"]

BYTES = 256 << 10
HEAD = 64
BEGUN, END, SINCE, FIRST, USED, READY, DREW = range(7)


class Slate:
    """One side's view of the page.

    Args:
        fd: A descriptor of at least `BYTES` bytes; it stays the caller's.
    """

    BYTES = BYTES

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, BYTES)
        self._view = memoryview(self._memory)
        self._words = self._view[:HEAD].cast("Q")

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

    def begin(self, at: int) -> bool:
        """In the child: item `at` comes; return whether it is wanted."""
        words = self._words
        words[SINCE] = time.monotonic_ns()
        words[BEGUN] = at + 1
        if at < words[END]:
            return True
        words[BEGUN] = at  # whoever reads on a corpse must not blame this one
        return False

    def loaded(self) -> None:
        """In the child: the function is loaded."""
        self._words[READY] = time.monotonic_ns()

    @property
    def drew(self) -> bool:
        """Whether an item of the last request asked for random numbers of ours."""
        return bool(self._words[DREW])

    def note_drawn(self) -> None:
        """In the child: the item that runs asks for random numbers of ours."""
        self._words[DREW] = 1

    def reset(self, first: int, end: int) -> None:
        """On the rank, while the child is idle: items from `first` to `end` come."""
        words = self._words
        words[BEGUN] = first
        words[END] = end
        words[USED] = 0
        words[FIRST] = first
        words[DREW] = 0
        words[SINCE] = time.monotonic_ns()

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

    def note(self, record: Any) -> bool:
        """In the child: leave the record of the next item; return whether it fits."""
        data = pickle.dumps(record, 5)
        used = self._words[USED]
        start = HEAD + used
        end = start + 4 + len(data)
        if end > BYTES:
            return False
        self._view[start : start + 4] = len(data).to_bytes(4, "little")
        self._view[start + 4 : end] = data
        self._words[USED] = end - HEAD  # last: only now it counts
        return True

    def take(self) -> bytes:
        """In the child: return all notes, to be sent as they are."""
        return bytes(self._view[HEAD : HEAD + self._words[USED]])

    def wipe(self, first: int) -> None:
        """In the child: notes up to item `first` were sent."""
        self._words[USED] = 0
        self._words[FIRST] = first

    def notes(self) -> tuple[int, bytes]:
        """On the rank: the item that the first note is of, and the notes.

        None, if the child wipes them at this moment, because it sends them.
        """
        first = self._words[FIRST]
        notes = self.take()
        return first, notes if self._words[FIRST] == first else b""

    def close(self) -> None:
        """Let go of the page."""
        self._words.release()
        self._view.release()
        self._memory.close()


def read_notes(notes: bytes) -> Iterator[Any]:
    """Yield the records in notes."""
    at = 0
    while at < len(notes):
        size = int.from_bytes(notes[at : at + 4], "little")
        yield pickle.loads(memoryview(notes)[at + 4 : at + 4 + size])
        at += 4 + size


def new_slate() -> tuple[Slate, int]:
    """Return a fresh page, and its descriptor, which is the caller's to close."""
    from mpitasks.worker.blocks import anonymous_file

    fd = anonymous_file("mpitasks-slate")
    try:
        os.ftruncate(fd, BYTES)
        return Slate(fd), fd
    except BaseException:
        os.close(fd)
        raise
