"""What goes into the next batch: as much as policy says, off the head of the queue.

Takes tasks out of the queue and cuts chunks off bulk jobs. The scheduler changes their
states, and says who gets the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mpitasks.scheduler import policy
from mpitasks.scheduler.events import Bulk, Task, TaskId

if TYPE_CHECKING:
    from mpitasks.scheduler.policy import Profiles, ReadyQueue

__all__ = ["take_batch", "take_run"]


def take_batch(
    queue: ReadyQueue, profiles: Profiles, workers: int, ids: Iterator[TaskId]
) -> tuple[list[Task], float]:
    """Take the next batch off a queue that is not empty.

    Args:
        queue: The queue.
        profiles: What items of the functions take.
        workers: How many workers share the queue.
        ids: Where chunks get their ids from.

    Returns:
        The tasks, and the expected seconds of all of them; inf if not known.
    """
    share = policy.batch_share(queue.items, workers)
    batch: list[Task] = []
    seconds = 0.0
    room = 1.0  # what is left of a full batch
    while share > 0 and len(batch) < policy.BATCH_TASKS:
        head = queue.head()
        assert head is not None  # the share is part of what is ready
        profile = profiles.get(head.function)
        if profile is None or (head.alone and isinstance(head, Task)):
            if not batch:
                return take_run(queue, head, 1, ids), math.inf
            break
        full = profile.batch_items()
        limit = min(int(room * full), max(share, profile.least_items()))
        if batch and limit < 1:
            break
        run = take_run(queue, head, max(limit, 1), ids)
        items = sum([task.count for task in run])
        batch += run
        seconds += items * profile.seconds
        share -= items
        room -= max(items / full, sum([t.nbytes for t in run]) / policy.BATCH_BYTES)
    return batch, seconds


def take_run(
    queue: ReadyQueue, head: Task | Bulk, limit: int, ids: Iterator[TaskId]
) -> list[Task]:
    """Take up to `limit` items like the head off the queue; at least one task."""
    if not isinstance(head, Bulk):
        return queue.take_calls(head.function, min(limit, policy.BATCH_TASKS))
    count, nbytes = _fitting(head, min(head.chunksize or limit, head.ready))
    chunk = Task(
        next(ids),
        head.function,
        head.payload,
        nbytes,
        head.priority,
        head.task_spec,
        start=head.next,
        count=count,
    )
    head.next += count
    head.ready -= count
    queue.items -= count
    if not head.ready:
        queue.drop_head()
    return [chunk]


def _fitting(bulk: Bulk, limit: int) -> tuple[int, int]:
    """Return how many items of a bulk job fit into a message, and what they weigh.

    At least 1, and at most the limit. Their sizes are forgotten.
    """
    sizes = bulk.sizes
    if not sizes:
        return limit, 0
    total = sizes.popleft()
    count = 1
    while count < limit and total + sizes[0] <= policy.BATCH_BYTES:
        total += sizes.popleft()
        count += 1
    return count, total
