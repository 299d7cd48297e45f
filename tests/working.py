"""A master by hand, for the tests of the worker."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from mpitasks.wire import codec, messages
from mpitasks.wire.local import local_pair
from mpitasks.wire.messages import (
    CALL,
    CALL_PLAIN,
    MAP,
    MAP_PLAIN,
    Batch,
    Dismissal,
    Goodbye,
    Message,
    Outcomes,
)
from mpitasks.wire.outcomes import Failure, decode_outcome
from mpitasks.worker.loop import Worker

WHERE = "rank 1 on node7"


class Master:
    """The other end: sends batches, and reads what comes back."""

    def __init__(self) -> None:
        self.end, self.worker_end = local_pair()
        self.functions: dict[int, Callable[..., Any]] = {}
        self.replies: list[Outcomes] = []

    def send(
        self,
        *calls: tuple[int, Any, int, Any, list[Any]],
        forget: Iterable[Callable[..., Any]] = (),
    ) -> None:
        """Send one batch; a call is (task id, function, mode, payload, buffers)."""
        functions, buffers, others = [], [], []
        batch = Batch([], functions, [self._id(function) for function in forget])
        for task_id, function, mode, payload, own in calls:
            number = self._id(function)
            if number not in self.functions:
                self.functions[number] = function
                frame, parts = codec.encode(function, "the function")
                functions.append((number, frame, len(parts)))
                buffers += parts
            batch.calls.append((task_id, number, mode, payload, len(own)))
            others += own
        batch.buffers = buffers + others
        self.end.send(1, batch)

    def _id(self, function: Callable[..., Any]) -> int:
        for number, known in self.functions.items():
            if known is function:
                return number
        return len(self.functions)

    def serve(self) -> dict[int, Any]:
        """Let the worker work until it stops; return outcomes by task id."""
        self.end.send(1, Dismissal())
        Worker(self.worker_end, WHERE).serve()
        outcomes: dict[int, Any] = {}
        received: list[Message] = []
        while (arrived := self.end.poll()) is not None:
            assert arrived[0] == 1
            received.append(arrived[1])
        assert received.pop() == Goodbye()
        for reply in received:
            assert isinstance(reply, Outcomes)
            self.replies.append(reply)
            buffers = list(reply.buffers)
            for at, (task_id, value) in enumerate(
                zip(reply.ids, reply.values, strict=True)
            ):
                form, count = reply.forms.get(at, (messages.PLAIN, 0))
                own, buffers = buffers[:count], buffers[count:]
                assert task_id not in outcomes
                outcomes[task_id] = decode_outcome(form, value, own)
            assert buffers == []
        return outcomes


def plain(task_id: int, function: Any, *args: Any) -> Any:
    """Return a call with plain arguments."""
    return task_id, function, CALL_PLAIN, args, []


def framed(task_id: int, function: Any, *args: Any, **kwargs: Any) -> Any:
    """Return a call with any arguments."""
    return task_id, function, CALL, *codec.encode((args, kwargs), "it")


def chunk(task_id: int, function: Any, items: list[Any], mode: int = MAP_PLAIN) -> Any:
    """Return a chunk of plain items."""
    return task_id, function, mode, codec.encode(items, "it")[0], []


def framed_chunk(task_id: int, function: Any, items: list[Any], mode: int = MAP) -> Any:
    """Return a chunk of any items."""
    entries, buffers = [], []
    for item in items:
        frame, own = codec.encode(item, "it")
        entries.append((frame, len(own)))
        buffers += own
    return task_id, function, mode, entries, buffers


def run(*calls: Any) -> dict[int, Any]:
    """Run one batch and return its outcomes."""
    master = Master()
    master.send(*calls)
    return master.serve()


def error_of(outcome: Any) -> BaseException:
    """Return what a task raised."""
    assert type(outcome) is Failure
    return outcome.error


def double(x: Any) -> Any:
    """A task."""
    return x * 2


def fail(error: Any) -> NoReturn:
    """A task that raises what it is given."""
    raise error


class BreaksOnArrival:
    """Pickles, but does not unpickle."""

    def __reduce__(self) -> Any:
        return fail, (OSError("not here"),)

    def __call__(self, *args: Any) -> None:
        """Never called."""


class EndsOnArrival:
    """As bad as it can be."""

    def __reduce__(self) -> Any:
        return sys.exit, (3,)

    def __call__(self, *args: Any) -> None:
        """Never called."""
