"""`Journal`: what the executor and the event loop see of a journal.

`enter` answers, before a call is submitted, whether its result is there; `record` takes
what came of it, under the event loop's lock, and leaves the writing to the writer's
thread. Two locks: one for the keys (submitting threads), one for the database (the
writer, and who reads a result). Neither is held while the other, or the event loop's,
is taken.
"""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpitasks.errors import JournalError
from mpitasks.journal.folder import Damaged, Folder
from mpitasks.journal.keys import Identity, Keys, Met
from mpitasks.journal.opening import cannot_write, open_locked
from mpitasks.journal.row_text import fit, key_name
from mpitasks.journal.rows import (
    Entry,
    Record,
    Records,
    copied,
    decode_row,
    drawn_key,
    encode_failure,
    now,
    to_row,
)
from mpitasks.journal.store import MOST_NUMBER, FunctionRow, Store, sealed
from mpitasks.journal.summary import Summary
from mpitasks.journal.user_errors import BadKey, key_of_user
from mpitasks.journal.walk import Unkeyable, digest
from mpitasks.journal.writer import QUEUE_BYTES, JournalWriter
from mpitasks.scheduler.events import Complete
from mpitasks.wire import codec
from mpitasks.wire.diagnose import describe
from mpitasks.wire.messages import ERROR, KEPT, PLAIN, Outcomes, Result
from mpitasks.wire.missing_buffers import Missing
from mpitasks.wire.outcomes import Failure

if TYPE_CHECKING:
    from mpitasks.journal.reached import Parts
    from mpitasks.master.event_loop import EventLoop
    from mpitasks.master.functions import Function
    from mpitasks.options import TaskOptions
    from mpitasks.scheduler.events import Action, Event, Task, TaskId
    from mpitasks.task_spec import Place

__all__ = ["MISSING", "Journal", "listen"]

MISSING: Any = object()
"""In the place of an outcome that the journal does not have."""

SEED = "mpitasks seed"
"""The name in the table of functions of a row that holds a seed: no function's."""

_identities: weakref.WeakKeyDictionary[Function, Identity] = weakref.WeakKeyDictionary()
"""What each function was when it was made ready to be sent, in whichever journal."""

CLOSE_SECONDS = 60.0
"""So long the end of a run waits for the disk, before it says what is lost."""


