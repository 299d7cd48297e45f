"""A master by hand, for the tests of the worker."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from mpitasks.task_spec import TaskSpec
from mpitasks.wire import codec, messages
from mpitasks.wire.local_transport import local_pair
from mpitasks.wire.messages import (
    CALL,
    CALL_PLAIN,
    MAP,
    MAP_PLAIN,
    Batch,
    Goodbye,
    Message,
    Outcomes,
    Overhead,
    Request,
    Result,
    Returned,
    Shutdown,
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
        self.returned: list[Returned] = []
        self.results: list[Result] = []
        self.parts: dict[int, list[Any]] = {}

    def request(
        self,
        call: tuple[int, Any, int, Any, list[Any]],
        task_spec: TaskSpec | None = None,
    ) -> None:
        """Send a call that needs no more; its function goes ahead of it, if need be."""
        task_id, function, mode, payload, own = call
        number = self._id(function)
        assert not own
        if number not in self.functions:
            self.functions[number] = function
            frame, parts = codec.encode(function, "the function")
            assert not parts
            self.end.send(1, Batch([], [(number, None, frame, None, (), (), ())]))
        fields = None if task_spec is None else tuple(task_spec)
        self.end.send(1, Request((task_id, number, mode, payload, 0), fields))

    def send(
        self,
        *calls: tuple[int, Any, int, Any, list[Any]],
        forget: Iterable[Callable[..., Any]] = (),
        task_spec: dict[int, TaskSpec] | None = None,
        places: dict[int, Any] | None = None,
    ) -> None:
        """Send one batch; a call is (task id, function, mode, payload, buffers)."""
        functions, buffers, others = [], [], []
        batch = Batch([], functions, [self._id(function) for function in forget])
        for task_id, function, mode, payload, own in calls:
            number = self._id(function)
            if number not in self.functions:
                self.functions[number] = function
                frame, parts = codec.encode(function, "the function")
                functions.append(
                    (number, None, frame, None, (None,) * len(parts), (), ())
                )
                buffers += parts
            batch.calls.append((task_id, number, mode, payload, len(own)))
            others += own
        batch.buffers = buffers + others
        if task_spec:
            batch.task_spec = {
                task_id: tuple(own) for task_id, own in task_spec.items()
            }
        batch.places = places
        self.end.send(1, batch)

    def _id(self, function: Callable[..., Any]) -> int:
        for number, known in self.functions.items():
            if known is function:
                return number
        return len(self.functions)

    def serve(self) -> dict[int, Any]:
        """Let the worker work until it stops; return outcomes by task id."""
        self.end.send(1, Shutdown())
        Worker(self.worker_end, WHERE).serve()
        received: list[Message] = []
        while (arrived := self.end.poll()) is not None:
            assert arrived[0] == 1
            received.append(arrived[1])
        assert received.pop() == Goodbye()
        return self.read(received)

    def read(self, received: Iterable[Message]) -> dict[int, Any]:
        """Take in what a worker said; return outcomes by task id."""
        outcomes: dict[int, Any] = {}
        for reply in received:
            if isinstance(reply, Returned):
                self.returned.append(reply)
                continue
            if isinstance(reply, Overhead):  # on a busy machine
                continue
            if isinstance(reply, Result):
                self.results.append(reply)
                reply = _report(reply)
            assert isinstance(reply, Outcomes)
            self.replies.append(reply)
            buffers = list(reply.buffers)
            for at, (task_id, value) in enumerate(
                zip(reply.ids, reply.values, strict=True)
            ):
                form, count = reply.forms.get(at, (messages.PLAIN, 0))
                own, buffers = buffers[:count], buffers[count:]
                assert task_id not in outcomes
                outcome = decode_outcome(form, value, own)
                if task_id in reply.parts:
                    assert len(outcome) == reply.parts[task_id] > 0
                    self.parts.setdefault(task_id, []).extend(outcome)
                    continue
                if task_id in self.parts:
                    assert len(outcome) > 0
                    outcome = self.parts.pop(task_id) + outcome
                outcomes[task_id] = outcome
            assert buffers == []
            assert reply.parts.keys() <= set(reply.ids)
        assert self.parts == {}
        return outcomes


def _report(result: Result) -> Outcomes:
    """Return what a report says instead of a result."""
    costs = [(result.function, 1, result.seconds, result.nbytes)]
    forms = {} if result.form == messages.PLAIN else {0: (result.form, 0)}
    return Outcomes(result.rank, 1, [result.id], [], costs, [result.value], forms)


class Running(Master):
    """A master whose worker runs in a thread of its own.

    Args:
        listens: Whether it has a listener.
        kind: What the worker is.

    Attributes:
        worker: The worker.
    """

    def __init__(self, *, listens: bool = False, kind: type[Worker] = Worker) -> None:
        super().__init__()
        self.worker = kind(self.worker_end, WHERE, listens=listens)
        self.thread = threading.Thread(target=self.worker.serve, daemon=True)
        self.thread.start()
        self._received: list[Message] = []

    def give_back(self) -> None:
        """Do what the listener does when user code takes long."""
        assert self.worker.lock.acquire(timeout=PATIENCE)
        self.worker.give_back()
        self.worker.lock.release()

    def receive(self, kind: type[Message]) -> Any:
        """Return the next message of that kind; others are kept for the end."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            arrived = self.end.poll()
            if arrived is None:
                self.end.wait(1.0)
                continue
            self._received.append(arrived[1])
            if type(arrived[1]) is kind:
                return arrived[1]
        raise AssertionError(f"no {kind.__name__} came, but {self._received}")

    def drop(self, kind: type[Message]) -> None:
        """Keep no message of that kind for the end."""
        self._received = [one for one in self._received if type(one) is not kind]

    def finish(self) -> dict[int, Any]:
        """Let the worker do what it has and stop; return outcomes by task id."""
        self.end.send(1, Shutdown())
        self.receive(Goodbye)
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        assert self._received.pop() == Goodbye()
        return self.read(self._received)


PATIENCE = 120.0
"""Seconds after which what a test waits for is taken to hang."""

_gates: list[Gate] = []


class Gate:
    """A door at which tasks wait until the test opens it.

    Tasks know it by its number, since what they know is pickled.

    Attributes:
        number: Its number.
        reached: A task waits, or has waited.
        seen: What tasks brought along, in order.
    """

    def __init__(self) -> None:
        self.number = len(_gates)
        self.reached = threading.Event()
        self.seen: list[Any] = []
        self._opened = threading.Event()
        _gates.append(self)

    def open(self) -> None:
        """Let tasks through."""
        self._opened.set()

    def hold(self) -> None:
        """Wait until it opens."""
        self.reached.set()
        assert self._opened.wait(PATIENCE)

    def await_task(self) -> None:
        """Wait until a task waits."""
        assert self.reached.wait(PATIENCE)


def hold(number: int, value: Any = None) -> Any:
    """A task that waits at a gate."""
    _gates[number].seen.append(value)
    _gates[number].hold()
    return value


def double_or_hold(number: int, at: Any, x: Any) -> Any:
    """A task for the items of a chunk, one of which waits at a gate."""
    _gates[number].seen.append(x)
    if x == at:
        _gates[number].hold()
    return x * 2


def seen_at(number: int) -> list[Any]:
    """What tasks brought to a gate: a list that others change."""
    return _gates[number].seen


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
