"""Functions on their way to the workers: each is sent once, as long as it is the same.

`Functions.register` returns a `Function` for whatever can be called: the frame that
makes it on a worker, and the definitions of the globals that it needs there. It is
another one as soon as anything differs that a call could tell: the globals that the
function reads, its defaults, what is in its closure, the attributes of an object that
is called. `mpitasks.wire.change_detection` says how that is noticed, and how soon.

    a function of a module         nothing is looked at: the module is the worker's own
    a function of the script       compared with what it was at each submit
    a partial, a method, an object pickled at each submit, without its large arrays

Large arrays that something holds are copied once, and compared with the copy at each
`map` and at the first use of an Executor. Pickling runs code of the user, so nothing
here is called under a lock.
"""

from __future__ import annotations

import functools
import itertools
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from mpitasks.master.function_cache import Memory
from mpitasks.master.script_state import (
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
from mpitasks.wire.exceptions import twin
from mpitasks.wire.messages import INITIALIZER, SURROUNDINGS, actor_of, bound_id
from mpitasks.wire.script_setup import Start, changes

if TYPE_CHECKING:
    from mpitasks.master.script_state import Tracked
    from mpitasks.wire.change_detection import Watch
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.script_pickle import ScriptPickler

__all__ = ["Function", "Functions", "Initializer"]


AROUND = ("mpitasks.reduction", "mpitasks.row")
"""Modules whose functions take a function of the user's first."""

LARGE_BYTES = 64 << 10
"""A version of a global that weighs more is let go of as soon as there is another; of
others some are kept, for a value that comes back."""

D = TypeVar("D", bound=Definition)

Latest = tuple[Any, Any, Callable[[], bool] | None]

_NOTHING_YET: Latest = (object(), None, None)
"""What nobody can submit: None is something that one can, and gets a TypeError for."""


class Initializer(Definition):
    """What each process calls before it runs tasks of an Executor, as it is sent.

    Attributes:
        failure: What it raised in a process, as the task there reported it. From then
            on its Executor is broken.
    """

    __slots__ = ("failure",)
    failure: BaseException | None


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
        *,
        actor: int = 0,
    ) -> None:
        id = next(owner.ids)
        id = bound_id(id, actor) if actor else id
        super().__init__(id, None, frame, buffers, owner.dropped)
        self.owner = owner
        self.label = label
        self.needs = needs
        self.names: frozenset[str] = frozenset()
        self.epoch = owner.epoch
        self._variants: dict[frozenset[str], Known] = {}

    @property
    def initializer(self) -> Initializer | None:
        """What is called first in each process, if anything is."""
        for need in self.needs:
            if type(need) is Initializer:
                return need
        return None

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

    def twin(
        self,
        needs: tuple[Definition, ...],
        refers: tuple[str, ...],
        names: frozenset[str],
    ) -> Function:
        """Return the same function with other globals.

        Args:
            needs: Their definitions.
            refers: Those that the script has no longer.
            names: Their names.
        """
        actor = actor_of(self.id)
        buffers, label = self.buffers, self.label
        made = Function(self.owner, self.frame, buffers, label, needs, actor=actor)
        made.refers = refers
        made.names = names
        return made


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


class SetUp:
    """What the functions of an Executor need first, and those that are known with it.

    Attributes:
        initializers: What every process calls first: one, or none.
        fresh: Whether the script's surroundings are to be looked at once more.
        by_object: The functions, by their objects.
        latest: The function that was registered again last, how it is sent, and what
            tells whether that still holds for a `submit`, None if nothing can change:
            which saves it a look-up.
    """

    __slots__ = ("__weakref__", "by_object", "fresh", "initializers", "latest")

    def __init__(self, initializers: tuple[Initializer, ...] = ()) -> None:
        self.initializers = initializers
        self.fresh = True
        self.by_object: weakref.WeakKeyDictionary[Any, Known] = (
            weakref.WeakKeyDictionary()
        )
        self.latest: Latest = _NOTHING_YET

    def check(self) -> None:
        """Refuse functions once the initializer has failed in a process.

        Raises:
            InitializerError: It has.
        """
        for each in self.initializers:
            if each.failure is not None:
                self.latest = _NOTHING_YET  # or the next submit would not come here
                raise twin(each.failure)


