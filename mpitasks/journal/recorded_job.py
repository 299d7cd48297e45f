"""A bulk job with a journal: items whose results are there are never sent.

To the scheduler and the workers there are only the items that are missing, which are
numbered without the others. Results that are found wait as `Stored` among those that
come, and are read when their turn comes, so that arrays of gigabytes are not all in
memory at once.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mpitasks.journal.folder import Damaged
from mpitasks.journal.rows import (
    NO_KEY,
    Entry,
    Records,
    drawn_key,
    now,
    plain_items,
)
from mpitasks.journal.user_errors import BadKey
from mpitasks.master.bulk_job import BulkJob
from mpitasks.master.item_source import END, Packed, is_steady, pack
from mpitasks.master.payloads import Call
from mpitasks.wire import codec
from mpitasks.wire.messages import ERROR, LIST, PLAIN
from mpitasks.wire.outcomes import Deferred, Failure, split_items

if TYPE_CHECKING:
    from mpitasks.journal.keys import Met
    from mpitasks.master.event_loop import EventLoop
    from mpitasks.master.functions import Function
    from mpitasks.options import TaskOptions
    from mpitasks.scheduler.events import Task
    from mpitasks.task_spec import Place

__all__ = ["RecordedJob"]

ITEMS_AT_ONCE = 512
"""Keys take time: after this many items, the workers get what is missing of them."""

STORED_AT_ONCE = 64


class Recorder(Protocol):
    """What a job needs of the journal (`mpitasks.journal.recorder.Journal`)."""

    def enter(
        self,
        met: Met,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
        place: Place | None = None,
    ) -> tuple[Entry | None, int]:
        """Return where a call is to be recorded, and the number of its result."""

    def note(
        self, entry: Entry, form: int, payload: Any, buffers: Sequence[Any]
    ) -> None:
        """Record the outcome of a call."""

    def note_all(self, records: Records, count: int) -> None:
        """Record the outcomes of a chunk of plain results."""


class RecordedJob(BulkJob):
    """A function and its items, some of which are in a journal."""

    is_recorded = True
    __slots__ = (
        "_drawn",
        "_entries",
        "_event_loop",
        "_journal",
        "_keys",
        "_met",
    )

    def __init__(
        self,
        journal: Recorder,
        met: Met,
        event_loop: EventLoop,
        target: Function,
        iterable: Iterable[Any],
        *,
        star: bool,
        ordered: bool,
        options: TaskOptions,
        owner: object = None,
        place: Place | None = None,
    ) -> None:
        super().__init__(
            target,
            iterable,
            star=star,
            ordered=ordered,
            options=options,
            owner=owner,
            place=place,
            argument_memory=event_loop.argument_memory,
        )
        self._journal = journal
        self._met = met
        self._event_loop = event_loop
        # Of the missing items, by their numbers:
        self._positions: array[int] = array("q")
        self._keys = bytearray()
        self._entries: dict[int, Entry] = {}  # those with more to tell than a key
        self._drawn: set[int] = set()  # those that are filed by their places

    @property
    def done(self) -> int:
        """Items whose results are there; those that were found, too."""
        numbered = len(self._positions) + len(self._set_aside)
        return max(self.pulled - numbered, 0) + self._delivered

    # The consuming thread's side.

    def pull(self, limit: int | None) -> int:
        """Take items from the source; return how many of them are missing.

        Without a limit these are some items at a time, so that the workers need not
        wait for all keys.
        """
        source = self.source
        position = self.pulled
        end = position + (ITEMS_AT_ONCE if limit is None else limit)
        missing: list[Any] = []
        found: list[Deferred] = []

        def hand_out() -> None:
            if found:
                self.results.put(position - len(found), found.copy(), mixed=True)
                found.clear()

        while position < end:
            if not source.is_holding:
                item = source.next_item()
                if item is END:
                    break
                stored = self._look_up(item, position)
                if stored is not None:
                    found.append(stored)
                    position += 1
                    if len(found) == STORED_AT_ONCE:
                        hand_out()
                    continue
                hand_out()
                if is_steady(item, source.star):
                    missing.append(item)
                    position += 1
                    continue
                source.hold(item, position)
                del item  # nobody else may have it, and then it is not copied
            ready = source.release(lambda: not self.wanted, wait=not missing)
            if ready is None:
                break
            if not self.complete(ready):
                self._move_aside(ready, position)
            else:
                missing.append(ready)
            position += 1
        hand_out()
        self.add(missing, position)
        return len(missing)

    def _move_aside(self, item: Packed, position: int) -> None:
        """Take the item that was numbered last out of the line."""
        number = self.put_aside(item, position)
        self._positions.pop()
        key = bytes(self._keys[-len(NO_KEY) :])
        del self._keys[-len(NO_KEY) :]
        entry = self._entries.pop(len(self._positions), None)
        if entry is None and key != NO_KEY:
            place, label = self._place(position), self.options.label
            entry = Entry(self._journal, key, self._met[1], label=label, place=place)
        if entry is not None:
            self._entries[number] = entry

    def _look_up(self, item: Any, position: int) -> Deferred | None:
        """Return the result of an item if it is there; else number the item."""
        star = self.source.star
        args = item if star else (item,)
        place = self._place(position)
        try:
            entry, found = self._journal.enter(self._met, args, {}, self.options, place)
        except BadKey as bad:
            return Refused(bad.error)
        if found:
            assert entry is not None  # what has no key is not found
            if not is_steady(item, star):
                packed = pack(item, f"item {position}", self._event_loop)
                item = item if packed.buffers or packed.found else packed
            return Stored(self, item, position, entry, found)
        more = entry is not None and (entry.replaces or entry.inputs)
        if entry is not None and (more or entry.given is not None):
            self._entries[len(self._positions)] = entry
        self._keys += NO_KEY if entry is None else entry.key
        self._positions.append(position)
        return None

    def rerun(self, stored: Stored) -> Any:
        """Have a worker compute a result after all, and return it."""
        event_loop = self._event_loop
        item = stored.item
        if type(item) is Packed:
            item = codec.decode(item.frame)
        args = item if self.source.star else (item,)
        id = next(event_loop.engine.own_ids)
        call = Call(id, self.target, args, {}, self.options, event_loop, self.owner)
        place = self._place(stored.position)
        if place is not None:
            call.place, call.is_simple = (*place, None), False
        call.entry = stored.entry
        if call.buffers:
            event_loop.argument_memory.submit(call.task)
        else:
            event_loop.submit(call.task)
        error = call.exception()
        return Failure(error) if error is not None else call.result()

    def _place(self, position: int) -> Place | None:
        """Return where in the program an item of the user's stands."""
        if self.place is None:
            return None
        entropy, key = self.place
        return entropy, (*key, position)

    # The event loop's side.

    def note_drawn(self, chunk: Task) -> None:
        """The results of a chunk depend on random numbers: file them by their places.

        All of them: which of its items have drawn, is not told.
        """
        size = len(NO_KEY)
        if chunk.start < 0:
            if chunk.start in self._entries:
                self._entries[chunk.start].note_drawn()
            return
        for number in range(chunk.start, chunk.start + chunk.count):
            place = self._place(self._positions[number])
            if place is None or number in self._drawn:
                continue
            self._drawn.add(number)
            own = slice(number * size, (number + 1) * size)
            key = bytes(self._keys[own])
            if key != NO_KEY:
                self._keys[own] = drawn_key(key, place)
            if number in self._entries:
                self._entries[number].note_drawn()

    def record(
        self, chunk: Task, form: int, payload: Any, buffers: Sequence[Any]
    ) -> None:
        """Record the results of a chunk, a list of which came back."""
        if form == LIST and chunk.start < 0:
            entry = self.entry(chunk)
            if entry is not None:
                (value,) = codec.decode(payload)
                self._journal.note(entry, PLAIN, value, ())
            return
        if form == LIST:
            self._journal.note_all(self._records(chunk, payload), chunk.count)
            return
        for at, (own_form, own, sent) in enumerate(split_items(payload, buffers)):
            if own_form == ERROR:
                continue  # it may get another attempt
            entry = self.entry(chunk, at)
            if entry is not None:
                self._journal.note(entry, own_form, own, sent)

    def _records(self, chunk: Task, frame: Any) -> Records:
        start, end = chunk.start, chunk.start + chunk.count
        size = len(NO_KEY)
        items = self.items_of(chunk)
        shown = items if plain_items(items) else None
        entries = {
            at - start: self._entries.pop(at)
            for at in (range(start, end) if self._entries else ())
            if at in self._entries
        }
        for each in entries.values():
            each.settle()  # its inputs may have been done only after it was looked up
        keys = bytes(self._keys[start * size : end * size])
        common = Entry(self._journal, b"", self._met[1], label=self.options.label)
        return Records(common, keys, shown, frame, now(), entries)

    def entry(self, chunk: Task, at: int = 0) -> Entry | None:
        """Return what an item of a chunk is to the journal, None if it has no key."""
        size = len(NO_KEY)
        number = chunk.start + at
        entry = self._entries.pop(number, None)
        if entry is not None or number < 0:
            return entry
        key = bytes(self._keys[number * size : (number + 1) * size])
        if key == NO_KEY:
            return None
        item: Any = self.items_of(chunk)[at]
        args = item if self.source.star and type(item) is not Packed else (item,)
        shown = args if codec.is_plain(args) else None
        label = self.options.label
        return Entry(self._journal, key, self._met[1], args=shown, label=label)


class Refused(Deferred):
    """The error of the user's function for keys, in the place of an item's result."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def fetch(self) -> Any:
        return Failure(self.error)


class Stored(Deferred):
    """A result that is in the journal, in its place among the results of a job.

    Attributes:
        job: The job.
        item: The item, or `Packed`.
        position: Which of the user's items that is.
        entry: What the item is to the journal.
        number: Where the result is.
    """

    __slots__ = ("entry", "item", "job", "number", "position")

    def __init__(
        self, job: RecordedJob, item: Any, position: int, entry: Entry, number: int
    ) -> None:
        self.job = job
        self.item = item
        self.position = position
        self.entry = entry
        self.number = number

    def fetch(self) -> Any:
        try:
            return self.entry.journal.load(self.number, self.entry.key)
        except Damaged:
            return self.job.rerun(self)
