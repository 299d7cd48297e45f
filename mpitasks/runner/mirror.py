"""The script on a worker: a module ``__main__`` that follows the one of rank 0.

The script is not run here. Each call comes with definitions of the globals that it
refers to (`mpitasks.master.script_state`), in the versions that the script had when the
call was submitted. They are put into the module by name. If a task sets a global, the
next task sees that value, until the script has another value for it.

Each initializer has a module ``__main__`` of its own, as each process pool has
processes of its own: what it sets is seen by the tasks of its Executor, and by no
others (`Space`).

`FunctionTable` keeps what was sent. A function is unpickled when it is first needed. A
rank never unpickles a function that only its child calls, since importing the modules
of a function runs code, too.
"""

from __future__ import annotations

import builtins
import functools
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mpitasks.errors import SerializationError
from mpitasks.runner.pristine import changes, is_inert, kept
from mpitasks.runner.sent import PLAIN, Sent
from mpitasks.wire import codec, rebuild
from mpitasks.wire.codec import Unsendable
from mpitasks.wire.diagnose import describe
from mpitasks.wire.messages import INITIALIZER, SURROUNDINGS
from mpitasks.wire.script_setup import apply

if TYPE_CHECKING:
    from mpitasks.wire.codec import Buffer

__all__ = [
    "Divided",
    "FunctionTable",
    "Mirror",
    "follow",
    "new_main",
    "script_main",
    "unpickle",
]


class Mirror(ModuleType):
    """The module ``__main__`` of a worker. It has no state beside what it mirrors."""

    def __getattr__(self, name: str) -> Any:
        """Return a global that is on its way, when one before it refers to it."""
        find = rebuild.side().find
        if find is not None:
            return find(name)
        raise AttributeError(f"module '__main__' has no attribute {name!r}")


def new_main() -> Mirror:
    """Return an empty module ``__main__``."""
    main = Mirror("__main__")
    main.__dict__["__builtins__"] = builtins
    return main


def script_main() -> ModuleType:
    """Return the ``__main__`` of this process, which has run the script itself."""
    main = sys.modules["__main__"]
    main.__class__ = Mirror
    return main


def follow(functions: FunctionTable) -> None:
    """Let the ``__main__`` of this process be the one that follows the script."""
    sys.modules["__main__"] = functions.main
    rebuild.set_side(lambda: functions.side)


class Divided(ModuleType):
    """A ``__main__`` that is the script's, but in the thread that runs tasks another.

    Args:
        script: The script's.
        mirror: Returns the one that follows it.
        in_task: Tells whether the calling thread runs tasks.
    """

    def __init__(
        self,
        script: ModuleType,
        mirror: Callable[[], ModuleType],
        in_task: Callable[[], bool],
    ) -> None:
        super().__init__("__main__")
        object.__setattr__(self, "_own", lambda: mirror() if in_task() else script)

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute of the module that the thread has."""
        if name == "__class__":
            return Divided
        return getattr(object.__getattribute__(self, "_own")(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute of the module that the thread has."""
        setattr(object.__getattribute__(self, "_own")(), name, value)

    def __delattr__(self, name: str) -> None:
        """Delete an attribute of the module that the thread has."""
        delattr(object.__getattribute__(self, "_own")(), name)

    def __dir__(self) -> list[str]:
        """Return the names in the module that the thread has."""
        return dir(object.__getattribute__(self, "_own")())


class Space:
    """A module ``__main__``, and which versions of the script's globals are in it.

    Attributes:
        main: The module.
        side: What is known there of classes.
        versions: Ids of what is in it, by name; stale ones below zero.
        changed: Globals that were changed by calls of functions that hold them.
        failure: What its initializer raised; None if it did not, or there is none.
    """

    __slots__ = ("changed", "failure", "main", "side", "versions")

    def __init__(self, main: ModuleType, side: rebuild.Side) -> None:
        self.main = main
        self.side = side
        self.versions: dict[str, int] = {}
        self.changed: set[str] = set()
        self.failure: BaseException | None = None


