"""Log records of tasks, on their way to the script's handlers on rank 0.

Loaded only if an Executor asks for it. A handler on the root logger turns each record
into bytes where it is made, as `logging.handlers.QueueHandler` does: the message is
formatted, the traceback is text. On a rank they wait in a queue until the worker
speaks, and then go before the results; in the child process of an isolated task they go
to its rank at once. No thread waits for another here while it holds anything.
"""

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.errors import SerializationError
from mpitasks.wire import codec
from mpitasks.wire.messages import MASTER, Logged, LogSetup

if TYPE_CHECKING:
    from mpitasks.wire.transport import Transport

__all__ = ["ChildRelay", "Relay", "Setting", "pack_record"]

MESSAGE_BYTES = 64 << 10
"""The size of the records that make a message."""

QUEUE_BYTES = 1 << 20
"""If more bytes wait, the thread that logs sends them, in the middle of a task."""

FULL_BYTES = 16 << 20
"""If more bytes wait, the thread that logs waits until rank 0 takes some."""

FULL_SECONDS = 60.0
"""The longest that it waits; then records are dropped, and counted."""

HELD_SECONDS = 1.0
"""How long the rank of an isolated task waits for rank 0 to take `QUEUE_BYTES`."""

Attributes = tuple[int, str, "int | None", "str | None"]
"""Rank, host, and the number and the label of the task; None outside one."""

_PLAIN = frozenset({str, int, float, bool, type(None)})


class Setting:
    """How `logging` is set up in this process: as on rank 0, with a handler of ours.

    Args:
        take: Gets each record, as bytes.
        attributes: Tells where a record is made.
    """

    def __init__(
        self, take: Callable[[bytes], None], attributes: Callable[[], Attributes]
    ) -> None:
        self._handler = _Handler(take, attributes)
        self._levels: dict[str, int] = {}  # of loggers, before we changed them
        self._disabled: list[logging.Logger] = []
        self._disable: int | None = None
        self._captures = False

    def apply(self, setup: LogSetup) -> None:
        """Follow rank 0."""
        self.undo()
        levels, disabled, disable, captures = setup
        for name, level in levels.items():
            logger = logging.getLogger(name)
            self._levels[name] = logger.level
            logger.setLevel(level)
        for name in disabled:
            logger = logging.getLogger(name)
            if not logger.disabled:
                logger.disabled = True
                self._disabled.append(logger)
        self._disable = logging.root.manager.disable
        logging.disable(disable)
        if captures:
            self._captures = True
            logging.captureWarnings(True)
        self.keep()

    def keep(self) -> None:
        """Put the handler back, if a module of a task has configured `logging` anew."""
        if self._disable is not None and self._handler not in logging.root.handlers:
            logging.root.addHandler(self._handler)

    def undo(self) -> None:
        """Leave `logging` as it was before."""
        if self._disable is None:
            return
        logging.root.removeHandler(self._handler)
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        for logger in self._disabled:
            logger.disabled = False
        logging.disable(self._disable)
        if self._captures:
            logging.captureWarnings(False)
        self._levels, self._disabled = {}, []
        self._disable, self._captures = None, False


class _Handler(logging.Handler):
    def __init__(
        self, take: Callable[[bytes], None], attributes: Callable[[], Attributes]
    ) -> None:
        super().__init__()
        self._take = take
        self._attributes = attributes
        self._process = os.getpid()

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit the record without the handler's lock: pickling hooks may log, too."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the record on."""
        if os.getpid() != self._process:
            # A task has forked: nobody may speak for the worker there.
            last = logging.lastResort
            if last is not None and record.levelno >= last.level:
                last.handle(record)
            return
        try:
            self._take(pack_record(record, self._attributes()))
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)  # as all handlers do


def pack_record(record: logging.LogRecord, attributes: Attributes) -> bytes:
    """Return a record as bytes: what is plain, and frame and buffers of the rest."""
    fields = dict(record.__dict__)
    fields["msg"] = "".join([record.getMessage()])
    fields["args"] = None
    if fields.get("exc_info") and not fields.get("exc_text"):
        fields["exc_text"] = logging.Formatter().formatException(fields["exc_info"])
    fields["exc_info"] = None
    for made in ("message", "asctime"):  # by formatters, which is for rank 0 to do
        fields.pop(made, None)
    for name, value in zip(("rank", "host", "task", "label"), attributes, strict=True):
        fields.setdefault(name, value)
    plain = {name: value for name, value in fields.items() if type(value) in _PLAIN}
    others = {name: value for name, value in fields.items() if name not in plain}
    return pickle.dumps((plain, _encode(others) if others else None), 5)


def _encode(values: dict[str, Any]) -> tuple[bytes, list[bytes]]:
    try:
        frame, buffers = codec.encode(values, "a log record")
    except SerializationError:
        sound = {}
        for name, value in values.items():
            try:
                codec.encode(value, name)
            except SerializationError:
                value = repr(value)
            sound[name] = value
        frame, buffers = codec.encode(sound, "a log record")
    return frame, [bytes(buffer) for buffer in buffers]


