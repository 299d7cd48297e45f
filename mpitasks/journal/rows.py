"""What is recorded of a call, and how it becomes a row and a value again.

Results are kept as they came from the worker, a frame and its buffers, so nothing is
pickled twice. But the buffers become the memory of the arrays that the script gets, and
may change there before they are written: so they are copied when they are recorded.
"""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mpitasks.errors import RemoteTraceback
from mpitasks.journal.folder import Damaged, Folder
from mpitasks.journal.row_text import call_text, fit
from mpitasks.journal.store import Row
from mpitasks.journal.walk import digest
from mpitasks.journal.writer import LARGE_BYTES
from mpitasks.wire import codec
from mpitasks.wire.buffers import BufferPool
from mpitasks.wire.diagnose import describe
from mpitasks.wire.exceptions import cause_of
from mpitasks.wire.interrupts import interrupts
from mpitasks.wire.messages import ERROR, PLAIN
from mpitasks.wire.outcomes import Failure, Form, decode_outcome, encode_error

if TYPE_CHECKING:
    from mpitasks.task_spec import Place

__all__ = [
    "Entry",
    "Record",
    "Records",
    "copied",
    "decode_row",
    "drawn_key",
    "encode_failure",
    "plain_items",
    "to_row",
]

LABEL_LENGTH = 1000

ROW_BYTES = 300
"""What a small result takes in memory and in the journal, about."""

_pool = BufferPool(256 << 20)  # fresh memory would cost more than the copies


@dataclass(slots=True)
class Entry:
    """A call that is to be recorded when it is done.

    Attributes:
        journal: Where; a `mpitasks.journal.recorder.Journal`.
        key: Its key.
        function: The number of its function in the journal.
        replaces: The number of the row of its last attempt, in another run; 0 for none.
        given: The key that the user gave, as text.
        args: The arguments if they are plain.
        label: The task's label.
        place: Where in the program it stands, as in `mpitasks.task_spec`.
        inputs: The calls whose results are among the arguments.
        base: The key that it has if none of them, nor it, draws random numbers of ours.
    """

    journal: Any
    key: bytes
    function: int
    replaces: int = 0
    given: str | None = None
    args: tuple[Any, ...] | None = None
    label: str | None = None
    place: Place | None = None
    inputs: Sequence[Entry] = ()
    base: bytes = b""

    def __post_init__(self) -> None:
        self.base = self.key
        self.settle()

    def settle(self) -> None:
        """Have the key tell what is known of the inputs; of all, once it has run."""
        if any(each.key != each.base for each in self.inputs):
            self.key = digest(self.base + b"".join(each.key for each in self.inputs))

    def note_drawn(self) -> None:
        """The outcome depends on random numbers of ours: file it by their place."""
        if self.place is not None:
            self.settle()
            self.inputs = ()
            self.key = drawn_key(self.key, self.place)
            self.place = None  # once


def drawn_key(key: bytes, place: Place) -> bytes:
    """Return the key of an outcome that depends on the random numbers of a place.

    It is used by another run only for a call that would draw the same: of the same
    seed, at the same place.
    """
    return digest(key + f"drawn at {place}".encode())


@dataclass(slots=True)
class Record:
    """An outcome of an entry: form, payload and buffers as they came."""

    entry: Entry
    form: int
    payload: Any
    buffers: Sequence[Any]
    at: float

    def nbytes(self) -> int:
        """Return what it weighs."""
        if self.form == PLAIN:
            return ROW_BYTES
        own = len(self.payload) + sum(len(buffer) for buffer in self.buffers)
        return own + ROW_BYTES


