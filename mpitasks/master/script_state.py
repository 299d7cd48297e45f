"""What rank 0 knows of the script: which globals were sent, and in which version.

A global that tasks need is sent as a `Definition`: a frame that makes it. There is one
for each version of it. Workers put them into a module ``__main__`` of their own
(`mpitasks.runner.mirror`), and go from one version to another as the calls want it that
they run, which have those of the moment at which they were submitted.

Pickling runs code of the user, so nothing here is called under a lock.
"""

from __future__ import annotations

import itertools
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.wire import codec, rebuild
from mpitasks.wire.change_detection import ABSENT, Watch
from mpitasks.wire.immutables import settled
from mpitasks.wire.node_memory import in_block

if TYPE_CHECKING:
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.script_pickle import ScriptPickler

__all__ = [
    "Definition",
    "Globals",
    "Tracked",
    "copies_of",
    "same_bytes",
    "watch_of",
    "with_needs",
]

BASICS = ("__file__", "__package__", "__spec__", "__doc__")
"""What a module has beside its names: goes along with the first of these."""

NEVER_SENT = frozenset(
    {"__builtins__", "__name__", "__loader__", "__cached__", "__annotations__"}
)

COMPARED_BYTES = 1 << 20

QUICK, FRAMES, WHOLE = range(3)
"""How a global is compared with what was sent: by its `Watch` alone; also by its frame,
if the watch does not see all, and by where its large arrays are; or by what is in them
as well."""


class Definition:
    """Something that a worker is sent once: a function, or a global of the script.

    Attributes:
        id: What messages call it; unique in the run.
        name: The global that it is; None for what tasks call.
        frame: Its pickle frame.
        buffers: What travels beside the frame; nobody else's memory.
        needs: The definitions that must be there first.
        head: What makes a class without its attributes, if it is one.
        refers: Globals whose objects its own objects hold; of what tasks call, those
            that it refers to but the script has no longer.
        nbytes: What it weighs.
    """

    __slots__ = (
        "__weakref__",
        "_dropped",
        "buffers",
        "frame",
        "head",
        "id",
        "name",
        "nbytes",
        "needs",
        "refers",
    )

    def __init__(
        self,
        id: int,
        name: str | None,
        frame: bytes,
        buffers: list[Buffer],
        dropped: deque[int],
    ) -> None:
        self.id = id
        self.name = name
        self.frame = frame
        self.buffers = buffers
        self.needs: tuple[Definition, ...] = ()
        self.head: bytes | None = None
        self.refers: tuple[str, ...] = ()
        self.nbytes = len(frame) + sum(buffer.nbytes for buffer in buffers)
        self._dropped = dropped

    def __del__(self) -> None:
        self._dropped.append(self.id)  # may run in any thread, at any time


def with_needs(definitions: Iterable[Definition]) -> Iterator[Definition]:
    """Yield definitions, each behind those that it needs."""
    for definition in definitions:
        yield from with_needs(definition.needs)
        yield definition


class Tracked:
    """A global of the script, as it was sent last.

    Attributes:
        definition: How it was sent.
        value: What it was.
        buffers: The memory of its large arrays.
        names: Globals that its own definition refers to.
        watch: Notices changes of it.
        notes: What the pickler noted.
        settled: Whether the watch sees every change.
        order: What workers are to load first.
        epoch: When it was last compared in full.
    """

    __slots__ = (
        "buffers",
        "definition",
        "epoch",
        "names",
        "notes",
        "order",
        "settled",
        "value",
        "watch",
    )

    def __init__(
        self,
        definition: Definition,
        value: Any,
        buffers: list[Buffer],
        notes: ScriptPickler,
        watch: Watch,
        epoch: int,
    ) -> None:
        self.epoch = epoch
        kind = (types.FunctionType, type, types.ModuleType)
        self.order = 0 if isinstance(value, kind) else 2 - settled(value)
        self.definition = definition
        self.value = value
        self.buffers = buffers
        notes.clear_memo()  # or the objects that were pickled would live on
        self.notes = notes
        self.names = [*notes.names]
        self.watch = watch
        self.settled = watch.settled and settled(value) and notes.watched


