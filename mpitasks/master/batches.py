"""Tasks of one assignment, packed as the message that a worker gets.

Remembers which functions each worker has, so that each is sent once. What goes to
whom was decided before, by the scheduler.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mpitasks.master.calls import Call, Chunk
from mpitasks.wire.messages import Batch, Request

if TYPE_CHECKING:
    from mpitasks.core.events import FunctionId, Rank, Task
    from mpitasks.master.functions import Function

__all__ = ["FUNCTIONS_PER_WORKER", "Batches"]

FUNCTIONS_PER_WORKER = 256
"""A worker keeps so many functions; older ones are sent again when they come back."""


class Batches:
    """Makes the batches of a run.

    Args:
        ranks: The workers.
    """

    def __init__(self, ranks: Iterable[Rank]) -> None:
        self._known: dict[Rank, dict[FunctionId, None]] = {rank: {} for rank in ranks}

    def single(self, rank: Rank, call: Call) -> Request | Batch:
        """Return one call as a message to the worker; as `make`, if it needs more."""
        more = call.buffers or call.history is not None
        if more or call.function not in self._known[rank]:
            return self.make(rank, [call])
        return Request(call.wire, None if call.terms is None else tuple(call.terms))

    def make(self, rank: Rank, tasks: Iterable[Task]) -> Batch:
        """Return the tasks as a message to the worker, with the functions it lacks."""
        known = self._known[rank]
        calls: list[Any] = []
        buffers: list[Any] = []
        functions: dict[FunctionId, Function] = {}  # those that the worker lacks
        terms: dict[int, Any] = {}
        places: dict[int, Any] = {}
        for task in tasks:
            if type(task) is Call:
                calls.append(task.wire)
                if task.buffers:
                    buffers += task.buffers
                target = task.target
                if task.terms is not None:
                    terms[task.id] = tuple(task.terms)
                if task.history is not None:
                    places[task.id] = task.history.place
            else:
                assert type(task) is Chunk  # the master makes no other tasks
                if task.terms is not None:
                    terms[task.id] = tuple(task.terms)
                if task.job.place is not None:
                    places[task.id] = task.job.places(task)
                wire, own = task.job.encode(task)
                calls.append(wire)
                buffers += own
                target = task.job.target
            if target.id not in known:
                functions[target.id] = target
        batch = Batch(calls, (), (), terms or None, places or None, buffers)
        if functions:
            _teach(known, functions, batch)
        return batch


def _teach(
    known: dict[FunctionId, None], functions: dict[FunctionId, Function], batch: Batch
) -> None:
    """Put functions into a batch, and have the worker forget the oldest it has.

    It does so before it runs the batch, which may use known ones as well: so the
    oldest are taken from those that the batch does not use.
    """
    batch.functions = [
        (target.id, target.frame, len(target.buffers)) for target in functions.values()
    ]
    own = [buffer for target in functions.values() for buffer in target.buffers]
    batch.buffers = [*own, *batch.buffers]
    known.update(dict.fromkeys(functions))
    if len(known) > FUNCTIONS_PER_WORKER:
        used = {call[1] for call in batch.calls}
        oldest = [function for function in known if function not in used]
        batch.forget = oldest[: len(known) - FUNCTIONS_PER_WORKER]
        for function in batch.forget:
            del known[function]