@dataclass(slots=True)
class Records:
    """The outcome of a chunk whose results are all plain.

    Attributes:
        entry: What the items have in common.
        keys: Their keys, one after another.
        items: Their arguments, or None if they are not plain.
        frame: Frame of the list of their results.
        at: When it came.
        entries: Entries of the items of which there is more to tell, by position.
    """

    entry: Entry
    keys: bytes
    items: Sequence[Any] | None
    frame: Any
    at: float
    entries: dict[int, Entry]

    def singly(self) -> Iterator[Record]:
        """Yield the record of each item that has a key."""
        size = len(NO_KEY)
        common = self.entry
        for at, value in enumerate(codec.decode(self.frame)):
            key = self.keys[at * size : (at + 1) * size]
            if key == NO_KEY:
                continue
            entry = self.entries.get(at)
            if entry is None:
                args = None
                if self.items is not None:
                    item = self.items[at]
                    args = item if type(item) is tuple else (item,)
                number, label = common.function, common.label
                entry = Entry(common.journal, key, number, args=args, label=label)
            yield Record(entry, PLAIN, value, (), self.at)


NO_KEY = bytes(16)
"""In the place of the key of an item that has none."""


def plain_items(items: Any) -> bool:
    """Whether the arguments of a chunk are plain, so that they can be shown."""
    if type(items) is range:
        return True
    return all(
        codec.is_plain(item if type(item) is tuple else (item,)) for item in items
    )


def copied(buffers: Sequence[Any]) -> list[Any]:
    """Return copies of buffers."""
    copies = []
    for buffer in buffers:
        source = np.frombuffer(buffer, np.uint8)
        copy = _pool.take(source.nbytes)
        np.copyto(copy, source)
        copies.append(copy.data)
    return copies


def to_row(record: Record, folder: Folder) -> Row:
    """Return the row of a record; write its file, if it is large.

    Raises:
        OSError: The file cannot be written.
    """
    entry = record.entry
    form, payload = record.form, record.payload
    frame = pickle.dumps(payload, 5) if form == PLAIN else payload
    body = file = sums = None
    told = str(len(frame))
    if not record.buffers and len(frame) < LARGE_BYTES:
        body = bytes(frame)
    else:
        parts = [frame, *record.buffers]
        sizes = [len(part) for part in parts]
        told = json.dumps(sizes)
        if sum(sizes) >= LARGE_BYTES:
            file, sums = folder.write(entry.key, parts)
        else:
            body = b"".join(parts)
    return Row(
        entry.key,
        entry.function,
        int(form == ERROR),
        form,
        told,
        body,
        file,
        sums,
        entry.given,
        None if entry.args is None else call_text(entry.args),
        None if entry.label is None else fit(entry.label, LABEL_LENGTH),
        record.at,
    )


def decode_row(row: Row, folder: Folder) -> Any:
    """Return the value of a row, or the `Failure` that it was.

    Raises:
        Damaged: It cannot be read, or cannot be unpickled any more.
    """
    text = row.sizes
    sizes = [int(text)] if text.isdecimal() else json.loads(text)
    if row.file is not None:
        frame, *buffers = folder.read(row.file, sizes, row.sums or b"")
    elif len(sizes) == 1:
        frame, buffers = row.body, []
    else:
        frame, *buffers = _split(row.body or b"", sizes)
    if row.form == PLAIN:
        return pickle.loads(frame)
    try:
        value = decode_outcome(row.form, frame, buffers)
        # An exception of a task has the task's traceback for its cause.
        lost = type(value) is Failure and not isinstance(
            cause_of(value.error), RemoteTraceback
        )
    except BaseException as error:
        if interrupts(error):
            raise
        raise Damaged(f"it cannot be unpickled any more: {describe(error)}") from error
    if lost:
        cause = cause_of(value.error)
        raise Damaged(
            f"it cannot be unpickled any more: {describe(cause or value.error)}"
        ) from cause
    return value


def encode_failure(error: BaseException) -> Form:
    """Return an error that came from a worker as what a worker would send."""
    cause = cause_of(error)
    text = cause.text if isinstance(cause, RemoteTraceback) else None
    return encode_error(error, "rank 0", text, interruptible=True)


def _split(body: bytes, sizes: Sequence[int]) -> list[Any]:
    parts: list[Any] = []
    start = 0
    for size in sizes:
        part = body[start : start + size]
        parts.append(bytearray(part) if parts else part)  # arrays must be writable
        start += size
    return parts


def now() -> float:
    """Return the time as it stands in the journal."""
    return time.time()
