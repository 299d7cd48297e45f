"""A bulk job: what stands behind `map` and its relatives.

One object holds the items that wait and those at work. There is no future, event or
lock for an item: the scheduler cuts chunks off as workers want them, and results come
back as lists. `ItemSource` has the items that were not taken from the user's iterable
yet, `JobResults` the results that were not handed out yet, and
`mpitasks.scheduler.events.Bulk` is the scheduler's side of a job.

Items are numbered in the order in which they are sent. Their positions, which the user
knows, are the same numbers as long as none is left out of the line, since its result is
found in a journal, or since it needs the results of other tasks. One that does is set
aside: it gets a number below zero, and a task of its own, which waits for them.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from itertools import chain
from typing import TYPE_CHECKING, Any

from mpitasks.errors import SerializationError, TooManyFailures
from mpitasks.master.argument_memory import ArgumentMemory
from mpitasks.master.inputs import CANCELLED, SOME, Inputs
from mpitasks.master.item_source import ItemSource, Packed, pack, unsendable
from mpitasks.master.job_results import JobResults
from mpitasks.master.payloads import History, named
from mpitasks.scheduler.events import Bulk, Task
from mpitasks.wire import codec
from mpitasks.wire.diagnose import describe
from mpitasks.wire.messages import MAP, MAP_PLAIN, STARMAP, STARMAP_PLAIN
from mpitasks.wire.outcomes import Failure, error_of, has_failed

if TYPE_CHECKING:
    from mpitasks.master.functions import Function
    from mpitasks.master.script_state import Definition
    from mpitasks.options import TaskOptions
    from mpitasks.scheduler.events import TaskId
    from mpitasks.task_spec import Place
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.outcomes import Name

__all__ = ["BulkJob"]


class BulkJob:
    """A function and its many items: the payload of its chunks.

    The thread that consumes the results calls `pull`, `take` and `close`; everything
    else is called under the event loop's lock.

    Attributes:
        bulk: What the scheduler knows of it.
        source: The items that were not taken yet.
        results: The results that were not handed out yet.
        options: What was asked for its items.
        owner: Whose it is: an Executor's handle.
        place: Where in the program it stands; None if that is not known.
        pulled: How many items were taken from the source.
        aside: Items that need results of other tasks and have no task yet, by numbers.
        waiting: The tasks of those that have.
        closed: Whether its results are no longer wanted.
        halted: Makes the error that ends it early, if too many of its items failed, or
            the initializer. The consuming thread calls it: it may decode an outcome.
    """

    __slots__ = (
        "_base",
        "_cut",
        "_delivered",
        "_dropped",
        "_failures",
        "_histories",
        "_inputs",
        "_items",
        "_positions",
        "_sent",
        "_set_aside",
        "_shares",
        "_target_sent",
        "_targets",
        "aside",
        "bulk",
        "closed",
        "halted",
        "options",
        "owner",
        "place",
        "pulled",
        "results",
        "source",
        "waiting",
    )

    is_call = is_simple = is_recorded = False
    wire = None

    def __init__(
        self,
        target: Function,
        iterable: Iterable[Any],
        *,
        star: bool,
        ordered: bool,
        options: TaskOptions,
        owner: object = None,
        place: Place | None = None,
        argument_memory: ArgumentMemory | None = None,
    ) -> None:
        self.bulk = Bulk(
            target.id,
            self,
            chunksize=options.chunksize,
            priority=options.priority,
            task_spec=options.task_spec,
        )
        memory = ArgumentMemory() if argument_memory is None else argument_memory
        self.source = ItemSource(iterable, target, star=star, argument_memory=memory)
        self.results = JobResults(ordered=ordered)
        self.options = options
        self.owner = owner
        self.place = place
        self.pulled = 0
        self.closed = False
        self.halted: Callable[[], BaseException] | None = None
        # Pulled, not yet cut off, from number _base on. A range stays one: its chunks
        # are ranges too, and take no room in a message.
        self._items: list[Any] | range = []
        self._base = 0
        self._cut = 0  # number of the next item to cut off
        # Cut off and not done, by the number of the first: each the items of a task, or
        # of several that were one before.
        self._sent: dict[int, list[Any] | range] = {}
        self._histories: dict[int, History] = {}  # of items that failed, by number
        self._delivered = 0  # items whose results came
        self._dropped = 0  # items cut off that came back and were cancelled
        self._failures = 0
        # Where the items in the line are, by their numbers, once others were left out.
        self._positions: array[int] | None = None
        # Where those are that were set aside: the first has the number -1.
        self._set_aside: list[int] = []
        self.aside: list[tuple[int, Packed]] = []  # those that have no task yet
        self.waiting: dict[int, Task] = {}  # the tasks that they got, until done
        self._inputs: dict[int, Inputs] = {}  # until they are there
        self._targets: dict[int, Function] = {}
        self._shares = False  # whether items need shared objects
        self._target_sent = target  # as the last chunk was encoded

    @property
    def target(self) -> Function:
        """The function as it is sent."""
        return self.source.target

    # The consuming thread's side.

    def pull(self, limit: int | None) -> int:
        """Take up to `limit` items from the source; return how many are to be run.

        It takes fewer if the workers should first have what is there: call it again
        until the source is exhausted. This runs user code, so no lock may be held.

        Args:
            limit: How many at most; None for all.
        """
        source = self.source
        if source.is_exhausted:
            return 0
        whole = source.take_range() if limit is None else None
        if whole is not None:
            self._items = whole
            self.pulled = len(whole)
            return len(whole)
        fresh = source.take(limit, self.pulled, lambda: not self.wanted)
        pulled = self.pulled + len(fresh)
        if source.has_found:
            fresh = self._line_up(fresh)
        self.add(fresh, pulled)
        return len(fresh)

    def _line_up(self, fresh: list[Any]) -> list[Any]:
        """Return the items that need nothing else; set the others aside."""
        start = self.pulled
        if self._positions is None:
            self._positions = array("q", range(start))
        line = []
        for position, item in enumerate(fresh, start):
            if type(item) is Packed and not self.complete(item):
                self.put_aside(item, position)
            else:
                line.append(item)
                self._positions.append(position)
        return line

    def complete(self, item: Packed) -> bool:
        """Put results that are there into an item; return whether it lacks none.

        This runs code of the user.
        """
        found = item.found
        if found is None:
            return True
        if found.fault is not None or not all(one.done() for one in found.futures):
            return False
        if any(one.is_kept for one in found.futures):
            return False  # it goes where that is, and not many of them at once
        item.found = None
        inputs = Inputs()
        source = self.source
        try:
            names = inputs.require(found)
            if names:
                source.target = source.target.including(names)
        except SerializationError as error:
            refused = unsendable(error)
            item.frame, item.buffers = refused.frame, refused.buffers
            return True
        if inputs.lost is not None:  # it was cancelled, or failed, just now
            item.found = found
            return False
        self._put(inputs, item)
        return True

    def put_aside(self, item: Packed, position: int) -> int:
        """Take an item that needs results of other tasks; return its number."""
        self._set_aside.append(position)
        number = -len(self._set_aside)
        self.aside.append((number, item))
        return number

    def set_aside(self, ids: Iterator[TaskId]) -> Iterator[Task]:
        """Yield a task for each item that was set aside.

        This runs code of the user: results of the script's classes are looked into.

        Args:
            ids: Where they get their ids from.
        """
        while self.aside:
            number, item = self.aside.pop(0)
            task = Task(
                next(ids),
                self.target.id,
                self,
                item.nbytes,
                self.options.priority,
                self.options.task_spec,
                start=number,
            )
            target = self.target
            found, item.found = item.found, None
            assert found is not None
            inputs = Inputs(task)
            try:
                names = inputs.require(found)
                if names:
                    target = target.including(names)
            except SerializationError as error:
                item = unsendable(error)
            else:
                task.inputs = SOME
                self._inputs[number] = inputs
            self.keep(number, item)
            self.widen(task, target)
            task.function = target.id
            self.waiting[number] = task
            yield task

    def add(self, items: list[Any], pulled: int) -> None:
        """Take in items that are ready to be sent.

        Args:
            items: The items.
            pulled: How many items were taken from the source by now.
        """
        assert isinstance(self._items, list)  # a range is pulled as a whole
        self._items.extend(items)
        self.pulled = pulled

    @property
    def unyielded(self) -> int:
        """Items pulled whose results were not handed out yet."""
        return self.pulled - self.results.taken

    @property
    def done(self) -> int:
        """Items whose results are there, handed out or not."""
        return self._delivered

    @property
    def failures(self) -> int:
        """How many of these failed."""
        return self._failures

    @property
    def exhausted(self) -> bool:
        """Whether every item was pulled and every result handed out."""
        return self.source.is_exhausted and self.results.taken == self.pulled

    @property
    def abandoned(self) -> bool:
        """Whether it was cancelled, and nothing more will arrive."""
        given_up = self.bulk.cancelled or self._dropped > 0
        begun = self._cut + len(self._set_aside) - len(self.aside)
        return given_up and self._delivered + self._dropped == begun

    @property
    def wanted(self) -> bool:
        """Whether what it still lacks is worth another attempt."""
        return not (self.closed or self.bulk.cancelled or self.halted is not None)

    def settled(self) -> bool:
        """Whether there is no point in waiting."""
        return self.results.has_news() or self.abandoned or self.halted is not None

    def close(self) -> None:
        """Let go of everything: the results are no longer wanted."""
        self.closed = True
        self.source.close()
        self.results.clear()

    def let_go(self) -> None:
        """Let go of the items: it was cancelled, and none of them will be sent."""
        self._items = []
        self.aside = []
        self.waiting = {}

    def sizes(self, count: int) -> list[int]:
        """Return what each of the last items weighs; nothing if all are small.

        Args:
            count: How many of those that were pulled last.
        """
        items = self._items
        if type(items) is range:
            return []
        items = items[-count:]  # at once: another thread may take others off the front
        if codec.SCALARS.issuperset(map(type, items)):
            return []
        return [_nbytes(item) for item in items]

    # The event loop's side.

    def items_of(self, task: Task) -> list[Any] | range:
        """Return the items of a task."""
        items = self._sent.get(task.start)
        if items is None:
            if task.start < self._cut:
                items = self._divide(task.start)
            else:
                items = self._cut_off(task.count)
            self._sent[task.start] = items
        return items if len(items) == task.count else items[: task.count]

    def _cut_off(self, count: int) -> list[Any] | range:
        """Take the next items off those that wait."""
        offset = self._cut - self._base
        items = self._items[offset : offset + count]
        self._cut += count
        if type(self._items) is list and (
            self.source.has_packed or offset + count > len(self._items) // 2
        ):
            # Let go of what is cut off: at once, if it may be large.
            del self._items[: offset + count]
            self._base = self._cut
        return items

    def _divide(self, start: int) -> list[Any] | range:
        """Take the end off the items of a task, which was split there."""
        for first, items in self._sent.items():
            if first < start < first + len(items):
                self._sent[first] = items[: start - first]
                return items[start - first :]
        raise AssertionError(f"nothing was sent of item {start}")

    def release(self, task: Task) -> list[Any] | range:
        """Let go of the items of a task, which is done; return them."""
        items = self.items_of(task)
        sent = self._sent.pop(task.start)
        if len(sent) > task.count:
            self._sent[task.start + task.count] = sent[task.count :]
        return items

    def keep(self, number: int, item: Any) -> None:
        """Keep an item of a task that is done: it may get another attempt."""
        self._sent[number] = [item]

    def encode(self, task: Task) -> tuple[tuple[Any, ...], Any, list[Buffer]]:
        """Return a chunk as it stands in a message, its place, and its buffers."""
        items = self.items_of(task)
        target = self._target_sent = self._targets.get(task.start, self.target)
        place = None if self.place is None else (*self.place, self._indices(task))
        if self._plain(items):
            mode = STARMAP_PLAIN if self.source.star else MAP_PLAIN
            frame = codec.encode_plain(items)
            return (task.id, target.id, mode, frame, 0), place, []
        entries = []
        buffers: list[Buffer] = []
        positions = self.positions(task.start, task.count)
        for position, item in zip(positions, items, strict=True):
            if type(item) is not Packed:  # and so runs no code of the user
                item = pack(item, f"item {position}")
            entries.append((item.frame, len(item.buffers)))
            buffers += item.buffers
        mode = STARMAP if self.source.star else MAP
        wire = task.id, target.id, mode, entries, len(buffers)
        return wire, place, buffers

    def history(self, task: Task) -> History | None:
        """Return what became of earlier attempts at an item."""
        return self._histories.get(task.start)

    def try_again(self, task: Task, history: History) -> None:
        """Take note that this task is the next attempt at an item."""
        self._histories[task.start] = history

    def is_sendable(self) -> bool:
        """Whether another attempt can be sent."""
        return True

    def describe(self, task: Task) -> str:
        """Return what messages call a chunk."""
        return self.name_of(task)()

    def name_of(self, task: Task) -> Name:
        """Return what tells what messages call a chunk."""
        positions = self.positions(task.start, task.count)
        ends = positions[0], positions[-1]
        return functools.partial(_name, *ends, self.options, self.target.label)

    def positions(self, start: int, count: int) -> Sequence[int]:
        """Return which of the user's items these are.

        Args:
            start: The number of the first.
            count: How many of them.
        """
        if start < 0:
            return [self._set_aside[~start]]
        if self._positions is None:
            return range(start, start + count)
        return self._positions[start : start + count]

    def target_of(self, task: Task) -> Function:
        """Return the function of a task: of a chunk, as it was just encoded."""
        return self._targets.get(task.start, self._target_sent)

    def needs_of(self, task: Task) -> Sequence[Definition]:
        """Return the shared objects that the items of a task need."""
        if not self._shares:
            return ()
        items = self.items_of(task)
        packed = [item for item in items if type(item) is Packed]
        return [*{need: None for item in packed for need in item.needs}]

    def inputs_of(self, task: Task) -> Inputs:
        """Return what an item that was set aside needs of other tasks."""
        return self._inputs[task.start]

    def widen(self, task: Task, target: Function) -> None:
        """Take note that such an item needs the function with more globals."""
        self._targets[task.start] = target

    def fill(self, task: Task) -> None:
        """All inputs of such an item are there: make it ready to be sent."""
        inputs = self._inputs.pop(task.start)
        self._put(inputs, self._sent[task.start][0])

    def unfill(self, task: Task) -> Inputs | None:
        """Take all inputs of such an item out again, the reverse of `fill`."""
        items = self._sent.get(task.start)
        if items is None or type(items[0]) is not Packed:
            return None
        item = items[0]
        if type(item.frame) is not tuple:
            return None
        inputs = self._inputs[task.start] = Inputs.again(task, item.frame, item.buffers)
        item.frame, own, _, _ = item.frame
        item.buffers = item.buffers[:own]
        return inputs

    def replace_task(self, task: Task) -> None:
        """The latest attempt at such an item is another task."""
        self.waiting[task.start] = task

    def _put(self, inputs: Inputs, item: Any) -> None:
        """Put results into an item, all of which are there."""
        item.nbytes += inputs.nbytes
        item.frame, item.buffers = inputs.around(item.frame, item.buffers)
        if inputs.needs:
            item.needs = inputs.needs
            self._shares = True

    def _indices(self, task: Task) -> int | list[int]:
        """Return the positions of a task's items; the first alone if in a row."""
        positions = self.positions(task.start, task.count)
        return positions[0] if _are_in_a_row(positions) else list(positions)

    def _plain(self, items: list[Any] | range) -> bool:
        if type(items) is range:
            return True
        star = self.source.star
        if self.source.has_packed and any(type(item) is Packed for item in items):
            return False
        return codec.all_plain(list(chain.from_iterable(items)) if star else items)

    def drop(self, task: Task) -> None:
        """A chunk will not be run."""
        self.release(task)
        lost = self._let_go_of_inputs(task)
        if lost is CANCELLED:
            self.deliver(task.start, [Failure(CancelledError())], mixed=True)
            return
        self._dropped += task.count
        self.results.wake()

    def halt(self, reason: Callable[[], BaseException]) -> None:
        """End it early.

        Args:
            reason: Makes the error that the consuming thread gets.
        """
        self.halted = self.halted or reason
        self.results.wake()

    def give(self, task: Task, outcome: Any) -> None:
        """Give an item the failure that it ended with."""
        self.release(task)
        self._let_go_of_inputs(task)
        self._histories.pop(task.start, None)
        self.deliver(task.start, [outcome], mixed=True)

    def _let_go_of_inputs(self, task: Task) -> Any:
        """Let go of what an item was waiting for; return why it did so in vain."""
        inputs = self._inputs.pop(task.start, None)
        if inputs is None:
            return None
        inputs.clear()
        return inputs.lost

    def deliver(self, start: int, values: list[Any], *, mixed: bool) -> None:
        """Take results in.

        Args:
            start: The number of the first.
            values: The results of that item and those after it.
            mixed: Whether a `Failure`, or a `Deferred` result, may be among them.
        """
        if values and not self.closed:
            if mixed:
                self._count_failures(values)
            positions = self.positions(start, len(values))
            if _are_in_a_row(positions):
                self.results.put(positions[0], values, mixed=mixed)
            else:
                for at, end in _rows(positions):
                    self.results.put(positions[at], values[at:end], mixed=mixed)
        if start < 0:
            self._targets.pop(start, None)
            self.waiting.pop(start, None)
        self._delivered += len(values)  # last: then it may count as abandoned
        if self.bulk.cancelled:
            self.results.wake()

    def _count_failures(self, values: list[Any]) -> None:
        failures = [value for value in values if has_failed(value)]
        self._failures += len(failures)
        if not failures or self.halted is not None:
            return
        options = self.options
        if options.fail_fast:
            self.halted = functools.partial(error_of, failures[0])
        elif options.max_failures is not None and self._failures > options.max_failures:
            self.halted = functools.partial(
                _too_many, self._failures, options.max_failures, failures[-1]
            )


def _name(first: int, last: int, options: TaskOptions, function: str) -> str:
    items = f"item {first}" if first == last else f"items {first} to {last}"
    return f"{items} of a map ({named(options, function)})"


def _are_in_a_row(positions: Sequence[int]) -> bool:
    return positions[-1] - positions[0] == len(positions) - 1


def _rows(positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each part that is in a row."""
    start = 0
    for at in range(1, len(positions)):
        if positions[at] != positions[at - 1] + 1:
            yield start, at
            start = at
    yield start, len(positions)


def _too_many(failures: int, allowed: int, last: Any) -> TooManyFailures:
    cause = error_of(last)
    error = TooManyFailures(
        f"{failures} items failed, and max_failures={allowed} allows no more; the last "
        f"was: {describe(cause)}"
    )
    error.__cause__ = cause
    return error


def _nbytes(item: Any) -> int:
    """Return the size of an item as it was pulled."""
    if type(item) is Packed:
        return item.nbytes
    if type(item) is tuple:
        return sum(map(_nbytes, item))
    return len(item) if type(item) in (bytes, str) else 0