class Globals:
    """The globals of the script that were sent.

    Args:
        ids: Where definitions get their ids from.
        dropped: Gets the ids of definitions that nobody on rank 0 needs any more.
        on_replaced: Called with a definition that the script has no use for now.

    Attributes:
        epoch: Each global is compared in full once in each.
    """

    def __init__(
        self,
        ids: Iterable[int],
        dropped: deque[int],
        on_replaced: Callable[[Definition], None] = lambda definition: None,
    ) -> None:
        self._on_replaced = on_replaced
        self._ids = iter(ids)
        self._dropped = dropped
        self._tracked: dict[str, Tracked] = {}
        self._sent: set[str] = set()  # names
        self.epoch = 0

    def resolve(self, names: Iterable[str], level: int) -> dict[str, Tracked]:
        """Return the definitions of globals, and of all that these refer to, as of now.

        Args:
            names: The globals. Those that do not exist are left out.
            level: How they are compared with what was sent: `QUICK`, `FRAMES`, `WHOLE`.

        Raises:
            SerializationError: One of them cannot be pickled.
        """
        main = rebuild.side().module().__dict__
        found: dict[str, Tracked] = {}
        todo = [*names]
        if todo:
            todo += BASICS
        while todo:
            name = todo.pop()
            value = main.get(name, ABSENT)
            if name in found or value is ABSENT or name in NEVER_SENT:
                continue
            tracked = self._tracked.get(name)
            if (
                tracked is None
                or tracked.value is not value
                or not tracked.watch.same()
            ):
                tracked = self._define(main, name, value, tracked, level)
            elif not tracked.settled and (level or tracked.epoch != self.epoch):
                if tracked.epoch != self.epoch:
                    level = WHOLE
                tracked = self._define(main, name, value, tracked, level)
            found[name] = tracked
            todo += tracked.names
        # Code first: to unpickle data may run it.
        return dict(sorted(found.items(), key=lambda item: item[1].order))

    def missing(
        self, names: Iterable[str], tracked: Iterable[Tracked]
    ) -> tuple[str, ...]:
        """Return globals that workers may have, but the script has no longer.

        Args:
            names: The globals that something refers to.
            tracked: Those of them that exist, and what these refer to.
        """
        found = {each.definition.name for each in tracked}
        wanted = {*names, *itertools.chain(*(each.names for each in tracked))}
        return tuple(sorted((wanted - found) & self._sent))

    def forget_missing(self) -> None:
        """Let go of what the script has deleted or bound to something else."""
        main = rebuild.side().module().__dict__
        for name, tracked in [*self._tracked.items()]:
            if main.get(name, ABSENT) is not tracked.value:
                self._tracked.pop(name, None)
                self._replaced(tracked)

    def _replaced(self, old: Tracked) -> None:
        self._on_replaced(old.definition)

    def _define(
        self,
        main: dict[str, Any],
        name: str,
        value: Any,
        last: Tracked | None,
        level: int,
    ) -> Tracked:
        frame, buffers, notes, head = codec.encode_global(name, value)
        watch = watch_of(main, notes.refers, [notes], [value])
        if (
            last is not None
            and (last.value is value or not _is_identity(value))
            and frame == last.definition.frame
            and head == last.definition.head
            and (
                (
                    level < WHOLE
                    and last.value is value
                    and _same_places(buffers, last.buffers)
                )
                or same_bytes(buffers, last.definition.buffers)
            )
        ):
            definition = last.definition
        else:
            copies = copies_of(buffers)
            definition = Definition(next(self._ids), name, frame, copies, self._dropped)
            definition.head = head
            definition.refers = tuple(notes.refers)
        if last is not None and last.definition is not definition:
            self._replaced(last)
        tracked = Tracked(definition, value, buffers, notes, watch, self.epoch)
        self._tracked[name] = tracked
        self._sent.add(name)
        return tracked


def _is_identity(value: Any) -> bool:
    """Whether nothing but its identity tells an object from another."""
    return type(value) is object


def watch_of(
    main: dict[str, Any],
    names: Iterable[str],
    notes: Iterable[ScriptPickler],
    values: Iterable[Any] = (),
    seen: Mapping[str, Any] | None = None,
    root: Any = None,
) -> Watch:
    """Return what notices changes of all that some picklers have noted."""
    noted = [*notes]
    return Watch(
        main,
        names,
        itertools.chain.from_iterable(each.functions for each in noted),
        itertools.chain.from_iterable(each.classes for each in noted),
        itertools.chain(values, *(each.parts for each in noted)),
        seen,
        root,
    )


def copies_of(buffers: Sequence[Buffer]) -> list[Buffer]:
    """Return copies that stay as they are, whatever becomes of the user's arrays.

    Large ones are in blocks, which workers of this machine map.
    """
    return [in_block(buffer) or memoryview(bytearray(buffer)) for buffer in buffers]


def _same_places(buffers: Sequence[Buffer], others: Sequence[Buffer]) -> bool:
    """Whether buffers are the same memory."""
    return [*map(_place, buffers)] == [*map(_place, others)]


def _place(buffer: Buffer) -> tuple[int, int]:
    import numpy as np

    address = np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]
    return int(address), buffer.nbytes


def same_bytes(buffers: Sequence[Buffer], others: Sequence[Buffer]) -> bool:
    """Whether buffers have the same contents."""
    if len(buffers) != len(others):
        return False
    return all(map(_same, buffers, others))


def _same(one: Buffer, other: Buffer) -> bool:
    import numpy as np  # what sends large buffers has mostly loaded it

    if one.nbytes != other.nbytes:
        return False
    left = np.frombuffer(one, np.uint8)
    right = np.frombuffer(other, np.uint8)
    for start in range(0, left.size, COMPARED_BYTES):
        end = start + COMPARED_BYTES
        if not np.array_equal(left[start:end], right[start:end]):
            return False
    return True
