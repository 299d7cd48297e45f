"""What tells how far maps and reductions are, for those that ask for progress.

Sources of `mpitasks.observe.progress`. They are asked by a thread that shows it, so
they only read counts that others keep.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mpitasks.observe.accounts import label_of
from mpitasks.observe.progress import Counts

if TYPE_CHECKING:
    from mpitasks.master.bulk_job import BulkJob
    from mpitasks.master.future import Future
    from mpitasks.observe.accounts import Accounts

__all__ = ["JobProgress", "LeafProgress", "known_length"]


def known_length(iterables: Iterable[Any]) -> int | None:
    """Return how many items a map of these has; None if they do not tell.

    This runs code of the user.
    """
    sizes = []
    for each in iterables:
        if not hasattr(type(each), "__len__"):
            return None
        try:
            sizes.append(len(each))
        except Exception:  # the map does without
            return None
    return min(sizes, default=0)


class JobProgress:
    """How far a map is.

    Args:
        job: The map.
        total: How many items it has, as far as that was told.
        accounts: Those of the run, which know what items take.
    """

    def __init__(self, job: BulkJob, total: int | None, accounts: Accounts) -> None:
        self.name = label_of(job)
        self._job = job
        self._total = total
        self._accounts = accounts

    def counts(self) -> Counts:
        """Return how far it is."""
        job, total = self._job, self._total
        if total is None or not job.closed:
            total = job.pulled if job.source.is_exhausted else total
        done = job.done
        each = self._accounts.seconds_each(self.name)
        work = None
        if each is not None and total is not None:
            work = max(total - done, 0) * each
        return Counts(done, job.failures, total, work)


class LeafProgress:
    """How far `map_reduce` is, by the items of its leaves.

    Args:
        name: What people call it.
        total: How many items there are, as far as that was told.
    """

    def __init__(self, name: str, total: int | None) -> None:
        self.name = name
        self._total = total
        # A future holds its result, so it is not kept alive for this.
        self._leaves: deque[tuple[weakref.ref[Future], int]] = deque()
        self._submitted = self._done = 0
        self._all = False

    def add(self, leaf: Future, items: int) -> None:
        """Some more items were submitted."""
        self._submitted += items
        self._leaves.append((weakref.ref(leaf), items))

    def note_all(self) -> None:
        """All items were submitted."""
        self._all = True

    def counts(self) -> Counts:
        """Return how far it is: up to the first leaf that is not done."""
        leaves = self._leaves
        while leaves:
            leaf = leaves[0][0]()
            if leaf is not None and not leaf.done():
                break
            self._done += leaves.popleft()[1]
        total = self._submitted if self._all else self._total
        return Counts(self._done, 0, total, grows=True)