class Relay:
    """The records of a rank.

    Args:
        transport: How to reach rank 0.
        lock: The worker's, which is held by whoever uses the transport.
        attributes: Tells where a record is made.
        own: Whether the process is a worker's own. If it is the script's, too (size
            1), records of its tasks reach the handlers by themselves.
        listens: Whether any thread may use the transport while user code runs.
    """

    def __init__(
        self,
        transport: Transport,
        lock: threading.Lock,
        attributes: Callable[[], Attributes],
        *,
        own: bool,
        listens: bool,
    ) -> None:
        self._transport = transport
        self._lock = lock
        self._setting = Setting(self.take, attributes) if own else None
        self._listens = listens
        self._thread = threading.get_ident()
        self._queue: deque[bytes] = deque()
        self._nbytes = 0
        self._dropped = 0
        self.setup: LogSetup | None = None

    def follow(self, setup: LogSetup | None) -> None:
        """Do as rank 0 wants it from now on; None for nothing."""
        self.setup = setup
        if self._setting is not None:
            if setup is None:
                self._setting.undo()
            else:
                self._setting.apply(setup)

    def take(self, data: bytes) -> None:
        """Take a record in. From any thread, which may hold the worker's lock."""
        if self._nbytes > FULL_BYTES and not self._wait_for_room():
            self._dropped += 1
            return
        self._queue.append(data)
        self._nbytes += len(data)
        if self._nbytes > QUEUE_BYTES:
            self.push()
        elif len(self._queue) == 1 and threading.get_ident() != self._thread:
            self._transport.wake()  # the loop may have nothing to do

    def take_held(self, data: bytes) -> None:
        """Take a record in, for who holds the worker's lock."""
        self._queue.append(data)
        self._nbytes += len(data)
        if self._nbytes > QUEUE_BYTES:
            self.flush()
            end = time.monotonic() + HELD_SECONDS
            while self._transport.sending() and time.monotonic() < end:
                self._transport.wait(0.0)

    def push(self) -> None:
        """Send what there is, if this thread may use the transport just now."""
        if threading.get_ident() != self._thread and not self._listens:
            self._transport.wake()
        elif self._queue and self._lock.acquire(blocking=False):
            try:
                if not self._transport.sending():
                    self.flush()
                else:
                    self._transport.wait(0.0)
            finally:
                self._lock.release()

    def flush(self) -> None:
        """Send what there is. Under the worker's lock."""
        if self._setting is not None:
            self._setting.keep()
        queue = self._queue
        while queue:
            records = []
            nbytes = 0
            while queue and nbytes < MESSAGE_BYTES:
                records.append(queue.popleft())
                nbytes += len(records[-1])
            self._nbytes = max(self._nbytes - nbytes, 0) if queue else 0
            if self._dropped and not queue:
                records.append(_lament(self._dropped))
                self._dropped = 0
            self._transport.send(MASTER, Logged(records))

    def _wait_for_room(self) -> bool:
        """Have rank 0 take some; return whether there is room."""
        if self._lock.locked() and threading.get_ident() == self._thread:
            return True  # a pickling hook: nobody can send before it is done
        end = time.monotonic() + (0.0 if self._dropped else FULL_SECONDS)
        while True:
            self.push()
            if self._nbytes <= FULL_BYTES:
                return True
            if time.monotonic() > end:
                return False
            time.sleep(0.001)


def _lament(count: int) -> bytes:
    text = f"{count} log records of this rank were dropped: rank 0 takes none"
    fields = ("mpitasks", logging.ERROR, "", 0, text, (), None)
    return pack_record(logging.LogRecord(*fields), (-1, "", None, None))


class ChildRelay:
    """The records of the child process of an isolated task.

    Args:
        send: Sends a message to the rank: fields, and buffers.
        send_record: Sends a record to the rank.
        attributes: Tells where a record is made.
    """

    def __init__(
        self,
        send: Callable[[tuple[Any, ...], Sequence[Any]], None],
        send_record: Callable[[bytes], None],
        attributes: Callable[[], Attributes],
    ) -> None:
        self._send = send
        self._send_record = send_record
        self._lock = threading.Lock()
        self._queue: deque[bytes] = deque()
        self._setting = Setting(self.take, attributes)

    def follow(self, setup: LogSetup | None) -> None:
        """Do as rank 0 wants it from now on; None for nothing."""
        if setup is None:
            self._setting.undo()
        else:
            self._setting.apply(setup)

    def take(self, data: bytes) -> None:
        """Send a record; whoever is sending something at this moment does it."""
        self._queue.append(data)
        self._drain()

    def send(self, fields: tuple[Any, ...], buffers: Sequence[Any] = ()) -> None:
        """Send an answer, after the records that were made before it.

        Raises:
            OSError: The rank is gone, or there is no memory.
        """
        with self._lock:
            self._empty()
            self._send(fields, buffers)
        self._drain()

    def _drain(self) -> None:
        # Not waiting: what holds the lock may be this thread, in a finalizer.
        while self._queue and self._lock.acquire(blocking=False):
            try:
                self._empty()
            finally:
                self._lock.release()

    def _empty(self) -> None:
        while self._queue:
            self._send_record(self._queue.popleft())
