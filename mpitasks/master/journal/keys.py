"""Keys of calls: what a call is, told so that the next run tells it alike.

A key is the digest of the function's identity and of the arguments, or of what the user
gave in their place. Calls that are alike have keys of their own all the same: the
number of the occurrence in this run goes in, so that ten draws of the same
arguments stay ten draws.
"""

from __future__ import annotations

import json
import marshal
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mpitasks.master.journal.code import Parts, is_users, name_of, parts_of, version_of
from mpitasks.master.journal.walk import Unkeyable, Walker, digest

__all__ = ["Identity", "Keys"]


_PLAIN = frozenset({int, float, complex, bool, type(None), str, bytes})


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


class Keys:
    """Makes the keys of a run's calls. Not for several threads at once."""

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[Any, Identity] = (
            weakref.WeakKeyDictionary()
        )
        self._counts: dict[bytes, int] = {}

    def identify(self, function: Callable[..., Any]) -> Identity:
        """Return the identity of a callable.

        A plain function keeps the one that it has when it is first seen, as it is sent
        to the workers as it was then; another callable may have changed, and is looked
        at each time.

        Raises:
            Unkeyable: It holds something that has no content to go by.
        """
        if isinstance(function, (types.FunctionType, type)):
            return self._identity(function)
        walker = Walker(self._refer)
        walker.walk(function)
        module = getattr(function, "__module__", None)
        if isinstance(module, str) and not is_users(module):
            walker.walk(version_of(module))
        own = walker.digest()
        return Identity(name_of(function), own, {"state": own})

    def key(
        self,
        function: Identity,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None = None,
    ) -> bytes:
        """Return the key of a call, the same for all calls that are alike.

        Raises:
            Unkeyable: An argument has no content to go by; the message names it.
        """
        if not kwargs and set(map(type, args)) <= _PLAIN:
            # Version 0 knows no references and no interned strings: equal values have
            # equal bytes, at the speed of C.
            return digest(function.digest + marshal.dumps(args, 0))
        walker = Walker(self._refer)
        walker.add(function.digest)
        try:
            walker.walk(args)
            walker.walk(kwargs or {})
        except Exception as error:  # of user code too: pickling hooks run here
            raise Unkeyable(self._blame(args, kwargs or {}, error)) from error
        return walker.digest()

    def user_key(self, function: Identity, given: Any) -> bytes:
        """Return the key of a call for which the user gave one.

        Raises:
            Unkeyable: What was given has no content to go by.
        """
        walker = Walker(self._refer)
        walker.tag("given")
        walker.add(function.digest)
        walker.walk(given)
        return walker.digest()

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

    def _identity(self, value: Any) -> Identity:
        known = self._known.get(value)
        if known is None:
            parts = parts_of(value)
            told = json.dumps([[name, part.hex()] for name, part in parts.items()])
            known = Identity(name_of(value), digest(told.encode()), parts)
            self._known[value] = known
        return known

    def _refer(self, walker: Walker, value: Any) -> None:
        walker.add(self._identity(value).digest)

    def _blame(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], error: BaseException
    ) -> str:
        """Return a sentence that names the argument that cannot be walked."""
        named = [(f"argument {at}", value) for at, value in enumerate(args)]
        named += [(f"argument {name!r}", value) for name, value in kwargs.items()]
        for name, value in named:
            try:
                Walker(self._refer).walk(value)
            except RecursionError:
                return f"{name} is nested too deeply"
            except Exception as found:
                return f"{name} cannot be told apart: {found}"
        return str(error)
