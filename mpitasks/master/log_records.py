"""Log records of workers, handed to the script's handlers.

Handlers are user code. So records that arrive under the event loop's lock only wait
here, and are handled after it is released, as done-callbacks are: in order, by one
thread at a time, whichever comes by.
"""

from __future__ import annotations

import logging
import pickle
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.errors import Stopped
from mpitasks.wire import codec

if TYPE_CHECKING:
    from mpitasks.wire.messages import LogSetup

__all__ = ["Logs"]

SETTLE_SECONDS = 30.0
"""So long a result, or the end of an Executor, waits for a handler."""


class Logs:
    """The records of a run.

    Args:
        call_back: Has a function called soon, when no lock is held.
        current: Tells which task runs in the calling thread, if one does: its number
            and its label.
    """

    def __init__(
        self,
        call_back: Callable[[Callable[[], None]], None],
        current: Callable[[], tuple[int | None, str | None]],
    ) -> None:
        self._call_back = call_back
        self._queue: deque[tuple[int, bytes]] = deque()
        self._arrived = 0
        self._handled = 0
        self._handling = threading.Lock()
        self._handler_thread = 0
        self._filter = _Attributes(current)
        self._said = False

    def setup(self) -> LogSetup:
        """Return how `logging` is set up here, for the workers to follow.

        From now on records of this process have the attributes that those of workers
        have, for the formatters of the handlers that there are.
        """
        root = logging.root
        levels = {"": root.level}
        disabled = []
        handlers = list(root.handlers)
        for name, logger in sorted(root.manager.loggerDict.items()):
            if isinstance(logger, logging.Logger):
                handlers += logger.handlers
                if logger.level != logging.NOTSET:
                    levels[name] = logger.level
                if logger.disabled:
                    disabled.append(name)
        for handler in handlers:
            handler.addFilter(self._filter)
        captures = getattr(logging, "_warnings_showwarning", None) is not None
        return levels, disabled, root.manager.disable, captures

    def take(self, rank: int, records: Sequence[bytes]) -> None:
        """Take in what a worker sent. Under the event loop's lock."""
        self._queue.extend([(rank, data) for data in records])
        self._arrived += len(records)
        self._call_back(self._drain)

    def settle(self) -> None:
        """Wait until what has arrived was handled; no longer than is reasonable."""
        arrived = self._arrived
        if self._handled >= arrived:
            return
        end = time.monotonic() + SETTLE_SECONDS
        while self._handler_thread != threading.get_ident():  # it waits for us
            self._drain()
            if self._handled >= arrived or time.monotonic() > end:
                return
            time.sleep(0.001)

    def _drain(self) -> None:
        while self._queue and self._handling.acquire(blocking=False):
            try:
                self._handler_thread = threading.get_ident()
                while self._queue:
                    record = self._queue.popleft()
                    try:
                        self._handle(*record)
                    finally:
                        self._handled += 1
            finally:
                self._handler_thread = 0
                self._handling.release()

    def _handle(self, rank: int, data: bytes) -> None:
        """Do with a record what its logger would have done with it here."""
        try:
            fields, others = pickle.loads(data)
            if others is not None:
                fields.update(self._decode(rank, *others))
            if fields.get("rank") == -1:
                fields["rank"] = rank
            record = logging.makeLogRecord(fields)
            logger = logging.getLogger(record.name)
            if logger.isEnabledFor(record.levelno):
                logger.handle(record)
        except BaseException as error:  # of a handler: it is not the event loop's
            ends = isinstance(error, (KeyboardInterrupt, Stopped))
            if ends and threading.current_thread() is threading.main_thread():
                raise
            traceback.print_exc()

    def _decode(self, rank: int, frame: bytes, buffers: list[bytes]) -> dict[str, Any]:
        try:
            values = codec.decode(frame, [bytearray(buffer) for buffer in buffers])
            return dict(values)
        except Exception as error:
            if not self._said:
                self._said = True
                print(
                    f"mpitasks: warning: attributes of log records of rank {rank} "
                    f"cannot be unpickled, and are left out ({error!r})",
                    file=sys.stderr,
                    flush=True,
                )
            return {}


class _Attributes(logging.Filter):
    """Gives records of this process the attributes that those of workers have."""

    def __init__(self, current: Callable[[], tuple[int | None, str | None]]) -> None:
        super().__init__()
        self._current = current
        self._host = socket.gethostname()

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        fields = record.__dict__
        if "rank" not in fields:
            fields["rank"] = 0
            fields.setdefault("host", self._host)
            task, label = self._current()
            fields.setdefault("task", task)
            fields.setdefault("label", label)
        return True
