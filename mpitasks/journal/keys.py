"""Keys of calls: what a call is, told so that the next run tells it alike.

A key is the digest of the function's identity and of the arguments, or of what the user
gave in their place. Calls that are alike have keys of their own all the same: the
number of the occurrence in this run goes in, so that ten draws of the same
arguments stay ten draws.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from mpitasks.journal import modules
from mpitasks.journal.code import parts_of
from mpitasks.journal.reached import Parts, Reached, name_of
from mpitasks.journal.walk import ATOMS, Unkeyable, Walker, digest, flat
from mpitasks.master.future import Future
from mpitasks.wire.diagnose import describe
from mpitasks.wire.interrupts import interrupts
from mpitasks.wire.script_setup import arithmetic

if TYPE_CHECKING:
    from mpitasks.journal.rows import Entry

__all__ = ["Identity", "Keys", "Met"]

T = TypeVar("T")

SEEN = 1024
"""So many functions and classes among arguments are remembered."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A function as it is now.

    Attributes:
        name: Module and qualified name.
        digest: Equal for equal functions only.
        parts: The digest of each part, to tell what changed.
    """

    name: str
    digest: bytes
    parts: Parts

    def within(self, set_up: Parts) -> Identity:
        """Return the identity of the function where processes are set up like that."""
        if not set_up:
            return self
        told = self.digest + b"".join(
            name.encode() + part for name, part in sorted(set_up.items())
        )
        return Identity(self.name, digest(told), {**self.parts, **set_up})


Met = tuple[Identity, int]
"""A function of this run, and its number in the journal."""


class Keys:
    """Makes the keys of a run's calls. A context of a `Walker`, for arguments.

    Only `number` and `restart` are not for several threads at once. All others run code
    of the user, whose pickling hooks may raise anything: the call has no key then.
    """

    def __init__(self) -> None:
        # Functions and classes among arguments, as they were when they were looked at.
        self._seen: weakref.WeakKeyDictionary[Any, tuple[bytes, Reached]] = (
            weakref.WeakKeyDictionary()
        )
        self._covered: dict[str, bytes] = {}
        self._counts: dict[bytes, int] = {}

    def identify(self, function: Callable[..., Any]) -> Identity:
        """Return the identity of a callable, as it is now.

        Raises:
            Unkeyable: It holds something that has no content to go by.
        """
        return _guarded(lambda: self._identity(function), _plainly)

    def set_up(
        self, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]
    ) -> Parts:
        """Return what a task depends on that neither function nor arguments tell.

        Raises:
            Unkeyable: The initializer, or an argument of it, has no content to go by.
        """
        parts = {name: digest(text.encode()) for name, text in arithmetic().items()}
        if initializer is not None:
            parts["initializer"] = self.key(self.identify(initializer), initargs)
        return parts

    def renew(self) -> None:
        """Look anew at files, and at what functions and classes among arguments are."""
        self._seen.clear()
        self._covered.clear()

    def key(
        self,
        function: Identity,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None = None,
        inputs: list[Entry] | None = None,
    ) -> bytes:
        """Return the key of a call, the same for all calls that are alike.

        Args:
            function: Its function.
            args: Its arguments.
            kwargs: Those by name.
            inputs: Gets what the calls are to the journal whose futures are among them.

        Raises:
            Unkeyable: An argument has no content to go by; the message names it.
        """
        if not kwargs and set(map(type, args)) <= ATOMS:
            try:
                return digest(function.digest + flat(args))
            except ValueError:  # 2 GiB and more
                pass
        own = kwargs or {}
        return _guarded(
            lambda: self._key(function, args, own, inputs),
            lambda error: self._blame(args, own, error),
        )

    def user_key(self, function: Identity, given: Any) -> bytes:
        """Return the key of a call for which the user gave one.

        Raises:
            Unkeyable: What was given has no content to go by.
        """
        return _guarded(lambda: self._user_key(function, given), _plainly)

    def number(self, key: bytes) -> bytes:
        """Return the key of this occurrence of a call."""
        count = self._counts.get(key, 0)
        self._counts[key] = count + 1
        if count == 0:
            return key
        return digest(key + b"%d" % count)

    def restart(self) -> None:
        """Count the occurrences from the start again."""
        self._counts.clear()

    def _key(
        self,
        function: Identity,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        inputs: list[Entry] | None,
    ) -> bytes:
        walker = Walker(self)
        walker.inputs = inputs
        walker.add(function.digest)
        walker.items(b"call", args)
        walker.pairs(b"{", list(kwargs.items()))
        return walker.digest()

    def _user_key(self, function: Identity, given: Any) -> bytes:
        walker = Walker(self)
        walker.tag("given")
        walker.add(function.digest)
        walker.walk(given)
        return walker.digest()

    def _blame(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], error: BaseException
    ) -> str:
        """Return a sentence that names the argument that cannot be walked."""
        named = [(f"argument {at}", value) for at, value in enumerate(args)]
        named += [(f"argument {name!r}", value) for name, value in kwargs.items()]
        for name, value in named:
            try:
                Walker(self).walk(value)
            except RecursionError:
                return f"{name} is nested too deeply"
            except BaseException as found:
                return f"{name} cannot be told apart: {_plainly(found)}"
        return _plainly(error)

    def _identity(self, function: Callable[..., Any]) -> Identity:
        parts, _ = parts_of(function, self._cover)
        return Identity(name_of(function), _told(parts), parts)

    def _cover(self, module: str) -> bytes:
        found = self._covered.get(module)
        if found is None:
            found = self._covered[module] = modules.cover(module)
        return found

    # What a walker asks.

    def refer(self, walker: Walker, value: Any) -> None:
        told = walker.told.get(id(value))
        if told is None:
            told = walker.told[id(value)] = self._refer(value), value
        walker.add(told[0])

    def _refer(self, value: Any) -> bytes:
        seen = self._seen.get(value)
        if seen is None or not seen[1].holds():
            parts, reached = parts_of(value, self._cover)
            if len(self._seen) >= SEEN:  # what was read may refer to what was looked at
                self._seen.clear()
            reached.queue.clear()
            seen = self._seen[value] = _told(parts), reached
        return seen[0]

    def cover(self, walker: Walker, module: str) -> None:
        walker.add(self._cover(module))

    def package(self, walker: Walker, module: str) -> None:
        package = modules.home_of(module).package
        walker.add(b"" if package is None else package.told)

    def future(self, walker: Walker, value: Any) -> None:
        """Write the key of its call.

        Its value counts if the call has no key, or the script has the value already.

        What its call drew at random is not known yet: see `rows.Entry.settle`.
        """
        entry = value.entry if isinstance(value, Future) else None
        inputs = walker.inputs
        if entry and inputs is not None and not value.was_handed_out:
            walker.tag("input")
            walker.add(entry.base)
            inputs.append(entry)
        elif isinstance(value, Future) and value.shared is not None:
            shared = value.shared  # looked at once: it cannot change
            if shared.key is None:
                own = Walker(self)
                own.walk(value.result())
                shared.key = own.digest()
            walker.tag("shared")
            walker.add(shared.key)
        elif isinstance(value, Future) and value.done():
            walker.walk(value.result())
        else:
            raise Unkeyable("a Future that is not done, and is not in a journal")

    def opaque(self, walker: Walker, value: Any) -> None:
        raise Unkeyable(f"a {type(value).__qualname__} has no content to know it by")


def _told(parts: Parts) -> bytes:
    told = json.dumps([[name, part.hex()] for name, part in parts.items()])
    return digest(told.encode())


def _guarded(make: Callable[[], T], blame: Callable[[BaseException], str]) -> T:
    """Return what is made of the user's values.

    Raises:
        Unkeyable: That raised something, of whatever class.
        BaseException: The script is interrupted by a signal.
    """
    try:
        return make()
    except BaseException as error:
        if interrupts(error):
            raise
        raise Unkeyable(blame(error)) from error


def _plainly(error: BaseException) -> str:
    """Return what an error says."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error) if isinstance(error, Unkeyable) else describe(error)