class FunctionTable(dict[int, Callable[..., Any]]):
    """Functions by their ids; those that were sent are loaded on demand.

    Args:
        main: The module that follows the script.

    Attributes:
        sent: Functions, and globals of the script, as they came.
        entered: The function that is loaded, and has its globals in place.
    """

    def __init__(self, main: ModuleType | None = None) -> None:
        super().__init__()
        self._space = self._new_space(new_main() if main is None else main)
        self._spaces = {PLAIN: self._space}  # by the ids of their initializers
        self._around = -1  # the id of the surroundings that were applied
        self.sent: dict[int, Sent] = {}
        self._pending: dict[str, Sent] = {}  # to be put into the module
        self._replaced: dict[str, Any] = {}  # what was there before
        self._begun: dict[str, Any] = {}  # functions and classes, not yet complete
        self._beginning = 0
        self.entered = -1

    def _new_space(self, main: ModuleType) -> Space:
        side = rebuild.Side(
            lambda: main,
            follows=True,
            bind=self._bind,
            former=self._former,
            find=self._find,
            shared=self._shared,
        )
        return Space(main, side)

    @property
    def side(self) -> rebuild.Side:
        """What is known of classes in that module."""
        return self._space.side

    @property
    def main(self) -> ModuleType:
        """The module that the function sees which was entered last."""
        return self._space.main

    def learn(self, told: tuple[Any, ...], buffers: list[Buffer]) -> None:
        """Take in what was sent.

        Args:
            told: As it stands in the message.
            buffers: Those of the message, in reverse order; its own are taken off.
        """
        id, name, frame, head, places, needs, refers = told
        own = [buffers.pop() for place in places if place is None]
        made = Sent(id, name, frame, head, own, needs, refers, places)
        if name == INITIALIZER:
            made.space = id
        for need in needs[:2]:  # it stands at the beginning, behind the surroundings
            if self.sent[need].name == INITIALIZER:
                made.space = need
        self.sent[id] = made
        self._unload(made)

    def forget(self, ids: Iterable[int]) -> None:
        """Let go of what rank 0 does not need any more, or sends again if it does."""
        for each in ids:
            sent = self.sent.pop(each)
            self._unload(sent)
            name = sent.name
            if name is not None:
                for space in self._spaces.values():
                    if space.versions.get(name) in (each, _stale(each)):
                        del space.versions[name]
                        space.main.__dict__.pop(name, None)
            if self.entered == each:
                self.entered = -1
            gone = self._spaces.pop(each, None) if name == INITIALIZER else None
            if gone is not None and gone is self._space:
                self.entered = -1
                self._move(PLAIN)

    def needed(self, function_id: int) -> list[Sent]:
        """Return a function, behind all that it needs, as they came."""
        function = self.sent[function_id]
        needed: dict[int, Sent] = {}
        for each in function.needs:
            needed.update((found.id, found) for found in self.needed(each))
        return [*needed.values(), function]

    def shared(self, ids: Iterable[int]) -> list[Sent]:
        """Return shared objects, as they came."""
        return [self.sent[each] for each in ids]

    def _shared(self, id: int) -> Any:
        """Return a shared object: an own one for each task, on read-only memory."""
        sent = self.sent[id]
        return codec.decode(sent.frame, sent.shared())

    def ready(self, function_id: int) -> Callable[..., Any]:
        """Return a function, with the globals that its call is to see in place.

        This runs code of the user. What it raises, the function raises when called.
        """
        try:
            if function_id != self.entered:
                self._enter(self.sent[function_id])
            function = self[function_id]
        except BaseException as error:
            return Unloadable(error)
        self.entered = function_id
        return function

    def __missing__(self, function_id: int) -> Callable[..., Any]:
        sent = self.sent[function_id]
        held = self._held_by(sent)
        if held and not held.isdisjoint(self._changed_here()):
            self._renew(held, sent)
        load = functools.partial(self._load_again, sent)
        function = kept(self._decode(sent), load, len(sent.frame), held)
        self[function_id] = function
        return function

    def _changed_here(self) -> set[str]:
        """Return the globals of this module that calls have changed."""
        loaded = [changes(self[each]) for each in self._loaded_here()]
        return self._space.changed.union(*loaded)

    def _loaded_here(self) -> list[int]:
        """Return the functions that are loaded in this module."""
        here = self._space
        spaces = self._spaces
        return [each for each in self if spaces.get(self.sent[each].space) is here]

    def _load_again(self, sent: Sent) -> Callable[..., Any]:
        """Load a function anew, with the globals whose objects it holds."""
        own = self.get(sent.id)
        held = self._held_by(sent)
        if held:
            self._renew(held, sent)
            if own is not None:
                self[sent.id] = own  # it was unloaded with all that hold the same
        return self._decode(sent)

    def _unload(self, sent: Sent) -> None:
        """Forget a function as it was loaded, but not what its calls have changed."""
        loaded = self.pop(sent.id, None)
        space = self._spaces.get(sent.space)
        if loaded is not None and space is not None:
            space.changed.update(changes(loaded))

    def _decode(self, sent: Sent) -> Callable[..., Any]:
        function: Callable[..., Any] = codec.decode_kept(sent.frame, sent.lend())
        return function

    def _held_by(self, sent: Sent) -> set[str]:
        """Return the globals that a function holds, itself or through others.

        Those that it cannot change are left out.
        """
        main = self.main.__dict__
        held: set[str] = set()
        names = [*sent.refers]
        while names:
            name = names.pop()
            version = self._space.versions.get(name, -1)
            if version >= 0 and name not in held and not is_inert(main.get(name)):
                held.add(name)
                names += self.sent[version].refers
        return held

    def _renew(self, names: set[str], function: Sent) -> None:
        """Put globals that a function needs into the module once more."""
        self._space.changed -= names
        self._space.versions.update(
            (name, _stale(self._space.versions[name])) for name in names
        )
        self._enter(function)

    def _enter(self, function: Sent) -> None:
        """Put the globals that a function needs into the module that it is to see.

        Before the first function of an Executor, call its initializer.
        """
        self.entered = -1
        self._apply_surroundings(function)
        self._move(function.space)
        if self._space.failure is not None:
            raise self._failed(function.space)
        self._fill(function)

    def _apply_surroundings(self, function: Sent) -> None:
        """Follow what the script has changed around itself."""
        if function.needs:
            around = self.sent[function.needs[0]]
            if around.name == SURROUNDINGS and around.id != self._around:
                apply(codec.decode_kept(around.frame, around.lend()))
                self._around = around.id

    def _move(self, space: int) -> None:
        """Have the module of an initializer in its place; when it is new, call that."""
        found = self._spaces.get(space)
        if found is self._space:
            return
        is_new = found is None
        if found is None:
            found = self._spaces[space] = self._new_space(new_main())
        before, self._space = self._space, found
        if sys.modules.get("__main__") is before.main:
            sys.modules["__main__"] = found.main
        if is_new:
            self._initialize(self.sent[space])

    def _initialize(self, initializer: Sent) -> None:
        try:
            self._fill(initializer)
            function, args = codec.decode_kept(initializer.frame, initializer.lend())
            function(*args)
        except BaseException as error:
            self._space.failure = error

    def _failed(self, space: int) -> BaseException:
        """Return what tasks raise whose initializer has failed."""
        from mpitasks.errors import InitializerError

        raised = self._space.failure
        assert raised is not None
        failure = InitializerError(
            f"the initializer of the Executor failed on this worker: {describe(raised)}"
        )
        failure.definition = space
        failure.__cause__ = raised
        failure.__context__ = raised  # on rank 0 its cause is the traceback as text
        return failure

    def _fill(self, function: Sent) -> None:
        """Put the globals that a function needs into this module."""
        versions = self._space.versions
        needs = [self.sent[each] for each in function.needs]
        present = {need.name for need in needs}
        for name in function.refers:
            if name not in present and versions.pop(name, None) is not None:
                self.main.__dict__.pop(name, None)  # the script has it no longer
        needs = [need for need in needs if need.name not in (SURROUNDINGS, INITIALIZER)]
        self._pending = {
            need.name: need
            for need in needs
            if need.name is not None and versions.get(need.name) != need.id
        }
        if self._pending:
            self._add_referring(needs)
            # None of the others may see an old one of them.
            namespace = self.main.__dict__
            for name in self._pending:
                versions.pop(name, None)
                if name in namespace:
                    self._replaced[name] = namespace.pop(name)
            try:
                while self._pending:
                    self._load(next(iter(self._pending)))
            finally:
                self._pending = {}
                self._replaced = {}
                self._begun = {}

    def _add_referring(self, needs: list[Sent]) -> None:
        """Load anew what holds objects that are to be replaced."""
        pending, versions = self._pending, self._space.versions
        stale = {*pending}
        count = 0
        while count != len(stale):
            count = len(stale)
            stale.update(
                name
                for name, version in versions.items()
                if version >= 0 and not stale.isdisjoint(self.sent[version].refers)
            )
        for name in stale.difference(pending).intersection(versions):
            if versions[name] >= 0:  # to be loaded again once it is needed
                versions[name] = _stale(versions[name])
        for need in needs:
            if need.name in stale:
                pending.setdefault(need.name, need)
        for function_id in self._loaded_here():
            sent = self.sent[function_id]
            if not stale.isdisjoint(sent.refers):
                self._unload(sent)

    def _load(self, name: str) -> Any:
        need = self._pending.pop(name)
        try:
            if need.head is not None:
                self._begin(name, need.head)
            value = codec.decode_kept(need.frame, need.lend())
        except BaseException as error:
            raise SerializationError(
                f"the global variable {name!r} of the script cannot be loaded: "
                f"{describe(error)}"
            ) from error
        self.main.__dict__[name] = value
        self._space.versions[name] = need.id
        return value

    def _begin(self, name: str, head: bytes) -> Any:
        """Make a class without its attributes."""
        if name not in self._begun:
            self._beginning += 1
            try:
                codec.decode_kept(head)
            finally:
                self._beginning -= 1
        return self._begun[name]

    def _find(self, name: str) -> Any:
        need = self._pending.get(name)
        if need is not None and self._beginning and need.head is not None:
            return self._begin(name, need.head)  # a base of another class
        if need is not None:
            return self._load(name)
        if name in self._begun:
            return self._begun[name]
        raise AttributeError(
            f"module '__main__' has no attribute {name!r} on this worker: it has what "
            f"the functions that were called here refer to"
        )

    def _bind(self, name: str, value: Any) -> None:
        self._begun[name] = value

    def _former(self, name: str) -> Any:
        return self._replaced.get(name)


def _stale(version: int) -> int:
    """Return what stands for a version that holds objects which were replaced."""
    return -1 - version


def unpickle(frame: Any, buffers: list[Buffer], what: str, where: str) -> Any:
    """Return what a task was sent.

    Args:
        frame: Its frame; or the parts of a frame with inputs.
        buffers: The buffers.
        what: What to call it in a message.
        where: Rank and host.

    Raises:
        SerializationError: It cannot be unpickled here, or could not be pickled there.
    """
    try:
        if type(frame) is tuple:
            from mpitasks.wire.inputs import unpickle_with

            value = unpickle_with(frame, buffers)
        else:
            value = codec.decode(frame, buffers)
    except MemoryError:
        raise
    except BaseException as error:
        raise SerializationError(
            f"{what} cannot be unpickled on {where}: {describe(error)}"
        ) from error
    if type(value) is Unsendable:
        raise value.error
    return value


class Unloadable:
    """Stands for a function that could not be unpickled; fails each of its calls."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        error = self._error
        if type(error).__name__ == "InitializerError":
            raise error
        raise SerializationError(
            f"the function cannot be loaded: {describe(error)}"
        ) from error
