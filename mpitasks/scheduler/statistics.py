"""What onlookers are told of a run: how many items are where.

Counted by the scheduler; the event loop (`mpitasks.master.event_loop`) knows more of
failures, and of data that stay where they are.
"""

from __future__ import annotations

from mpitasks.records import dataclass

__all__ = ["NO_DATA", "DataStatistics", "Statistics"]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts at one moment; items, not chunks.

    Attributes:
        workers: Workers that take tasks.
        queued: Items that wait for a worker.
        assigned: Items in the hands of workers.
        succeeded: Items done; a chunk counts as done whatever its items returned.
        failed: Items failed or lost.
        cancelled: Items taken back.
        waiting: Items among the queued ones that lack results of other tasks.
        postponed: Items among them that wait for the time of their next attempt.
    """

    workers: int
    queued: int
    assigned: int
    succeeded: int
    failed: int
    cancelled: int
    waiting: int = 0
    postponed: int = 0


@dataclass(frozen=True, slots=True)
class DataStatistics:
    """Bytes that rank 0 counts beside those of tasks.

    Attributes:
        kept: Of results that workers keep now, by host.
        most_kept: The most that it was.
        fetched: Of kept results that came to rank 0 afterwards, by worker.
        shared: Of shared objects that rank 0 sent, by worker.
    """

    kept: dict[str, int]
    most_kept: dict[str, int]
    fetched: dict[int, int]
    shared: dict[int, int]


NO_DATA = DataStatistics({}, {}, {}, {})
