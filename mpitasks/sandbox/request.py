"""What children are to run, and the results, over as many children as it takes.

Pure bookkeeping: no process, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.records import dataclass, field
from mpitasks.runner.damage import Damaged
from mpitasks.sandbox.progress_page import read_notes
from mpitasks.wire import codec
from mpitasks.wire.messages import (
    CALL,
    CALL_PLAIN,
    ERROR,
    MAP_PLAIN,
    PLAIN,
    STARMAP_PLAIN,
    VALUE,
)

if TYPE_CHECKING:
    from mpitasks.runner.sent import Sent
    from mpitasks.task_spec import TaskSpec
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.outcomes import Form

TOGETHER = -1
"""The mode of several calls of one function, of which the payload is a list: (mode,
payload, task), none of them with buffers."""

_GONE: tuple[int, Any, int] = PLAIN, None, 0
"""In the place of a result that was handed out."""

_NONE = type(None)
_ANSWERS = {(int, told, bool, bool, bool) for told in (_NONE, tuple)}
"""The types of the fields behind the first."""

__all__ = [
    "TOGETHER",
    "Run",
    "SandboxRequest",
    "make_joint_order",
    "make_order",
    "read_answer",
]


@dataclass(slots=True)
class SandboxRequest:
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
        max_tasks: How many requests the child may have had, with this one.
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
    max_tasks: int | None = None
    task: Any = None


def make_order(
    call: tuple[int, int, int, Any],
    buffers: list[Buffer],
    sent: Sequence[Sent],
    task_spec: TaskSpec,
    own: tuple[int, str],
    places: Any = None,
) -> SandboxRequest:
    """Return the order for a call of a `Batch`.

    Args:
        call: The call, without its buffers.
        buffers: Its buffers.
        sent: Its function, behind all that it needs.
        task_spec: What a worker must know of its options.
        own: The rank and its host.
        places: Where it, or its items, have their place, as in `Batch.places`.
    """
    task_id, function_id, mode, payload = call
    return SandboxRequest(
        function_id=function_id,
        sent=sent,
        mode=mode,
        payload=payload,
        buffers=buffers,
        label=task_spec.label,
        timeout=task_spec.timeout,
        memory_limit=task_spec.memory_limit,
        max_tasks=task_spec.max_tasks_per_child,
        task=(task_id, task_spec.attempt, task_spec.label, *own, places),
    )


def make_joint_order(
    calls: Sequence[tuple[int, int, int, Any, int]],
    sent: Sequence[Sent],
    task_spec: Sequence[TaskSpec],
    own: tuple[int, str],
    places: Sequence[Any],
) -> SandboxRequest:
    """Return one order for calls of one function, which differ but in their payloads.

    Args:
        calls: Calls of a `Batch`, without buffers.
        sent: Their function, behind all that it needs.
        task_spec: What a worker must know of their options.
        own: The rank and its host.
        places: Their places.
    """
    payload = [
        (mode, payload, (task_id, its.attempt, its.label, *own, place))
        for (task_id, _, mode, payload, _), its, place in zip(
            calls, task_spec, places, strict=True
        )
    ]
    return SandboxRequest(
        function_id=calls[0][1],
        sent=sent,
        mode=TOGETHER,
        payload=payload,
        label=task_spec[0].label,
        timeout=task_spec[0].timeout,
        memory_limit=task_spec[0].memory_limit,
    )


def read_answer(fields: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Return the fields of an answer of a child; None if it is none."""
    kinds = tuple(map(type, fields))
    if kinds[1:] in _ANSWERS and kinds[0] in (bytes, _NONE):
        return fields
    return None


def _result(record: Any) -> tuple[int, Any]:
    """Return form and payload of a result, which came from a child.

    Raises:
        Damaged: It is no result.
    """
    try:
        form, payload = record
        if form in (VALUE, ERROR) and type(payload) is bytes:
            return form, payload
        if form == PLAIN and codec.is_plain((payload,)):
            return form, payload
    except (TypeError, ValueError):
        pass
    raise Damaged("what is no result")


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
        handed_out: How many results were handed out.
    """

    def __init__(self, order: SandboxRequest) -> None:
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
        self.handed_out = 0

    @property
    def finished(self) -> bool:
        """Whether every item has its result."""
        return len(self.items) >= self.total

    def add(self, form: int, payload: Any, buffers: Sequence[Buffer] = ()) -> None:
        """Take in the result of the next item."""
        self.items.append((form, payload, len(buffers)))
        self.buffers += buffers
        self.futile = 0

    def add_notes(self, notes: bytes) -> None:
        """Take in the results on the progress page that are not known already.

        Raises:
            Damaged: Something else stood there; what came before it was taken in.
        """
        for at, record in read_notes(notes):
            if at == len(self.items) and not self.finished:
                self.add(*_result(record))

    def add_answer(self, at: int, told: Any, buffers: Sequence[Buffer]) -> None:
        """Take in the result of an item that was sent by itself.

        Raises:
            Damaged: It is none.
        """
        if at == len(self.items) and not self.finished:
            self.add(*_result(told), buffers)

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

    def hand_out(self, keep: int = 0) -> list[Form]:
        """Return the results that have come since the last time, and let go of them.

        Args:
            keep: How many of the last items are not handed out yet.
        """
        forms: list[Form] = []
        start, end = self.handed_out, min(len(self.items), self.total - keep)
        for at in range(start, end):
            form, payload, count = self.items[at]
            own, self.buffers = self.buffers[:count], self.buffers[count:]
            forms.append((form, payload, own))
            self.items[at] = _GONE
        self.handed_out = max(start, end)
        return forms
