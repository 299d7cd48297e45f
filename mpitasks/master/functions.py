"""Functions on their way to the workers: each is sent once, as long as it is the same.

`Functions.register` returns a `Function` for whatever can be called: the frame that
makes it on a worker, and the definitions of the globals that it needs there. It is
another one as soon as anything differs that a call could tell: the globals that the
function reads, its defaults, what is in its closure, the attributes of an object that
is called. `mpitasks.master.watch` says how that is noticed, and how soon.

    a function of a module         nothing is looked at: the module is the worker's own
    a function of the script       compared with what it was at each submit
    a partial, a method, an object pickled at each submit, without its large arrays

Large arrays that something holds are copied once, and compared with the copy at each
`map` and at the first use of an Executor. Pickling runs code of the user, so nothing
here is called under a lock.
"""

from __future__ import annotations

import itertools
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from mpitasks.master.memory import Memory
from mpitasks.master.script import (
    BASICS,
    FRAMES,
    NEVER_SENT,
    QUICK,
    WHOLE,
    Definition,
    Globals,
    copies_of,
    watch_of,
)
from mpitasks.wire import codec, rebuild
from mpitasks.wire.messages import INITIALIZER, SURROUNDINGS
from mpitasks.wire.surroundings import Start, changes

if TYPE_CHECKING:
    from mpitasks.master.script import Tracked
    from mpitasks.master.watch import Watch
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.script import ScriptPickler

__all__ = ["Function", "Functions"]


def _always() -> bool:
    return True


def _never() -> bool:
    return False


LARGE_BYTES = 64 << 10
"""A version of a global that weighs more is let go of as soon as there is another; of
others some are kept, for a value that comes back."""

Latest = tuple[Any, Any, Callable[[], bool]]

_NOTHING_YET: Latest = (object(), None, _never)
"""What nobody can submit: None is something that one can, and gets a TypeError for."""


class Function(Definition):
    """A function as it is sent.

    Attributes:
        label: What messages call it.
        names: The globals of the script that it refers to, and those that its
            arguments do.
        epoch: When it was last compared in full.
    """

    __slots__ = ("_variants", "epoch", "label", "names", "owner")

    def __init__(
        self,
        owner: Functions,
        frame: bytes,
        buffers: list[Buffer],
        label: str,
        needs: tuple[Definition, ...],
    ) -> None:
        super().__init__(next(owner.ids), None, frame, buffers, owner.dropped)
        self.owner = owner
        self.label = label
        self.needs = needs
        self.names: frozenset[str] = frozenset()
        self.epoch = owner.epoch
        self._variants: dict[frozenset[str], Known] = {}

    def including(self, names: Iterable[str], *, whole: bool = False) -> Function:
        """Return the same function for calls whose arguments refer to some globals.

        Args:
            names: The globals.
            whole: Whether to look into large containers and arrays as well.

        Raises:
            SerializationError: One of them cannot be pickled.
        """
        wanted = self.names.union(names)
        if wanted == self.names:
            return self
        known = self._variants.get(wanted)
        if known is None or not known.valid(self.owner.epoch, whole=whole):
            known = self.owner.widen(self, wanted, whole=whole)
            self._variants[wanted] = known
        return known.function


class Known:
    """What an object was when it was registered: two may be sent as one function.

    Attributes:
        function: How it is sent.
        watch: Notices changes of what it was made of; None if nothing can change.
        settled: Whether the watch sees every change.
        epoch: When it was last compared in full.
    """

    __slots__ = ("epoch", "function", "settled", "watch")

    def __init__(
        self, function: Function, watch: Watch | None, settled: bool, epoch: int
    ) -> None:
        self.function = function
        self.watch = watch
        self.settled = settled
        self.epoch = epoch

    def valid(self, epoch: int, *, whole: bool) -> bool:
        """Whether the object is known to be what it was."""
        watch = self.watch
        return watch is None or (
            (self.settled or (not whole and self.epoch == epoch)) and watch.same()
        )


