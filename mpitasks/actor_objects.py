"""What workers do of actors: the table of their objects, and the calls that use it.

A call of an actor is a call of one of these functions, as a partial with the actor's
number. So it is run, limited in time and reported like any other call. Which calls
come to this process, and in which order, is decided on rank 0
(`mpitasks.scheduler.mailboxes`). Nothing here sends or receives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpitasks.errors import ActorDied

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "call",
    "caller",
    "construct",
    "drop",
    "objects",
    "provide_caller",
    "read",
    "restore",
    "spread",
    "state",
]


class _Objects(dict[int, Any]):
    def __missing__(self, actor: int) -> Any:
        raise ActorDied("the actor was never made: its constructor was cancelled")


objects: dict[int, Any] = _Objects()
"""The actors that live in this process, by their numbers. Rank 0 never uses a number
twice in a process."""


class _Failed:
    """In the place of an object whose constructor has raised."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.traceback = error.__traceback__

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__
        error: BaseException = own(self, "error")
        raise error.with_traceback(own(self, "traceback"))


def construct(actor: int, cls: Any, /, *args: Any, **kwargs: Any) -> None:
    """Make an actor's object. If its constructor raises, so do all of its calls."""
    try:
        objects[actor] = cls(*args, **kwargs)
    except BaseException as error:
        objects[actor] = _Failed(error)
        raise


def call(actor: int, method: str, /, *args: Any, **kwargs: Any) -> Any:
    """Call a method of an actor."""
    return getattr(objects[actor], method)(*args, **kwargs)


def spread(actor: int, method: str, arguments: Any, /) -> Any:
    """Call a method of an actor; the arguments are a tuple and a dict."""
    args, kwargs = arguments
    return call(actor, method, *args, **kwargs)


def read(actor: int, attribute: str, /) -> Any:
    """Return an attribute of an actor."""
    return getattr(objects[actor], attribute)


def drop(actor: int, /) -> None:
    """Let go of an actor's object."""
    objects.pop(actor, None)


def state(actor: int, /) -> Any:
    """Return an actor's object, to be pickled."""
    return objects[actor]


def restore(actor: int, state: Any, /) -> None:
    """Make an actor's object from its state."""
    objects[actor] = state


# How tasks call actors.

_caller: Callable[[], Any] = lambda: None  # noqa: E731


def provide_caller(find: Callable[[], Any]) -> None:
    """Say what tasks of this process call actors by; None where the caller is none."""
    global _caller
    _caller = find


def caller() -> Any:
    """Return what the task in the calling thread calls actors by; None for no task."""
    return _caller()