class Journal:
    """An open journal.

    Args:
        path: Its file.
        keep_failures: Whether calls that failed in an earlier run stay failed.
        goes_on: Whether the run goes on without a journal when it cannot be written.
        trust: Whether to use a file that another user could have written.

    Attributes:
        path: As given, absolute.
        summary: What came of the calls so far.
        goes_on: As given.
        error: Why it cannot be written, if it cannot.
        seed: What the random numbers of its last run came from, if that is known.

    Raises:
        JournalError: It cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        keep_failures: bool = False,
        goes_on: bool = False,
        trust: bool = False,
    ) -> None:
        self.path = path.absolute()
        self.summary = Summary(path)
        self._keep_failures = keep_failures
        self.goes_on = goes_on
        self._stop: Callable[[JournalError], None] | None = None
        self.error: JournalError | None = None
        self._closed = False
        self._lock, self._store = open_locked(self.path, self._load, trust=trust)
        self._folder = Folder(
            self._store.path, trust=trust
        )  # beside the file, not beside a link
        self._keys = Keys()
        self._set_up: Parts | Unkeyable = {}
        self._keys_lock = threading.RLock()
        self._last: tuple[Callable[[], Any], Met | None] = lambda: None, None
        self._base_lock = threading.RLock()
        self._writer = JournalWriter(
            self._write, self._cannot_write, str(path), QUEUE_BYTES
        )
        self._writer.start()

    def _load(self, store: Store) -> None:
        """Read all keys."""
        self._functions = store.functions()
        self._numbers = {row.digest: n for n, row in self._functions.items()}
        self._met: dict[bytes, int] = {}  # functions of this run, by digest
        self._found: dict[bytes, int] = {}
        self._stale: dict[bytes, int] = {}  # to be replaced by the next attempt
        self._results: dict[int, int] = {}  # how many there are, by function
        seeds = [row for _, row in sorted(self._functions.items()) if row.name == SEED]
        self.seed: int | None = json.loads(seeds[-1].parts)["seed"] if seeds else None
        for number, key, function, failed in store.index():
            self._results[function] = self._results.get(function, 0) + 1
            if failed and not self._keep_failures:
                self._stale[key] = number
            else:
                self._found[key] = number
        taken = [n for n in self._results if type(n) is int and 0 < n < MOST_NUMBER]
        self._next = max([0, *self._functions, *taken]) + 1

    # For the executor, from any thread.

    def attach(
        self,
        event_loop: EventLoop,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> Parts | Unkeyable:
        """Be told of what is done, and know how to stop the run.

        Args:
            event_loop: The run's.
            initializer: What each process calls before it runs tasks, if anything.
            initargs: Its arguments.

        Returns:
            What the initializer is to keys: for `find` and `meet`.
        """
        self._keys.renew()
        try:
            self._set_up = self._keys.set_up(initializer, initargs)
        except Unkeyable as error:
            self._set_up = error  # so no call has a key
        event_loop.engine.listen(listen, record_failure)
        self._stop = event_loop.abandon
        if self.error is not None and not self.goes_on:
            raise self.error
        return self._set_up

    def note_seed(self, seed: int) -> None:
        """Remember what random numbers come from now, for a run that is not told."""
        if seed == self.seed:
            return
        self.seed = seed
        row = FunctionRow(SEED, digest(b"%d" % seed), json.dumps({"seed": seed}))
        with self._keys_lock:
            number, self._next = self._next, self._next + 1
        self._writer.put((number, row), 0)

    def find(
        self,
        fn: Any,
        target: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
        place: Place | None = None,
        set_up: Parts | Unkeyable | None = None,
    ) -> tuple[Entry | None, Any]:
        """Return where a call is to be recorded, and its outcome, or `MISSING`."""
        met = self.meet(fn, target, set_up)
        if met is None:
            return None, MISSING
        try:
            entry, found = self.enter(met, args, kwargs, options, place)
        except BadKey as bad:
            return None, Failure(bad.error)
        if found:
            assert entry is not None  # what has no key is not found
            try:
                return entry, self.load(found, entry.key)
            except Damaged:
                return entry, MISSING  # it runs again, and replaces that
        return entry, MISSING

    def meet(
        self,
        function: Any,
        target: Function | None = None,
        set_up: Parts | Unkeyable | None = None,
        *,
        renew: bool = False,
    ) -> Met | None:
        """Return what a function is and its number, or None if it has no key.

        Args:
            function: The function.
            target: As it is sent: another object whenever that is another. What it is,
                is told once for each of these.
            set_up: As `attach` has returned it; None for what it returned last.
            renew: Look anew at what changes in place, as a map does.
        """
        if renew:
            self._keys.renew()
        elif target is not None and self._last[0]() is target:
            return self._last[1]
        identity = None if target is None else _identities.get(target)
        if identity is None:
            try:
                if set_up is None:
                    set_up = self._set_up
                if isinstance(set_up, Unkeyable):
                    raise set_up
                identity = self._keys.identify(function).within(set_up)
            except Unkeyable as error:
                shown = _shown(function)  # runs code of the user
                with self._keys_lock:
                    self.summary.unkeyable(shown, str(error))
                return None
            if target is not None:
                _identities[target] = identity
        with self._keys_lock:
            met = identity, self._number(identity)
        if target is not None:
            self._last = weakref.ref(target), met
        return met

    def enter(
        self,
        met: Met,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
        place: Place | None = None,
    ) -> tuple[Entry | None, int]:
        """Return where a call is to be recorded, and the number of its result.

        Args:
            met: Its function.
            args: Its arguments.
            kwargs: Those by name.
            options: What was asked for it.
            place: Where in the program it stands.

        Returns:
            The entry, None if the call has no key; and the row where its result is
            found, 0 if it is not.

        Raises:
            BadKey: The user's function for the key raised.
        """
        identity, function = met
        given = options.key
        inputs: list[Entry] = []
        try:
            if given is None:
                key = self._keys.key(identity, args, kwargs, inputs)
            else:
                if callable(given):
                    given = key_of_user(given, args, kwargs)
                key = self._keys.user_key(identity, given)
        except Unkeyable as error:
            with self._keys_lock:
                self.summary.unkeyable(identity.name, str(error))
            return None, 0
        with self._keys_lock:
            key = self._keys.number(key)
            entry = Entry(self, key, function, place=place, inputs=inputs)
            found = self._look_up(entry)
        name = None if given is None else key_name(given)
        entry.args = args if not kwargs and codec.is_plain(args) else None
        entry.given, entry.label = name, options.label
        return entry, found

    def _look_up(self, entry: Entry) -> int:
        """Return the number of a call's result; note which row it is to replace.

        A result that depends on random numbers of ours was filed by their place, too.
        """
        found = self._found.pop(entry.key, 0)
        entry.replaces = found or self._stale.pop(entry.key, 0)
        if found or entry.place is None or not (self._found or self._stale):
            return found
        drawn = drawn_key(entry.key, entry.place)
        found = self._found.pop(drawn, 0)
        if found:
            entry.note_drawn()
            entry.replaces = found
        elif not entry.replaces:
            entry.replaces = self._stale.pop(drawn, 0)
        return found

    def load(self, number: int, key: bytes) -> Any:
        """Return the result of a key, or the `Failure` that it was.

        Raises:
            Damaged: It is not there any more as it was. That was said.
        """
        try:
            with self._base_lock:
                row = self._store.read(number)
            if row.key != key:
                raise Damaged("its row is of another call")
            value = decode_row(row, self._folder)
        except Damaged as error:
            self.summary.damaged(str(error))
            raise
        self.summary.came_back += 1
        return value

    # For the event loop, under its lock.

    def note(
        self, entry: Entry, form: int, payload: Any, buffers: Sequence[Any]
    ) -> None:
        """Record the outcome of a call."""
        if entry.inputs:
            entry.settle()
            entry.inputs = ()
        record = Record(entry, form, payload, buffers, now())
        nbytes = record.nbytes()
        if buffers and nbytes <= QUEUE_BYTES:
            record.buffers = copied(buffers)
        self.summary.note(failed=form == ERROR)
        self._writer.put(record, nbytes)
        if nbytes > QUEUE_BYTES:
            self._writer.flush(float("inf"))  # there is no room for a copy

    def note_all(self, records: Records, count: int) -> None:
        """Record the outcomes of a chunk of plain results."""
        self.summary.note(count=count)
        self._writer.put(records, len(records.frame) + count * 300)

    # For the end.

    def flush(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Have everything on disk now; return whether it is."""
        return self._closed or self._writer.flush(seconds)

    def settle(self, seconds: float) -> None:
        """Have everything on disk, as long as the disk moves.

        Raises:
            JournalError: It could not be written, and the run was to stop then; or the
                disk has not moved for that many seconds.
        """
        written = -1
        while self._error() is None and not self.flush(seconds):
            if self.summary.written == written:
                self.error = JournalError(
                    f"the journal {self.path} was not written: its disk has not moved "
                    f"for {seconds:.0f} s; look after it and run the same command "
                    f"again"
                )
            written = self.summary.written
        error = self._error()
        if error is not None and not self.goes_on:
            raise error

    def close(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Write what is left, close, and print the summary; return whether all is well.

        May be called again.
        """
        if self._closed:
            return self.error is None
        self._closed = True
        written = self._writer.stop(seconds)
        if written or self._writer.error is not None:
            with self._base_lock:
                self._store.close()
            self._lock.release()
        elif self.error is None:
            self.error = JournalError(
                f"the journal {self.path} was not written within {seconds:.0f} s"
            )
        self.summary.print(None if self.error is None else str(self.error))
        return self.error is None or self.goes_on

    def _number(self, identity: Identity) -> int:
        """Return the number of a function; say once if it is not what it was."""
        known = self._met.get(identity.digest)
        if known is not None:
            return known
        number = self._numbers.get(identity.digest)
        if number is None:
            number, self._next = self._next, self._next + 1
            parts = {name: part.hex()[:8] for name, part in identity.parts.items()}
            name = fit(identity.name)
            row = FunctionRow(name, identity.digest, json.dumps(parts))
            older = {n: f for n, f in self._functions.items() if f.name == name}
            unused = sum(self._results.get(n, 0) for n in older)
            if unused:
                latest = json.loads(older[max(older)].parts)
                self.summary.changed(identity.name, latest, parts, unused)
            self._writer.put((number, row), 0)
        self._met[identity.digest] = number
        return number

    # In the writer's thread.

    def _write(self, items: list[Any]) -> None:
        functions = []
        rows = []
        replaced = []
        for record in _records(items):
            if not isinstance(record, Record):
                functions.append(record)
                continue
            try:
                rows.append(sealed(to_row(record, self._folder)))
            except (ValueError, TypeError, RecursionError) as error:
                self.summary.refused(describe(error))
                continue
            if record.entry.replaces:
                replaced.append(record.entry.replaces)
        self._folder.sync()
        with self._base_lock:
            self._store.write(rows, replaced=replaced, functions=functions)
        self.summary.written += len(rows)

    def _error(self) -> JournalError | None:
        """Return why it is not written, also before the writer's thread has said so."""
        if self.error is None and self._writer.error is not None:
            self.error = cannot_write(self.path, self._writer.error)
        return self.error

    def _cannot_write(self, error: Exception) -> None:
        self.error = cannot_write(self.path, error)
        self.error.__cause__ = error
        if self.goes_on:
            self.summary.goes_on(str(error))
        elif self._stop is not None:
            self._stop(self.error)


def _shown(function: Any) -> str:
    """Return what messages call a function, which may not even have a `repr`."""
    try:
        return repr(function)
    except BaseException:
        return f"a {type(function).__qualname__}"


def _records(items: list[Any]) -> Iterator[Any]:
    for item in items:
        if type(item) is Records:
            yield from item.singly()
        else:
            yield item


def listen(now: float, event: Event, actions: Sequence[Action]) -> None:
    """Record the results in a report of the tasks that have a place in a journal.

    A listener of the engine: under the event loop's lock, before anything of the report
    is decoded.
    """
    for action in actions:
        if type(action) is not Complete:
            continue
        if type(event) is Result:
            _record(action.tasks[0], event.form, event.value, ())
        elif isinstance(event, Outcomes):
            _record_all(action.tasks, event)


def _record_all(tasks: Sequence[Task | None], outcomes: Outcomes) -> None:
    buffers = outcomes.buffers
    forms = outcomes.forms
    start = 0
    if outcomes.drawn:
        _note_drawn(tasks, set(outcomes.drawn))
    for at, task in enumerate(tasks):
        form, count = forms.get(at, (PLAIN, 0))
        own = buffers[start : start + count]
        start += count
        if form != ERROR and not _missing(own):  # else it may get another attempt
            _record(task, form, outcomes.values[at], own)


def _record(task: Task | None, form: int, value: Any, buffers: Sequence[Any]) -> None:
    if task is None:
        return
    payload = task.payload
    if payload.is_call:
        entry = payload.entry
        if entry is None:
            return
        if form == KEPT:  # it stays where it is; the next run makes it again
            entry.settle()
            entry.inputs = ()
            return
        entry.journal.note(entry, form, value, buffers)
    elif payload.is_recorded:
        payload.record(task, form, value, buffers)


def _note_drawn(tasks: Sequence[Task | None], drawn: set[TaskId]) -> None:
    """File by their places what depends on random numbers of ours."""
    for task in tasks:
        if task is None or task.id not in drawn:
            continue
        payload = task.payload
        if payload.is_call:
            if payload.entry is not None:
                payload.entry.note_drawn()
        elif payload.is_recorded:
            payload.note_drawn(task)


def _missing(buffers: Sequence[Any]) -> bool:
    """Whether a result did not fit into memory."""
    return any(type(buffer) is Missing for buffer in buffers)


def record_failure(task: Task, error: BaseException) -> Callable[[], None]:
    """Return what records that a task of one item failed for good.

    Encoding the error runs code of the user: not for under the lock, as what is
    returned is.
    """
    form, payload, buffers = encode_failure(error)

    def note() -> None:
        entry = _entry_of(task)
        if entry is not None:
            entry.journal.note(entry, form, payload, buffers)

    return note


def _entry_of(task: Task) -> Entry | None:
    payload = task.payload
    if payload.is_call:
        entry: Entry | None = payload.entry
        return entry
    return payload.entry(task) if payload.is_recorded else None
