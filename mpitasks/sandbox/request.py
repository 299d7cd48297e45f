"""What a child is to run, and what came of it, over as many children as it takes.

Pure bookkeeping: no process, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.records import dataclass, field
from mpitasks.wire import codec
from mpitasks.wire.messages import (
    CALL,
    CALL_PLAIN,
    ERROR,
    ITEMS,
    LIST,
    MAP_PLAIN,
    PLAIN,
    STARMAP_PLAIN,
)
from mpitasks.worker.slate import read_notes

if TYPE_CHECKING:
    from mpitasks.terms import Terms
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.outcomes import Form
    from mpitasks.worker.mirror import Sent

TOGETHER = -1
"""The mode of several calls of one function, of which the payload is a list: (mode,
payload, task), none of them with buffers."""

__all__ = ["TOGETHER", "Order", "Run", "make_joint_order", "make_order"]


@dataclass(slots=True)
class Order:
    """What is to be run.

    Attributes:
        function_id: The function's number.
        sent: The function, behind all that it needs.
        mode: As in a `Batch`.
        payload: As in a `Batch`.
        buffers: Those of the payload.
        label: The task's name.
        timeout: Seconds that the call, or each item, may take.
        memory_limit: Bytes that the child may hold.
        task: What `current_task` and `rng` need to know in the child; each call that
            runs together with others has its own.
    """

    function_id: int
    sent: Sequence[Sent]
    mode: int
    payload: Any
    buffers: list[Buffer] = field(default_factory=list)
    label: str | None = None
    timeout: float | None = None
    memory_limit: int | None = None
    task: Any = None


def make_order(
    call: tuple[int, int, int, Any],
    buffers: list[Buffer],
    sent: Sequence[Sent],
    terms: Terms,
    own: tuple[int, str],
    places: Any = None,
) -> Order:
    """Return the order for a call of a `Batch`.

    Args:
        call: The call, without its buffers.
        buffers: Its buffers.
        sent: Its function, behind all that it needs.
        terms: Its terms.
        own: The rank and its host.
        places: Where it, or its items, have their place, as in `Batch.places`.
    """
    task_id, function_id, mode, payload = call
    return Order(
        function_id=function_id,
        sent=sent,
        mode=mode,
        payload=payload,
        buffers=buffers,
        label=terms.label,
        timeout=terms.timeout,
        memory_limit=terms.memory_limit,
        task=(task_id, terms.attempt, terms.label, *own, places),
    )


def make_joint_order(
    calls: Sequence[tuple[int, int, int, Any, int]],
    sent: Sequence[Sent],
    terms: Sequence[Terms],
    own: tuple[int, str],
    places: Sequence[Any],
) -> Order:
    """Return one order for calls of one function, which differ but in their payloads.

    Args:
        calls: Calls of a `Batch`, without buffers.
        sent: Their function, behind all that it needs.
        terms: Their terms.
        own: The rank and its host.
        places: Their places.
    """
    payload = [
        (mode, payload, (task_id, its.attempt, its.label, *own, place))
        for (task_id, _, mode, payload, _), its, place in zip(
            calls, terms, places, strict=True
        )
    ]
    return Order(
        function_id=calls[0][1],
        sent=sent,
        mode=TOGETHER,
        payload=payload,
        label=terms[0].label,
        timeout=terms[0].timeout,
        memory_limit=terms[0].memory_limit,
    )


class Run:
    """An order on its way through the children that it takes.

    Attributes:
        order: What is to be run.
        items: Results, (form, payload, buffers) each.
        buffers: Theirs.
        total: How many items are wanted.
        first: The item that the present child began with.
        futile: How many children died before they began an item, in a row.
        drew: Whether an item that was run may have asked for random numbers of ours.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.items: list[tuple[int, Any, int]] = []
        self.buffers: list[Buffer] = []
        self.single = order.mode in (CALL_PLAIN, CALL)
        self.together = order.mode == TOGETHER
        self.plain = order.mode in (MAP_PLAIN, STARMAP_PLAIN)
        if self.single:
            self.total = 1
        elif self.plain:
            self.total = len(codec.decode(order.payload))
        else:
            self.total = len(order.payload)
        self.first = 0
        self.futile = 0
        self.drew = False
        self._handed_out = 0

    @property
    def finished(self) -> bool:
        """Whether every item has its result."""
        return len(self.items) >= self.total

    def add(self, form: int, payload: Any, buffers: Sequence[Buffer] = ()) -> None:
        """Take in the result of the next item."""
        self.items.append((form, payload, len(buffers)))
        self.buffers += buffers
        self.futile = 0

    def add_notes(self, first: int, notes: bytes) -> None:
        """Take in what stood on the slate, but for what is there already."""
        for at, (form, payload) in enumerate(read_notes(notes), first):
            if at == len(self.items):
                self.add(form, payload)

    def fail(self, error: BaseException, text: str) -> None:
        """Let the item fail that comes next."""
        frame, buffers = codec.encode((error, text), "the exception")
        self.add(ERROR, frame, buffers)

    def request(
        self, known: set[int], forget: list[int]
    ) -> tuple[tuple[Any, ...], list[Buffer]]:
        """Return the request for what is left to do, and its buffers."""
        order = self.order
        sent = []
        buffers: list[Buffer] = []
        for each in order.sent:
            if each.id not in known:
                own = each.buffers
                sent.append(each.told())
                buffers += own
        done = len(self.items)
        payload = order.payload
        if self.single or self.plain:
            buffers += order.buffers
        elif self.together:
            payload = payload[done:]
        else:
            skip = sum(count for _, count in payload[:done])
            payload = payload[done:]
            buffers += order.buffers[skip:]
        self.first = done
        wanted = (sent, order.mode, payload, done, forget, order.task)
        return (order.function_id, *wanted), buffers

    def hand_out(self) -> list[Form]:
        """Return the results that have come since the last time."""
        forms: list[Form] = []
        for form, payload, count in self.items[self._handed_out :]:
            own, self.buffers = self.buffers[:count], self.buffers[count:]
            forms.append((form, payload, own))
        self._handed_out = len(self.items)
        return forms

    def form(self) -> Form:
        """Return the result."""
        if self.single:
            form, payload, _ = self.items[0]
            return form, payload, self.buffers
        if all(form == PLAIN for form, _, _ in self.items):
            values = [value for _, value, _ in self.items]
            return LIST, codec.encode_plain(values), []
        return ITEMS, self.items, self.buffers
