"""The results of a worker: gathers them, and decides when they are sent.

Results of a batch go back together, unless they have waited for `FLUSH_SECONDS`.
"""

from __future__ import annotations

from time import perf_counter  # a task may patch the module
from typing import TYPE_CHECKING, Any

from mpitasks.wire.messages import (
    ERROR,
    ITEMS,
    MASTER,
    PLAIN,
    VALUE,
    Outcomes,
    Overhead,
    Result,
)
from mpitasks.wire.outcomes import encode_error, form_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mpitasks.runner.log_relay import Relay
    from mpitasks.wire.outcomes import Form
    from mpitasks.wire.transport import Transport

__all__ = ["Replies"]

FLUSH_SECONDS = 0.002
"""How long a result waits for others of its batch. Then it is sent before the next
call."""

REPLY_BYTES = 8 << 20
"""Results of this size are sent without waiting for others."""

SETTLE_SECONDS, SETTLE_BYTES_PER_SECOND = 0.2e-3, 1e9
"""How long large results get to leave before the next task starts, and at which rate
they are taken to leave: while user code runs, only the listener drives their transfer,
and it looks rarely. They get no more: rank 0 may have other things to do."""

TOLD_SECONDS = 10e-3
"""Most functions are made in less, which is not worth a message."""

_BARE = (PLAIN, VALUE)


class Replies:
    """The replies of one worker, one after the other.

    Args:
        transport: How to reach the master.

    Attributes:
        logs: Log records that go before the results, if any are wanted.
        due: When the results must be sent, on the clock of `time.perf_counter`.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._reply = self._empty()
        self.logs: Relay | None = None
        self.due = 0.0
        self._nbytes = 0  # of the results that wait
        self._leaving = 0  # of the reply that was sent last
        self._overhead: Overhead | None = None

    def add(
        self, task_id: int, function_id: int, items: int, form: Form, seconds: float
    ) -> None:
        """Take note of what became of a call, or a chunk.

        Args:
            task_id: Its id.
            function_id: That of its function.
            items: How many items it had.
            form: What it came to.
            seconds: How long it took.
        """
        kind, value, buffers = form
        reply = self._reply
        nbytes = 0
        if kind != PLAIN:
            nbytes = form_bytes(kind, value, buffers)
            self._nbytes += nbytes
            if self._nbytes >= REPLY_BYTES:
                self.due = 0.0
            reply.forms[len(reply.ids)] = (kind, len(buffers))
            reply.buffers += buffers
            if kind == ERROR:
                reply.failed.append(task_id)
        reply.ids.append(task_id)
        reply.values.append(value)
        costs = reply.costs
        if not costs or costs[-1][0] != function_id:
            costs.append([function_id, 0, 0.0, 0])
        cost = costs[-1]
        cost[1] += items
        cost[2] += seconds
        cost[3] += nbytes

    def add_part(
        self, task_id: int, function_id: int, items: int, form: Form, seconds: float
    ) -> None:
        """Take note of what became of the next items of a chunk that still runs.

        It must be sent before the chunk is reported again. The arguments are those of
        `add`, for these items alone.
        """
        self.add(task_id, function_id, items, form, seconds)
        self._reply.parts[task_id] = items

    def note_drawn(self, task_id: int) -> None:
        """Take note that the value added last depends on random numbers of ours."""
        self._reply.drawn.append(task_id)

    def note_loading(self, seconds: float) -> None:
        """Take note that functions were made, if that took long enough to tell."""
        if seconds >= TOLD_SECONDS:
            self._spent().loading += seconds

    def note_copies(self, seconds: float, copied: Iterable[tuple[int, int]]) -> None:
        """Take note of copies of kept results.

        Args:
            seconds: How long it took to get them.
            copied: The ranks of those that keep them, and their bytes.
        """
        spent = self._spent()
        spent.copying += seconds
        for rank, nbytes in copied:
            if rank != self._transport.rank:
                spent.copied[rank] = spent.copied.get(rank, 0) + nbytes

    def _spent(self) -> Overhead:
        if self._overhead is None:
            self._overhead = Overhead(0.0, 0.0, {})
        return self._overhead

    def send_by(self, transport: Transport) -> None:
        """Send by another transport from now on."""
        self._transport = transport

    def begin(self, now: float) -> None:
        """Let what comes from now on wait for other results."""
        self.due = now + FLUSH_SECONDS

    def flush_due(self) -> None:
        """Send results that have waited long enough, or that are large."""
        self.flush(0)
        self.settle()
        self.begin(perf_counter())

    def flush(self, batches: int) -> None:
        """Send the results, and the number of batches that are done."""
        if self.logs is not None:
            self.logs.flush()
        reply = self._reply
        if batches or reply.ids:
            reply.batches = batches
            if self._overhead is not None:
                overhead, self._overhead = self._overhead, None
                self._transport.send(MASTER, overhead)
            try:
                self._transport.send(MASTER, reply)
            except MemoryError as error:
                _spare(reply, error, f"rank {self._transport.rank}")
                self._transport.send(MASTER, reply)
            self._reply = self._empty()
            self._leaving, self._nbytes = self._nbytes, 0

    def answer(
        self, task_id: int, function_id: int, form: Form, seconds: float
    ) -> None:
        """Send the outcome of a request at once: as `add` and `flush`."""
        kind, value, buffers = form
        if kind not in _BARE or buffers:
            self.add(task_id, function_id, 1, form, seconds)
            self.flush(1)
            return
        if self.logs is not None:
            self.logs.flush()
        rank = self._transport.rank
        nbytes = 0 if kind == PLAIN else len(value)
        self._transport.send(
            MASTER, Result(rank, task_id, function_id, seconds, nbytes, kind, value)
        )
        self._leaving = nbytes

    def settle(self) -> None:
        """Give results that are still on their way time to leave."""
        sending = self._transport.sending
        if sending():
            seconds = SETTLE_SECONDS + self._leaving / SETTLE_BYTES_PER_SECOND
            end = perf_counter() + seconds
            while sending() and perf_counter() < end:
                self._transport.wait(0.0)

    def sign(self) -> None:
        """Tell the master that this rank works, though no task of it can end yet."""
        self._transport.send(MASTER, self._empty())

    def _empty(self) -> Any:
        return Outcomes(self._transport.rank, 0, [], [], [], [], {}, [], {}, [])


def _spare(reply: Outcomes, error: MemoryError, where: str) -> None:
    """Let tasks fail whose results do not fit into memory once more, to be sent."""
    _, payload, _ = encode_error(error, where)
    for at in reply.forms:
        task_id = reply.ids[at]
        if task_id in reply.parts:  # only these items fail
            reply.forms[at] = ITEMS, 0
            reply.values[at] = [(ERROR, payload, 0)] * reply.parts[task_id]
            continue
        reply.forms[at] = ERROR, 0
        reply.values[at] = payload
        if task_id not in reply.failed:
            reply.failed.append(task_id)
    reply.buffers.clear()
