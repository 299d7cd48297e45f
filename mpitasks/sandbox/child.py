"""The child's side of the sandbox: take a call from the rank, run it, answer.

It is one process with one thread of ours, which user code has to itself: whatever that
does to the process, it does not do it to the rank. MPI is not initialised here.
Requests and answers are described in `mpitasks.sandbox.sandbox`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks import forks, walltime
from mpitasks.randomness import Draw, place_at, refuse_thread
from mpitasks.runner.current_task import CurrentTask
from mpitasks.runner.damage import replaced
from mpitasks.runner.execution import run_call, run_item
from mpitasks.runner.mirror import FunctionTable
from mpitasks.sandbox.channel import LOG
from mpitasks.sandbox.request import TOGETHER
from mpitasks.wire import codec
from mpitasks.wire.messages import (
    CALL,
    CALL_PLAIN,
    MAP_PLAIN,
    STARMAP_PLAIN,
)
from mpitasks.wire.outcomes import Form, encode_error

if TYPE_CHECKING:
    from mpitasks.runner.log_relay import ChildRelay
    from mpitasks.sandbox.channel import Channel
    from mpitasks.sandbox.progress_page import ProgressPage
    from mpitasks.task_spec import Place
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.messages import LogSetup

__all__ = ["Isolated"]


class Isolated:
    """Runs calls in this process.

    Args:
        channel: The way to the rank.
        progress page: Where it says how far it is.
        where: Rank, host and process, for the head of tracebacks.

    Attributes:
        functions: Those that were sent.
        on_leave: Called when the rank has no more work for it.
    """

    def __init__(self, channel: Channel, page: ProgressPage, where: str) -> None:
        self._channel = channel
        self._page = page
        self._where = where
        self.functions = FunctionTable()
        self.on_leave: Callable[[], None] = lambda: None
        self._task: tuple[Any, ...] | None = None
        self._item: int | None = None  # which of a chunk runs
        self._thread = threading.get_ident()
        self._logs: ChildRelay | None = None

    def serve(self) -> None:
        """Run what the rank sends until it closes the channel, or a task breaks us."""
        walltime.follow(self._page.job_end)
        while (message := self._channel.receive()) is not None:
            (number, *request), buffers = message
            self._page.take_up(number)
            self._run(request, buffers)
            if replaced():
                return  # the next task gets a process in which all is in its place

    def _run(self, request: list[Any], buffers: list[Buffer]) -> None:
        function_id, sent, mode, payload, first, forget, task, *news = request
        if news:
            self._follow_logs(*news)
        functions = self.functions
        functions.forget(forget)
        buffers.reverse()  # taken from the end, so that each is let go with its item
        for told in sent:
            functions.learn(told, buffers)
        function = functions.ready(function_id)
        if sent:
            self._page.loaded()
        self._task = task
        if mode in (CALL_PLAIN, CALL):
            buffers.reverse()
            form = None
            if self._page.begin(0):
                form = run_call(function, mode, payload, buffers, self._where)
            self._answer(0, form, done=True)
        elif mode == TOGETHER:
            self._calls(function, payload, first)
        else:
            self._map(function, mode, payload, first, buffers)
        self._task = None

    def disown(self) -> None:
        """In a forked child: answer nothing from there."""
        end: Any = forks.EndOfChild()
        self._channel = self._page = end

    def current_task(self) -> CurrentTask | None:
        """Return the task that is running here, if one is."""
        if self._task is None:
            return None
        id, attempt, label, rank, host, places = self._task
        _, place = place_at(places, self._item) or (0, ())
        return CurrentTask(id, attempt, label, rank, host, place)

    def draw(self) -> Draw | None:
        """Return where the task that is running here has its random numbers from."""
        if self._task is None:
            return None
        refuse_thread(self._thread)
        place = place_at(self._task[-1], self._item)
        if place is None:
            return None
        self._page.note_drawn()  # before: it may crash
        return Draw("task", (self._task[0], place), *place)

    def tell_helping(self) -> None:
        """The running task runs its children: its limit is the rank's business."""

    def name_task(self) -> tuple[int | None, str | None]:
        """Return number and label of the task that is running here, if one is."""
        return (None, None) if self._task is None else (self._task[0], self._task[2])

    def place(self) -> Place | None:
        """Return where in the program the task stands that is running here."""
        return None if self._task is None else place_at(self._task[-1], self._item)

    def _follow_logs(self, setup: LogSetup | None) -> None:
        """Have log records of tasks go to the rank, or no more of them."""
        if self._logs is None:
            from mpitasks.runner.log_relay import ChildRelay

            channel = self._channel
            self._logs = ChildRelay(
                channel.send,
                lambda record: channel.send((LOG, record)),
                self._attributes,
            )
        self._logs.follow(setup)

    def _send(self, fields: tuple[Any, ...], buffers: Sequence[Any] = ()) -> None:
        if self._logs is None:
            self._channel.send(fields, buffers)
        else:
            self._logs.send(fields, buffers)

    def _attributes(self) -> tuple[int, str, int | None, str | None]:
        if self._task is None:
            return -1, "", None, None
        id, _, label, rank, host, _ = self._task
        return rank, host, id, label

    def _calls(
        self, function: Callable[..., Any], calls: list[Any], first: int
    ) -> None:
        """Run several calls, as the items of a chunk."""
        for at, (mode, payload, task) in enumerate(calls, first):
            if not self._page.begin(at):
                break
            self._task = task
            self._put(at, run_call(function, mode, payload, [], self._where))
            if replaced():
                break
        self._answer(0, None, done=True)

    def _map(
        self,
        function: Callable[..., Any],
        mode: int,
        payload: Any,
        first: int,
        buffers: list[Buffer],
    ) -> None:
        plain = mode in (MAP_PLAIN, STARMAP_PLAIN)
        items = codec.decode(payload)[first:] if plain else payload
        page = self._page
        for at, item in enumerate(items, first):
            frame, count = (item, 0) if plain else item
            own = [buffers.pop() for _ in range(count)]
            if not page.begin(at):
                break
            self._item = at
            self._put(at, run_item(function, mode, frame, own, self._where))
        self._item = None
        self._answer(0, None, done=True)

    def _put(self, at: int, form: Form) -> None:
        """Leave the result of an item on the progress page, or send it."""
        if form[2] or not self._page.note(at, form[:2]):
            self._answer(at, form)

    def _answer(self, at: int, form: Form | None, *, done: bool = False) -> None:
        """Send what is on the progress page, then the result of item `at`.

        At the end the rank reads the progress page by itself, if it is whole.
        """
        page = self._page
        self._channel.refuse_replaced()
        notes = None if done and page.whole() else page.take()
        told: tuple[int, Any] | None = None
        buffers: list[Buffer] = []
        if form is not None:
            kind, payload, buffers = form
            told = kind, payload
        rest = done, page.noted_draw, "numpy" in sys.modules
        try:
            self._send((notes, at, told, *rest), buffers)
        except ConnectionError:
            raise
        except (OSError, MemoryError) as error:  # no memory to share
            kind, payload, _ = encode_error(error, self._where)
            told = kind, payload
            self._send((notes, at, told, *rest))
        if done:
            page.note_answered()
        else:
            page.wipe()
