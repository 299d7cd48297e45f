"""What a worker tells the master: results, what it gives back, heartbeats, deaths.

The loop (`mpitasks.worker.loop`) extends this class. The listener and the watch over
isolated tasks call it while a task runs. Callers hold the worker's lock, except in
`report`. Nothing here runs a task.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic, perf_counter, sleep  # a task may patch the module
from typing import TYPE_CHECKING, Any

from mpitasks.runner.mirror import FunctionTable
from mpitasks.wire.messages import (
    MASTER,
    Answered,
    Heartbeat,
    Lost,
    PeerFailure,
)
from mpitasks.wire.outcomes import encode_items
from mpitasks.worker.kept_results import KeptResults
from mpitasks.worker.orphan import perish
from mpitasks.worker.replies import Replies
from mpitasks.worker.state import Foresee, Phase, Send, Tell, WorkerState

if TYPE_CHECKING:
    from types import ModuleType

    from mpitasks.runner.chunks import Chunk
    from mpitasks.wire.messages import Message
    from mpitasks.wire.transport import Transport
    from mpitasks.worker.actor_calls import ActorCalls
    from mpitasks.worker.state import Urgent

__all__ = ["Speaker"]

HELPING_SECONDS = 1.0
"""Between two signs that a task with a time limit runs its children."""

SIGN_SECONDS = 3.0
"""Between two heartbeats that the master did not ask for."""


class Speaker:
    """A worker rank, as the master hears it.

    Args:
        transport: How to reach the master.
        where: Rank, host and process, for the head of tracebacks.
        listens: Whether a second thread may use the transport while user code runs.
        main: The module that is to follow the script; None for a new one.

    Attributes:
        lock: Held by the thread of the loop, except while it runs user code.
        state: What the worker holds, and how far it is.
        functions: Those that were sent.
        replies: What it says of its calls.
        kept: The results that it keeps.
        actor_calls: The calls of actors that its tasks make, if they make any.
        signs: Whether it sends heartbeats without being asked.
        foresee: Told of another end of the job: the seconds until then, and the margin.
        cut_inside: Cuts what is in the sandbox, as `Chunk.cut` does.
    """

    def __init__(
        self,
        transport: Transport,
        where: str,
        *,
        listens: bool,
        main: ModuleType | None,
    ) -> None:
        self._transport = transport
        self._where = where
        self._listens = listens
        self.lock = threading.Lock()
        self.state = WorkerState(transport.rank)
        self.functions = FunctionTable(main)
        self.replies = Replies(transport)
        self.kept = KeptResults(transport, self.lock)
        self.actor_calls: ActorCalls | None = None  # made for the first call
        self.signs = False
        self.foresee: Callable[[float, float], object] = lambda seconds, margin: None
        self.cut_inside: Callable[[], int | None] = lambda: None
        self._signed = 0.0
        self._helped = 0.0
        self._peer_failures: deque[PeerFailure] = deque()
        self._since = 0.0  # when the chunk began, or was last reported

    @property
    def busy(self) -> bool:
        """Whether it works on a batch."""
        return self.state.phase is not Phase.IDLE

    def progress(self) -> tuple[int, int]:
        """Return what changes with each call, and each item of a chunk."""
        return self.state.progress()

    def sending(self) -> bool:
        """Return whether results are still on their way."""
        return self._transport.sending()

    def send_finished(self, before: float = math.inf) -> None:
        """Send the results of what is finished, also of items of the chunk that runs.

        For the listener, under the lock, while user code runs.

        Args:
            before: Leave out what began to wait after that time, on the clock of
                `time.perf_counter`.
        """
        chunk = self.state.chunk
        if chunk is not None and self._since <= before:
            values = chunk.head()
            if values:
                self._add_part(chunk, values)
                self.replies.flush(0)
                return
        if self.replies.due <= before:
            self.replies.flush(0)

    def _add_part(self, chunk: Chunk, values: list[Any]) -> None:
        """Add the next values of the chunk that runs to the report."""
        call = self.state.current()
        assert call is not None
        task_id, function_id, *_ = call
        try:
            form = encode_items(values, self._where)
        except MemoryError:
            return  # they go with the last report
        count = len(values)
        chunk.note_reported(count)
        now = perf_counter()
        seconds, self._since = now - self._since, now
        self.replies.add_part(task_id, function_id, count, form, seconds)
        if self.state.drew:  # and stays so: it may be the item that runs
            self.replies.note_drawn(task_id)

    @property
    def is_limited(self) -> bool:
        """Whether the task that runs has a time limit, which the master knows."""
        spec = self.state.spec
        return spec is not None and spec.timeout is not None

    def sign_helping(self) -> None:
        """Have the master's clock start anew: the running task runs its children.

        Only now and then.
        """
        now = perf_counter()
        if now - self._helped > HELPING_SECONDS:
            self._helped = now
            self.replies.sign()

    def give_back(self) -> None:
        """Send the results, and give what is not begun back to the master.

        For the listener, under the lock, when a call takes long: other workers may be
        idle.
        """
        self.send_finished()
        kept = None
        if self.state.chunk is not None:
            kept = self.state.chunk.cut()
        elif self.state.phase is Phase.SANDBOX:
            kept = self.cut_inside()
        self.take_in()
        returned = self.state.give_back(kept)
        if returned is not None:
            self._transport.send(MASTER, returned)

    def report(self, rank: int, how: str) -> None:
        """Tell the master that another worker has died. Any thread may call this.

        It returns when that was sent: when the loop is next between two tasks, or, with
        a listener, while user code runs that releases the GIL.
        """
        self._peer_failures.append(PeerFailure(rank, how))
        self._transport.wake()
        while self._peer_failures:
            if self._listens and self.lock.acquire(timeout=0.05):
                try:
                    self._send_peer_failures()
                finally:
                    self.lock.release()
            else:
                sleep(0.05)

    def say_what_waits(self) -> None:
        """Send deaths, heartbeats and log records, which do not wait for results."""
        if self._peer_failures:
            self._send_peer_failures()
        if self.signs:
            self._give_sign()
        if self.replies.logs is not None:
            self.replies.logs.flush()

    def _give_sign(self) -> None:
        """Send a heartbeat, if the last was some time ago."""
        now = monotonic()
        if now - self._signed > SIGN_SECONDS:
            self._signed = now
            self._transport.send(MASTER, Heartbeat())

    def _send_peer_failures(self) -> None:
        while self._peer_failures:
            self._transport.send(MASTER, self._peer_failures.popleft())

    def take_in(self) -> bool:
        """Send what does not wait for results, and receive one message, if one came.

        Returns:
            Whether one did.
        """
        self.say_what_waits()
        arrived = self._transport.poll()
        if arrived is None:
            return False
        self.receive(*arrived)
        return True

    def receive(self, source: int, message: Message) -> None:
        """Take a message in, and do what cannot wait for the end of a task."""
        if type(message) is Answered:
            assert self.actor_calls is not None
            self.actor_calls.take(message)
            return
        if type(message) is Lost and source != MASTER:
            self.kept.lose(source)
            return
        action = self.state.receive(message)
        if action is not None:
            self._attend(action)

    def _attend(self, action: Urgent) -> None:
        """Do what cannot wait for the end of a task."""
        if type(action) is Send:
            self._transport.send(MASTER, action.message)
        elif type(action) is Foresee:
            self.foresee(action.seconds_left, action.margin)
        elif type(action) is Tell:
            self.kept.receive(action.message)
        else:
            perish()