class Functions:
    """The functions of a run. Safe to call from several threads.

    Attributes:
        ids: Where definitions get their ids from.
        dropped: Ids of definitions that nobody here needs any more.
        plain: The set-up of Executors without an initializer.
        epoch: Each function is compared in full once in each.
        looks_around: Whether workers follow what the script has changed around itself.
    """

    def __init__(self) -> None:
        self.looks_around = True
        self.ids = itertools.count()
        self.dropped: deque[int] = deque()
        self.epoch = 0
        self._globals = Globals(self.ids, self.dropped, self._forget_users)
        self._start = Start()
        self._surroundings: tuple[Definition, ...] = ()  # every function needs these
        self._found: dict[str, Any] = {}
        self._memory: Memory[Function] = Memory()
        self.plain = SetUp()
        self._set_ups = weakref.WeakSet([self.plain])

    def workers_differ(self) -> None:
        """The workers were not started as this process was: tell them `sys.path`."""
        self._start.path = []

    def open(
        self, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]
    ) -> SetUp:
        """Start anew for an Executor: compare each function in full when it comes.

        Args:
            initializer: What every process that runs tasks calls first, if anything.
            initargs: Its arguments.

        Raises:
            SerializationError: They cannot be pickled.
        """
        self.epoch = self._globals.epoch = self.epoch + 1
        self._globals.forget_missing()
        self._look_around()
        set_up = self.plain
        if initializer is not None:
            call = initializer, initargs
            made = self._define(Initializer, INITIALIZER, call, self._surroundings)
            made.failure = None
            set_up = SetUp((made,))
            self._set_ups.add(set_up)
        set_up.fresh = True
        return set_up

    def refuse(self, broken: list[Initializer]) -> None:
        """Register nothing more that needs one of these, which have failed."""
        for set_up in list(self._set_ups):
            if any(each in broken for each in set_up.initializers):
                set_up.latest = _NOTHING_YET

    def _look_around(self) -> None:
        """Look what the script has changed around itself, for workers to follow."""
        if not self.looks_around:
            return
        found = changes(self._start, self._found)
        if _same_around(found, self._found):
            return
        self._found = found
        self._surroundings = ()
        if found:
            made = self._define(Definition, SURROUNDINGS, found, ())
            self._surroundings = (made,)
        for set_up in list(self._set_ups):
            set_up.latest = _NOTHING_YET
            set_up.by_object.clear()

    def _prepare(self, set_up: SetUp) -> None:
        """Look once more, when the first function comes: it may have been prepared."""
        set_up.fresh = False
        self._look_around()
        for each in set_up.initializers:  # which was not sent yet
            rest = [need for need in each.needs if need.name != SURROUNDINGS]
            each.needs = (*self._surroundings, *rest)

    def _forget_users(self, old: Definition) -> None:
        """Forget the functions that need a version of a global that is no more."""
        for set_up in list(self._set_ups):
            set_up.latest = _NOTHING_YET
        if old.nbytes > LARGE_BYTES:
            self._memory.forget_users(old)
        for set_up in list(self._set_ups):
            try:
                for function, known in [*set_up.by_object.items()]:
                    if old in known.function.needs:
                        set_up.by_object.pop(function, None)
            except RuntimeError:  # another thread has registered one meanwhile
                set_up.by_object.clear()

    def register(
        self,
        function: Callable[..., Any],
        set_up: SetUp | None = None,
        *,
        whole: bool = False,
        actor: int = 0,
    ) -> Function:
        """Return the function as it is sent.

        Args:
            function: Whatever can be called.
            set_up: What it needs first; None if nothing.
            whole: Whether to look into large containers and arrays as well.
            actor: The actor that its calls belong to; 0 for none.

        Raises:
            SerializationError: It cannot be pickled.
            InitializerError: What it needs first has failed.
        """
        set_up = set_up or self.plain
        if set_up.fresh:
            self._prepare(set_up)
        known = set_up.by_object.get(function) if _is_kept(function) else None
        if known is None or not known.valid(self.epoch, whole=whole):
            known, watched = self._capture(function, set_up, whole=whole, actor=actor)
            set_up.latest = _NOTHING_YET  # it may be this function, as it was
            if watched:
                set_up.by_object[function] = known
        else:
            watch = known.watch
            same = None if watch is None else watch.same
            set_up.latest = function, known.function, same
        if set_up.initializers:
            set_up.check()  # behind the line above: it may fail at this moment
        return known.function

    def widen(self, entry: Function, names: frozenset[str], *, whole: bool) -> Known:
        """Return a function for calls whose arguments refer to more globals."""
        level = WHOLE if whole else QUICK
        tracked = [*self._globals.resolve(names - entry.names, level).values()]
        # What the function itself needs stays as it was when that was registered.
        own = {need.name for need in entry.needs}
        more = [each.definition for each in tracked if each.definition.name not in own]
        needs = (*entry.needs, *more)
        actor = actor_of(entry.id)
        label = entry.label
        wider = Function(self, entry.frame, entry.buffers, label, needs, actor=actor)
        missing = self._globals.missing(names - entry.names, tracked)
        wider.refers = tuple(dict.fromkeys((*entry.refers, *missing)))
        wider.names = names
        return self._known(wider, names - entry.names, [], tracked)

    def _capture(
        self,
        function: Callable[..., Any],
        set_up: SetUp,
        *,
        whole: bool,
        actor: int,
    ) -> tuple[Known, bool]:
        """Return the function as it is now; and whether its changes can be noticed."""
        frame, buffers, notes = codec.encode_noting(function, "the function", kept=True)
        names = frozenset(() if notes is None else notes.names)
        watched = _is_kept(function) and (notes is None or notes.watched)
        level = WHOLE if whole else QUICK if watched else FRAMES
        tracked = [*self._globals.resolve(names, level).values()]
        own = [each.definition for each in tracked]
        needs = (*self._surroundings, *set_up.initializers, *own)
        missing = self._globals.missing(names, tracked)
        key = (frame, missing, *sorted([need.id for need in needs]))
        memory = self._memory
        fresh = watched and set_up.by_object.get(function) is None
        entry = memory.find(key, buffers, self.epoch, whole=whole or fresh)
        if entry is None:
            label = _label(function)
            copies = memory.copies(buffers)
            entry = Function(self, frame, copies, str(label), needs, actor=actor)
            held = () if notes is None else notes.refers
            entry.refers = (*held, *missing)
            entry.names = names
            memory.keep(key, buffers, entry)
        entry.epoch = self.epoch
        if notes is None:
            return Known(entry, None, True, self.epoch), watched
        return self._known(entry, names, [notes], tracked, function), watched

    def _define(
        self,
        kind: type[D],
        name: str,
        value: Any,
        before: tuple[Definition, ...],
    ) -> D:
        """Return what a process is set up by, before it runs tasks."""
        what = "the initializer" if name == INITIALIZER else "what the script has set"
        frame, buffers, notes = codec.encode_noting(value, what, kept=True)
        made = kind(next(self.ids), name, frame, copies_of(buffers), self.dropped)
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


def _label(function: Any) -> str:
    """Return what messages call a function: of a partial one, the function in it.

    What `map_into` and `map_reduce` make of a function has the name of that function.
    """
    while type(function) is functools.partial:
        inner = function.func
        ours = getattr(inner, "__module__", None) in AROUND and function.args
        function = function.args[0] if ours else inner
    return getattr(function, "__qualname__", None) or repr(type(function))


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
