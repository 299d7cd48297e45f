"""Transport between a master and a worker that take turns in one thread.

A call that goes alone, its result, and what opens an Executor are handed over as they
are: they hold frames, which nobody changes, and values that cannot change. Other
messages go through the same frames as over MPI. Buffers are copied, since they are the
memory of somebody's arrays. The master's end has the worker take its turn when the
master waits.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpitasks.wire.messages import (
    Cancel,
    Opening,
    Request,
    Result,
    pack,
    unpack,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.messages import Message

__all__ = ["MasterEnd", "WorkerEnd", "inline_pair"]

_AS_THEY_ARE = frozenset((Request, Result, Opening))


class _End:
    """What both ends do; see `mpitasks.wire.transport.Transport`."""

    rank: int
    survives = False
    doze_after = 0.0

    def __init__(self, own: deque[Any], other: deque[Any]) -> None:
        self._own = own
        self._other = other

    def send(self, rank: int, message: Message) -> None:
        if type(message) in _AS_THEY_ARE:
            self._other.append((message, None))
        else:
            frame, buffers = pack(message)
            self._other.append((frame, [bytearray(buffer) for buffer in buffers]))

    def poll(self) -> tuple[int, Message] | None:
        if not self._own:
            return None
        message, buffers = self._own.popleft()
        if buffers is not None:
            unpacked: Any
            unpacked, _ = unpack(message)
            if buffers:
                unpacked.buffers = buffers
            message = unpacked
        return 1 - self.rank, message

    def abandon(self, rank: int) -> None:
        self._own.clear()

    def sending(self) -> bool:
        return False

    def sent(self, buffers: Sequence[Buffer]) -> bool:
        return True

    def hear_peers(self) -> None:
        pass  # there are none

    def doze(self, limit: float) -> bool:
        self.wait(limit)
        return True

    def wait(self, limit: float) -> None:
        pass

    def wake(self) -> None:
        pass  # nobody sleeps

    def close(self) -> None:
        self._own.clear()


class MasterEnd(_End):
    """The master's end.

    Attributes:
        take_turn: Has the worker take one message and do what it says.
        hear: Has the worker take in what it was sent, and run nothing.
        was_heard: Whether it did, and has not taken its turn since.
    """

    rank = 0

    def __init__(self, own: deque[Any], other: deque[Any]) -> None:
        super().__init__(own, other)
        self.take_turn: Callable[[], None] = lambda: None
        self.hear: Callable[[], object] = lambda: None
        self.was_heard = False

    def send(self, rank: int, message: Message) -> None:
        super().send(rank, message)
        if type(message) is Cancel:
            self.hear()  # before it begins what it was sent earlier

    @property
    def is_awaited(self) -> bool:
        """Whether there is something for the worker to do."""
        return self.was_heard or bool(self._other)

    @property
    def has_result(self) -> bool:
        """Whether the next message is the result of a call that went alone."""
        return bool(self._own) and type(self._own[0][0]) is Result

    def wait(self, limit: float) -> None:
        """Have the worker take its turn; sleep if there is nothing for it to do."""
        if self._own:
            return
        if self._other or self.was_heard:
            self.was_heard = False
            self.take_turn()
        else:
            time.sleep(limit)


class WorkerEnd(_End):
    """The worker's end."""

    rank = 1


def inline_pair() -> tuple[MasterEnd, WorkerEnd]:
    """Return the two ends of a world of a master, rank 0, and one worker, rank 1."""
    to_master: deque[Any] = deque()
    to_worker: deque[Any] = deque()
    return MasterEnd(to_master, to_worker), WorkerEnd(to_worker, to_master)