class Functions:
    """The functions of a run. Safe to call from several threads.

    Attributes:
        ids: Where definitions get their ids from.
        dropped: Ids of definitions that nobody here needs any more.
        latest: The function that was registered again last, how it is sent, and what
            tells whether that still holds for a `submit`: which saves it a look-up.
        epoch: Each function is compared in full once in each.
    """

    def __init__(self) -> None:
        self.ids = itertools.count()
        self.dropped: deque[int] = deque()
        self.epoch = 0
        self._globals = Globals(self.ids, self.dropped, self._forget_users)
        self._start = Start()
        self._set_up: tuple[Definition, ...] = ()  # what every function needs
        self._found: dict[str, Any] = {}
        self._opened = True  # since what surrounds the script was looked at
        self._by_object: weakref.WeakKeyDictionary[Any, Known] = (
            weakref.WeakKeyDictionary()
        )
        self._memory = Memory()
        self.latest: Latest = _NOTHING_YET

    def open(
        self, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]
    ) -> None:
        """Start anew for an Executor: compare each function in full when it comes.

        Args:
            initializer: What every process that runs tasks calls first, if anything.
            initargs: Its arguments.

        Raises:
            SerializationError: They cannot be pickled.
        """
        self.epoch = self._globals.epoch = self.epoch + 1
        self._globals.forget_missing()
        around = self._around()
        if initializer is not None:
            call = initializer, initargs
            around = (*around, self._define(INITIALIZER, call, around))
        self._set_up_by(around)
        self._opened = True

    def _around(self) -> tuple[Definition, ...]:
        """Return what tells workers what the script has changed around itself."""
        found = changes(self._start, self._found)
        if _same_around(found, self._found):
            return tuple(each for each in self._set_up if each.name == SURROUNDINGS)
        self._found = found
        return (self._define(SURROUNDINGS, found, ()),) if found else ()

    def _set_up_by(self, set_up: tuple[Definition, ...]) -> None:
        self.latest = _NOTHING_YET
        if set_up != self._set_up:
            self._set_up = set_up
            self._by_object.clear()

    def _look_around(self) -> None:
        """Look once more, when the first function comes: it may have been prepared."""
        self._opened = False
        around = self._around()
        initializers = [each for each in self._set_up if each.name == INITIALIZER]
        for each in initializers:  # which was not sent yet
            rest = [need for need in each.needs if need.name != SURROUNDINGS]
            each.needs = (*around, *rest)
        self._set_up_by((*around, *initializers))

    def _forget_users(self, old: Definition) -> None:
        """Forget the functions that need a version of a global that is no more."""
        self.latest = _NOTHING_YET
        if old.nbytes > LARGE_BYTES:
            self._memory.forget_users(old)
        try:
            for function, known in [*self._by_object.items()]:
                if old in known.function.needs:
                    self._by_object.pop(function, None)
        except RuntimeError:  # another thread has registered one meanwhile
            self._by_object.clear()

    def register(
        self, function: Callable[..., Any], *, whole: bool = False
    ) -> Function:
        """Return the function as it is sent.

        Args:
            function: Whatever can be called.
            whole: Whether to look into large containers and arrays as well.

        Raises:
            SerializationError: It cannot be pickled.
        """
        if self._opened:
            self._look_around()
        known = self._by_object.get(function) if _is_kept(function) else None
        if known is None or not known.valid(self.epoch, whole=whole):
            known, watched = self._capture(function, whole=whole)
            self.latest = _NOTHING_YET  # it may be this function, as it was
            if watched:
                self._by_object[function] = known
            return known.function
        watch = known.watch
        same = _always if watch is None else watch.same
        self.latest = function, known.function, same
        return known.function

    def widen(self, entry: Function, names: frozenset[str], *, whole: bool) -> Known:
        """Return a function for calls whose arguments refer to more globals."""
        level = WHOLE if whole else QUICK
        tracked = [*self._globals.resolve(names - entry.names, level).values()]
        # What the function itself needs stays as it was when that was registered.
        own = {need.name for need in entry.needs}
        more = [each.definition for each in tracked if each.definition.name not in own]
        needs = (*entry.needs, *more)
        wider = Function(self, entry.frame, entry.buffers, entry.label, needs)
        missing = self._globals.missing(names - entry.names, tracked)
        wider.refers = tuple(dict.fromkeys((*entry.refers, *missing)))
        wider.names = names
        return self._known(wider, names - entry.names, [], tracked)

    def _capture(
        self, function: Callable[..., Any], *, whole: bool
    ) -> tuple[Known, bool]:
        """Return the function as it is now; and whether its changes can be noticed."""
        frame, buffers, notes = codec.encode_noting(function, "the function", kept=True)
        names = frozenset(() if notes is None else notes.names)
        watched = _is_kept(function) and (notes is None or notes.watched)
        level = WHOLE if whole else QUICK if watched else FRAMES
        tracked = [*self._globals.resolve(names, level).values()]
        needs = (*self._set_up, *[each.definition for each in tracked])
        missing = self._globals.missing(names, tracked)
        key = (frame, missing, *sorted([need.id for need in needs]))
        memory = self._memory
        fresh = watched and self._by_object.get(function) is None
        entry = memory.find(key, buffers, self.epoch, whole=whole or fresh)
        if entry is None:
            label = getattr(function, "__qualname__", None) or repr(type(function))
            copies = memory.copies(buffers)
            entry = Function(self, frame, copies, str(label), needs)
            held = () if notes is None else notes.refers
            entry.refers = (*held, *missing)
            entry.names = names
            memory.keep(key, buffers, entry)
        entry.epoch = self.epoch
        if notes is None:
            return Known(entry, None, True, self.epoch), watched
        return self._known(entry, names, [notes], tracked, function), watched

    def _define(
        self, name: str, value: Any, before: tuple[Definition, ...]
    ) -> Definition:
        """Return what a process is set up by, before it runs tasks."""
        what = "the initializer" if name == INITIALIZER else "what the script has set"
        frame, buffers, notes = codec.encode_noting(value, what, kept=True)
        made = Definition(next(self.ids), name, frame, copies_of(buffers), self.dropped)
        names = () if notes is None else notes.names
        tracked = self._globals.resolve(names, WHOLE).values()
        made.needs = (*before, *[each.definition for each in tracked])
        return made

    def _known(
        self,
        entry: Function,
        names: frozenset[str],
        notes: list[ScriptPickler],
        tracked: list[Tracked],
        own: Any = None,
    ) -> Known:
        noted = [*notes, *(each.notes for each in tracked)]
        every = names.union(*(each.names for each in tracked))
        every = every.difference(BASICS, NEVER_SENT)
        main = rebuild.side().module().__dict__
        seen = {str(each.definition.name): each.value for each in tracked}
        watch = watch_of(main, every, noted, seen.values(), seen, own)
        settled = watch.settled and all(each.settled for each in tracked)
        return Known(entry, watch, settled, self.epoch)


def _same_around(found: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the surroundings are the same; contexts of `decimal` go by their text."""
    return repr(found) == repr(other)


def _is_kept(function: Any) -> bool:
    """Whether a function is known by its object: all that it is can be watched."""
    kind = type(function)
    if kind is types.FunctionType or kind is type:
        return True
    return kind is types.BuiltinFunctionType and isinstance(
        function.__self__, types.ModuleType
    )
