"""Actors, as users have them: an object on a worker, called from anywhere.

`ActorHandle` stands for the object: what is called on it becomes a call in the actor's
mailbox. How calls are made is in `mpitasks.master.actors`, when they are sent in
`mpitasks.scheduler.mailboxes`, how they run in `mpitasks.actor_objects`.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks import actor_objects
from mpitasks.api import session
from mpitasks.api.actor_calls import TaskHold
from mpitasks.errors import (
    ConfigurationError,
    ExecutorClosedError,
    InitializerError,
    OptionError,
    SerializationError,
)
from mpitasks.master.actors import Actor
from mpitasks.master.future import Future, settle
from mpitasks.values import integer
from mpitasks.wire.outcomes import Failure

if TYPE_CHECKING:
    from mpitasks.api.session import ExecutorHandle
    from mpitasks.master.actors import ActorCall
    from mpitasks.options import TaskOptions

__all__ = ["ActorGroup", "ActorHandle", "ActorMethod", "open_actor", "open_group"]

CALL_OPTIONS = frozenset({"timeout", "label", "keep"})

CLOSED = "this actor was closed: it takes no more calls"


class _Hold:
    """What handle and methods of an actor keep: with the last of them the actor ends.

    Attributes:
        cls: The class of the actor's object.
        label: What messages call the actor.
        number: Its number in the run.
        options: Those of its calls.
        close: Ends it, once.
    """

    __slots__ = ("__weakref__", "actor", "close", "cls", "label", "number", "options")

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.cls = actor.cls
        self.label = actor.label
        self.number = actor.id
        self.options = actor.options
        self.close = weakref.finalize(self, _end, actor, actor.closing())
        self.close.atexit = False

    @property
    def closed(self) -> bool:
        """Whether it takes no more calls."""
        return self.actor.closed

    def call(
        self,
        function: Callable[..., Any],
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
    ) -> Future:
        """Submit a call; the arguments are those of `Actor.call`."""
        actor = self.actor
        if actor.closed or actor.owner.closed:
            _refuse(actor)
        try:
            call = actor.call(function, name, args, kwargs, options)
        except (SerializationError, InitializerError) as error:
            return _unsent(actor, error)
        _submit(actor, call)
        if actor.checkpoint is not None and (state := actor.due()) is not None:
            actor.owner.event_loop.submit(state.task)
        return call

    def travel(self) -> None:
        """A handle is about to be pickled: keep the actor until it is closed.

        Raises:
            TypeError: It was made in a task.
        """
        if session.is_task():
            raise TypeError(
                "an actor that a task has made cannot be called by others: make it in "
                "the script, and pass its handle to the tasks"
            )
        self.actor.owner.session.keep_actor(self)


def _end(actor: Actor, closing: ActorCall) -> None:
    """Have an actor's state leave its worker, behind all of its calls.

    A finalizer may come here, at any moment, so this takes no lock.
    """
    if not actor.closed:
        actor.closed = True
        if not actor.event_loop.is_shut:
            actor.owner.event_loop.leave(closing.task)


class ActorMethod:
    """A method of an actor: calling it returns a `Future`."""

    __slots__ = ("_function", "_hold", "_name", "_options")

    def __init__(
        self,
        hold: _Hold | TaskHold,
        name: str,
        options: TaskOptions,
        function: Callable[..., Any] = actor_objects.call,
    ) -> None:
        self._hold = hold
        self._name = name
        self._options = options
        self._function = function

    def __call__(self, /, *args: Any, **kwargs: Any) -> Future:
        """Have the actor run the method; return the call's `Future` at once.

        Calls of an actor run one after the other, in the order in which they were made.
        Arguments may be, or contain, futures: the call waits for them, and so do all
        later calls of this actor.

        Raises:
            ExecutorClosedError: The actor was closed, or its Executor was shut down.
        """
        return self._hold.call(self._function, self._name, args, kwargs, self._options)

    def with_options(self, **options: Any) -> ActorMethod:
        """Return the method with other options for its calls.

        Args:
            **options: `timeout`, `label` and `keep`, as for
                `mpitasks.Executor.with_options`.

        Raises:
            OptionError: Calls of actors have no such option, or not that value.
        """
        for name in options:
            if name not in CALL_OPTIONS:
                raise OptionError(
                    f"a call of an actor has no option {name!r}; it has "
                    f"{', '.join(sorted(CALL_OPTIONS))}. It is run at most once, on "
                    f"the actor's rank, in the order of the calls"
                )
        changed = self._options.replace(**options)
        return ActorMethod(self._hold, self._name, changed, self._function)

    def __repr__(self) -> str:
        return f"<method {self._name} of {self._hold.label}>"

    def __reduce__(self) -> Any:
        raise TypeError(
            "a method of an actor cannot be pickled: pass the handle of the actor"
        )


class ActorHandle:
    """Stands for an actor, an object that lives on a worker.

    Its methods are those of the object's class: each call returns a `Future`. Calls run
    one after the other, in one order for all who call. When the last handle is gone,
    or `close` is called, the actor ends: what was called before is still run.

    Example:
        >>> counter = executor.actor(Counter, 0)
        >>> futures = [counter.add(1) for _ in range(10)]
        >>> counter.get("value").result()
        10
    """

    _hold: _Hold | TaskHold

    def __init__(self, hold: _Hold | TaskHold) -> None:
        self.__dict__["_hold"] = hold

    def __getattr__(self, name: str) -> ActorMethod:
        if name.startswith("__"):
            raise AttributeError(name)  # the interpreter, or a pickler, asks
        method = self._method(name)
        # Without a cycle: a method does not know the handle.
        self.__dict__[name] = method
        return method

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"attributes of an actor cannot be set from outside: give "
            f"{self._hold.cls.__qualname__} a method that sets {name!r}"
        )

    def _method(self, name: str) -> ActorMethod:
        hold = self._hold
        cls = hold.cls
        if not callable(getattr(cls, name, None)) and not _is_dynamic(cls):
            has = f"get({name!r}) reads an attribute"
            raise AttributeError(
                f"{cls.__qualname__} has no method {name!r} ({has} of the object)"
            )
        return ActorMethod(hold, name, hold.options)

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Future:
        """Call a method by its name: for one that is called as a method of this handle.

        Raises:
            AttributeError: The class has no such method.
            ExecutorClosedError: As for any call.
        """
        return self._method(method)(*args, **kwargs)

    def get(self, name: str, /) -> Future:
        """Read an attribute, in the order of the calls; return a `Future` of it.

        Raises:
            TypeError: The class has a method `get`: use ``call("get", ...)`` for that.
            ExecutorClosedError: As for any call.
        """
        hold = self._hold
        if hasattr(hold.cls, "get"):
            raise TypeError(
                f"{hold.cls.__qualname__} has a method get of its own: "
                f"call it by handle.call('get', ...)"
            )
        if not isinstance(name, str):
            raise TypeError(f"the name of an attribute is text, not {name!r}")
        return ActorMethod(hold, name, hold.options, actor_objects.read)()

    def close(self) -> None:
        """End the actor: it takes no more calls, and runs those that it has.

        Its state leaves the worker's memory then. A method of its own that is called
        `close` is not called: do that before, by ``call("close")``.
        """
        self._hold.close()

    def __enter__(self) -> ActorHandle:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        hold = self._hold
        state = ", closed" if hold.closed else ""
        return f"<actor {hold.label} number {hold.number}{state}>"

    def __copy__(self) -> ActorHandle:
        return self

    def __deepcopy__(self, memo: Any) -> ActorHandle:
        return self  # it stands for one object

    def __reduce__(self) -> Any:
        hold = self._hold
        hold.travel()
        return handle_here, (hold.number, hold.cls, hold.label)


class ActorGroup(Sequence[ActorHandle]):
    """Actors of one class, one on each rank or on each node.

    Attributes:
        ranks: The rank of each.
    """

    def __init__(self, handles: Sequence[ActorHandle], ranks: Sequence[int]) -> None:
        self._handles = tuple(handles)
        self.ranks = tuple(ranks)

    def __len__(self) -> int:
        return len(self._handles)

    def __getitem__(self, index: Any) -> Any:
        return self._handles[index]

    def __iter__(self) -> Iterator[ActorHandle]:
        return iter(self._handles)

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> list[Future]:
        """Call a method of each of them; return the futures, in their order."""
        return [handle.call(method, *args, **kwargs) for handle in self._handles]

    def close(self) -> None:
        """End all of them."""
        for handle in self._handles:
            handle.close()

    def __enter__(self) -> ActorGroup:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_actor(
    handle: ExecutorHandle,
    options: TaskOptions,
    cls: type,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    max_restarts: int,
    checkpoint: int | None,
    exclusive: bool,
    ranks: Sequence[int] | None,
) -> ActorHandle:
    """Make an actor; see `mpitasks.Executor.actor`."""
    if handle.closed:
        session.refuse_submit()
    if not isinstance(cls, type):
        raise TypeError(f"an actor is made of a class, not of {cls!r}")
    restarts = integer("max_restarts", max_restarts, 0)
    if checkpoint is not None:
        checkpoint = integer("checkpoint", checkpoint, 1)
        if not restarts:
            raise OptionError("checkpoint needs max_restarts: only a restart uses it")
    if options.isolate:
        raise OptionError(
            "an actor lives in its rank and cannot be isolated: make it by "
            "with_options(isolate=False).actor(...), and isolate tasks that may crash"
        )
    actor = Actor(
        cls,
        options.replace(retries=0, retry_delay=0.0, key=None),
        restarts=restarts,
        checkpoint=checkpoint,
        survives=handle.event_loop.survives,
        event_loop=handle.event_loop,
        functions=handle.event_loop.functions,
        ids=handle.event_loop.engine.own_ids,
        owner=handle,
        set_up=handle.set_up,
        is_of_task=session.is_task(),
    )
    first = actor.start(args, kwargs)
    open_there = handle.event_loop.open_actor
    if not open_there(actor, ranks, exclusive=bool(exclusive)):
        gc.collect()  # an actor may be there whose handle is garbage
        if not open_there(actor, ranks, exclusive=bool(exclusive)):
            raise OptionError(_no_place(handle, ranks, exclusive=exclusive))
    hold = _Hold(actor)
    _submit(actor, first)
    return ActorHandle(hold)


def open_group(
    handle: ExecutorHandle, per: str, make: Callable[[int], ActorHandle]
) -> ActorGroup:
    """Make an actor on each rank, or on each node; see `mpitasks.Executor.actors`."""
    if per not in ("rank", "node"):
        raise OptionError(f"per must be 'rank' or 'node', not {per!r}")
    ranks = handle.event_loop.ready_workers()
    if per == "node":
        hosts: dict[str, int] = {}
        for rank in ranks:
            hosts.setdefault(handle.session.hosts.get(rank, ""), rank)
        ranks = list(hosts.values())
    return ActorGroup([make(rank) for rank in ranks], ranks)


def ranks_of(
    handle: ExecutorHandle, rank: int | None, node: str | None
) -> Sequence[int] | None:
    """Return the ranks that may be meant; None for any.

    Raises:
        OptionError: There is no such worker.
    """
    if rank is not None and node is not None:
        raise OptionError("an actor has a rank or a node, not both")
    known = handle.event_loop.engine.ranks
    if rank is not None:
        wanted = integer("rank", rank, 0)
        if wanted not in known:
            raise OptionError(
                f"rank {wanted} is no worker: the workers are ranks "
                f"{known[0]} to {known[-1]}"
            )
        return [wanted]
    if node is not None:
        hosts = handle.session.hosts
        ranks = [each for each in known if hosts.get(each) == node]
        if not ranks:
            names = ", ".join(sorted(set(hosts.values())))
            raise OptionError(f"no worker is on node {node!r}; the nodes are {names}")
        return ranks
    return None


def _no_place(
    handle: ExecutorHandle, ranks: Sequence[int] | None, *, exclusive: bool
) -> str:
    if exclusive:
        return (
            "no rank can be kept for this actor alone: another rank must be left for "
            "other tasks, and the rank must have no actor yet. Start with more ranks, "
            "or leave out exclusive=True"
        )
    where = "" if ranks is None else f" among ranks {', '.join(map(str, ranks))}"
    return f"no worker{where} is there to have the actor"


def _submit(actor: Actor, call: ActorCall) -> None:
    event_loop = actor.owner.event_loop
    if not call.buffers:
        event_loop.submit(call.task)
        return
    try:
        event_loop.argument_memory.submit(call.task)
    except MemoryError as error:  # there is no room for a copy
        settle([call], [Failure(error)])


def _unsent(actor: Actor, error: Exception) -> Future:
    """Return the future of a call that cannot be sent."""
    future = Future(actor.event_loop)
    settle([future], [Failure(error)])
    return future


def _refuse(actor: Actor) -> None:
    if actor.closed:
        raise ExecutorClosedError(CLOSED)
    if actor.owner.session.runs_tasks_here():
        raise ConfigurationError(session.IN_TASK)
    session.refuse_submit()


def _is_dynamic(cls: type) -> bool:
    """Whether objects of a class may have methods that the class does not show."""
    return hasattr(cls, "__getattr__")


def handle_here(number: int, cls: type, label: str) -> ActorHandle:
    """Return a handle of an actor, which was unpickled here."""
    here = session.peek()
    if here is None or session.is_task():
        return ActorHandle(TaskHold(number, cls, label))
    hold = here.actors.get(number)
    if hold is None:
        raise ExecutorClosedError(f"{CLOSED}: {label} number {number}")
    return ActorHandle(hold)
