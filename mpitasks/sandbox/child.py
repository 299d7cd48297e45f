"""The child's side of the sandbox: take a call from the rank, run it, answer.

It is one process with one thread of ours, which user code has to itself: whatever that
does to the process, it does not do it to the rank. MPI is not initialised here.
Requests and answers are described in `mpitasks.worker.sandbox`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks import forks
from mpitasks.randomness import Draw, place_at, refuse_thread
from mpitasks.wire import codec
from mpitasks.wire.messages import (
    CALL,
    CALL_PLAIN,
    MAP_PLAIN,
    PLAIN,
    STARMAP,
    STARMAP_PLAIN,
)
from mpitasks.wire.outcomes import Form, encode_error, encode_result
from mpitasks.worker.current import CurrentTask
from mpitasks.worker.mirror import Functions, Unloadable, unpickle
from mpitasks.worker.order import TOGETHER

if TYPE_CHECKING:
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.messages import LogSetup
    from mpitasks.worker.channel import Channel
    from mpitasks.worker.logs import ChildRelay
    from mpitasks.worker.slate import Slate

__all__ = ["Isolated"]


class Isolated:
    """Runs calls in this process.

    Args:
        channel: The way to the rank.
        slate: Where it says how far it is.
        where: Rank, host and process, for the head of tracebacks.

    Attributes:
        functions: Those that were sent.
    """

    def __init__(self, channel: Channel, slate: Slate, where: str) -> None:
        self._channel = channel
        self._slate = slate
        self._where = where
        self.functions = Functions()
        self._task: tuple[Any, ...] | None = None
        self._item: int | None = None  # which of a chunk runs
        self._thread = threading.get_ident()
        self._logs: ChildRelay | None = None

    def serve(self) -> None:
        """Run what the rank sends until it closes the channel."""
        while (message := self._channel.receive()) is not None:
            self._run(*message)

    def _run(self, request: tuple[Any, ...], buffers: list[Buffer]) -> None:
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
            self._slate.loaded()
        self._task = task
        if mode in (CALL_PLAIN, CALL):
            buffers.reverse()
            form = None
            if self._slate.begin(0):
                form = self._call(function, mode, payload, buffers)
            self._answer(0, form, done=True)
        elif mode == TOGETHER:
            self._calls(function, payload, first)
        else:
            self._map(function, mode, payload, first, buffers)
        self._task = None

    def disown(self) -> None:
        """In a forked child: answer nothing from there."""
        end: Any = forks.EndOfChild()
        self._channel = self._slate = end

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
        self._slate.note_drawn()  # before: it may crash
        return Draw("task", (self._task[0], place), *place)

    def _follow_logs(self, setup: LogSetup | None) -> None:
        """Have log records of tasks go to the rank, or no more of them."""
        if self._logs is None:
            from mpitasks.worker.logs import ChildRelay

            self._logs = ChildRelay(self._channel.send, self._attributes)
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

    def _call(
        self,
        function: Callable[..., Any],
        mode: int,
        payload: Any,
        buffers: list[Buffer],
    ) -> Form:
        try:
            if type(function) is Unloadable:
                function()  # or the arguments would be blamed, which need the same
            args, kwargs = payload, {}
            if mode == CALL:
                args, kwargs = unpickle(payload, buffers, "the arguments", self._where)
                buffers.clear()
            box = [function(*args, **kwargs)]
            forks.leave()
            del args, kwargs  # what they still refer to dies before the value is sent
            return encode_result(box, self._where)
        except BaseException as error:  # whatever it is, it belongs to the task
            forks.leave(error)
            return encode_error(error, self._where)

    def _calls(
        self, function: Callable[..., Any], calls: list[Any], first: int
    ) -> None:
        """Run several calls, as the items of a chunk."""
        for at, (mode, payload, task) in enumerate(calls, first):
            if not self._slate.begin(at):
                break
            self._task = task
            self._put(at, self._call(function, mode, payload, []))
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
        spread = mode in (STARMAP, STARMAP_PLAIN)
        items = codec.decode(payload)[first:] if plain else payload
        slate = self._slate
        for at, item in enumerate(items, first):
            own = [] if plain else [buffers.pop() for _ in range(item[1])]
            if not slate.begin(at):
                break
            self._item = at
            self._put(at, self._apply(function, item, own, plain, spread))
        self._item = None
        self._answer(0, None, done=True)

    def _apply(
        self,
        function: Callable[..., Any],
        item: Any,
        buffers: list[Buffer],
        plain: bool,
        spread: bool,
    ) -> Form:
        try:
            if type(function) is Unloadable:
                function()  # or the item would be blamed, which needs the same
            if not plain:
                item = unpickle(item[0], buffers, "an item", self._where)
                buffers.clear()
            value = function(*item) if spread else function(item)
            forks.leave()
            if id(type(value)) in codec.SCALAR_IDS:
                return PLAIN, value, []
            del item
            box = [value]
            del value
            return encode_result(box, self._where)
        except BaseException as error:
            forks.leave(error)
            return encode_error(error, self._where)

    def _put(self, at: int, form: Form) -> None:
        """Leave the result of an item on the slate, or send it."""
        if form[2] or not self._slate.note(form[:2]):
            self._answer(at, form)

    def _answer(self, at: int, form: Form | None, *, done: bool = False) -> None:
        """Send what is on the slate, then the result of item `at`."""
        first, notes = (0, b"") if done else self._slate.notes()
        told: tuple[int, Any] | None = None
        buffers: list[Buffer] = []
        if form is not None:
            kind, payload, buffers = form
            told = kind, payload
        loaded = "numpy" in sys.modules
        try:
            self._send((first, notes, at, told, done, loaded), buffers)
        except ConnectionError:
            raise
        except (OSError, MemoryError) as error:  # no memory to share
            kind, payload, _ = encode_error(error, self._where)
            told = kind, payload
            self._send((first, notes, at, told, done, loaded))
        if not done:
            self._slate.wipe(at + 1)
