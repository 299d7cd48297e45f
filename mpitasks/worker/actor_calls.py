"""Calls of actors that tasks on this worker make, and the wait for their answers.

A call goes to rank 0, which puts it into the actor's mailbox like any other, and sends
what it came to back. The thread of the task waits in `ActorCalls.drive`. Meanwhile it
runs calls of actors that live on this rank, on its own stack: else two ranks that wait
for each other's actors would wait for ever. It never runs a call of an actor that is on
the stack already, since that one is in the middle of a call.

If it waits for long it says so, and rank 0 looks whether that can end
(`mpitasks.scheduler.actor_waits`). Other work of the batch is given back then.

How tasks reach this is in `mpitasks.actor_objects.caller`; what they hold is an
`mpitasks.api.actors.ActorHandle`.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic  # a task may patch the module
from typing import TYPE_CHECKING, Any, NoReturn

from mpitasks.errors import ConfigurationError
from mpitasks.runner import limits, nesting
from mpitasks.wire.messages import Answered, Awaited, Called, actor_of

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from typing import Protocol

    from mpitasks.runner.current_task import CurrentTask
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.messages import Batch, Message

    class State(Protocol):
        """What is asked of the state of a worker."""

        def take_served(
            self, busy: Container[int]
        ) -> tuple[Batch, Sequence[Batch]] | None:
            """Return a batch that a task which waits may run."""

        def current(self) -> tuple[int, int, int, Any, int] | None:
            """Return the call that runs."""

    class Worker(nesting.Runner, Protocol):
        """What is asked of a worker: see `mpitasks.worker.loop.Worker`."""

        lock: threading.Lock

        @property
        def state(self) -> State:
            """What it holds."""

        @property
        def rank(self) -> int:
            """Its rank."""

        @property
        def thread(self) -> int:
            """The thread that runs tasks."""

        def send(self, message: Message) -> None:
            """Send rank 0 a message."""

        def send_finished(self) -> None:
            """Send the results of what is finished."""

        def give_back(self) -> None:
            """Give back what is not begun."""

        def take_in(self) -> bool:
            """Receive one message; return whether one came."""

        def pause(self, seconds: float) -> None:
            """Pause until a message may have come."""

        def learn_early(self, batch: Batch) -> None:
            """Take in the functions of a batch."""

        def run_inside(self, batch: Batch) -> None:
            """Run a batch while a task waits."""

        def task_here(self) -> CurrentTask | None:
            """Return the task that is running."""


__all__ = ["ActorCalls"]

LONG_SECONDS = 0.005
"""After this time a wait is told to rank 0, and results that are there are sent."""

GIVE_BACK_SECONDS = 0.05
"""After this time what waits behind the task is given back, as the listener does."""

MOST_SECONDS = 0.05
"""No pause is longer: another thread of the task may have what is waited for."""

IN_THREAD = (
    "an actor was called, or its answer asked for, in a thread that a task has "
    "started: only the task's own thread can do that"
)

Answer = Callable[[int, Any, "list[Buffer]"], None]


class ActorCalls:
    """The calls of one worker's tasks. It is what their futures are driven by.

    Args:
        worker: The worker.

    Attributes:
        is_shut: False: a task ends before its worker does.
        settle_logs: None: log records are rank 0's business.
    """

    is_shut = False
    settle_logs = None

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._numbers = 0
        self._open: dict[int, Answer] = {}
        self._callbacks: deque[Callable[[], None]] = deque()
        self._stack: list[int] = []  # the actors whose calls wait here

    def call(
        self,
        actor: int,
        name: str,
        mode: int,
        payload: Any,
        buffers: list[Buffer],
        answer: Answer,
        *,
        reads: bool,
        timeout: float | None,
        label: str | None,
    ) -> int:
        """Send a call to rank 0; return its number.

        Args:
            actor: The actor.
            name: The method, or the attribute.
            mode: CALL_PLAIN or CALL.
            payload: The arguments, as in `mpitasks.wire.messages`.
            buffers: Theirs.
            answer: Told of form, payload and buffers of what it comes to, under the
                worker's lock.
            reads: Whether an attribute is meant.
            timeout: Its time limit, in seconds.
            label: Its label.
        """
        self._check_thread()
        worker = self._worker
        with worker.lock:
            self._numbers += 1
            number = self._numbers
            self._open[number] = answer
            rank = worker.rank
            worker.send(
                Called(
                    rank,
                    number,
                    actor,
                    reads,
                    name,
                    mode,
                    payload,
                    timeout,
                    label,
                    buffers,
                )
            )
        return number

    def take(self, message: Answered) -> None:
        """Take in what a call came to. Under the worker's lock."""
        answer = self._open.pop(message.number)
        answer(message.form, message.value, list(message.buffers))

    # What a future asks of an event loop: see `mpitasks.master.future.Driver`.

    def drive(
        self,
        done: Callable[[], bool],
        block: Callable[[float], object],
        timeout: float | None = None,
    ) -> bool:
        """Run calls of actors of this rank until `done`; return whether it is.

        Raises:
            ConfigurationError: This is not the thread that runs the task.
            TaskTimeout: The task has reached its limit.
        """
        if done():
            return True
        self._check_thread()
        future = getattr(done, "__self__", None)
        awaited = getattr(future, "actor_call", None)
        began = monotonic()
        end = None if timeout is None else began + timeout
        own = self._actor_running()
        if own is not None:
            self._stack.append(own)
        try:
            self._wait(done, awaited, began, end)
        finally:
            if own is not None:
                self._stack.pop()
        while self._callbacks:
            self._callbacks.popleft()()
        return done()

    def _wait(
        self,
        done: Callable[[], bool],
        awaited: tuple[int, int] | None,
        began: float,
        end: float | None,
    ) -> None:
        worker = self._worker
        told = gave_back = False
        while True:
            with limits.held_off(), worker.lock:
                while not done():
                    if limits.is_due():
                        break  # raised where nothing of ours is under way
                    served = worker.state.take_served(self._stack)
                    if served is not None:
                        self._serve(*served)
                        continue
                    now = monotonic()
                    if end is not None and now >= end:
                        return
                    if not told and now - began > LONG_SECONDS:
                        told = True
                        worker.send_finished()
                        if awaited is not None:
                            worker.send(Awaited(worker.rank, *awaited, [*self._stack]))
                    if not gave_back and now - began > GIVE_BACK_SECONDS:
                        gave_back = True
                        worker.give_back()
                        continue
                    if not worker.take_in():
                        limit = MOST_SECONDS if told else LONG_SECONDS / 5
                        if end is not None:
                            limit = min(limit, end - now)
                        worker.pause(limit)
                else:
                    return

    def _serve(self, batch: Batch, before: Sequence[Batch]) -> None:
        """Run a batch of another actor on this stack.

        Args:
            batch: The batch.
            before: Those that came before it, and may have functions that it needs.
        """
        worker = self._worker
        for each in (*before, batch):
            worker.learn_early(each)
        with limits.let_through():
            nesting.run_child(
                worker, worker.task_here, functools.partial(worker.run_inside, batch)
            )

    def _actor_running(self) -> int | None:
        """Return the actor whose call runs; None if a task does."""
        call = self._worker.state.current()
        return None if call is None else actor_of(call[1]) or None

    def _check_thread(self) -> None:
        if threading.get_ident() != self._worker.thread:
            raise ConfigurationError(IN_THREAD)

    def watch(self) -> None:
        """Nobody else drives."""

    def wake_driver(self) -> None:
        """The thread that waits looks now and then."""

    def call_back(self, callback: Callable[[], None]) -> None:
        """Have `callback` run when the task next waits."""
        self._callbacks.append(callback)

    def cancel(self, tasks: list[Any]) -> None:
        """Calls of tasks cannot be taken back."""

    def pass_on(self, arrived: Any) -> None:
        """No call waits for a result here."""

    def refuse(self) -> NoReturn:
        """Never called: see `is_shut`."""
        raise AssertionError
