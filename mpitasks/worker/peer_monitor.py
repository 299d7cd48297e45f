"""Watches over other workers of a machine whose processes rank 0 cannot see.

Rank 0 sees the processes of its own machine only, and not every MPI and launcher tells
of a death elsewhere. So on other machines each worker watches the next two, and tells
rank 0 when one dies. Where the run survives that, one that was frozen for long is
killed: rank 0 could not tell it from one that computes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence

from mpitasks.scheduler.heartbeat import PERIOD_SECONDS, SilenceMonitor
from mpitasks.wire.processes import Watch, frozen

__all__ = ["watched_over"]


@contextlib.contextmanager
def watched_over(
    peers: Sequence[tuple[int, int]],
    report: Callable[[int, str], None],
    *,
    survives: bool,
) -> Iterator[None]:
    """Watch over other workers meanwhile.

    Args:
        peers: Their ranks and process ids.
        report: Tells rank 0 that one died, and how.
        survives: Whether the run goes on without them.
    """
    if not peers:
        yield
        return
    pids = dict(peers)
    silence = SilenceMonitor()

    def died(rank: int, how: str) -> None:
        del pids[rank]
        report(rank, how)

    def look() -> None:
        awake = [rank for rank, pid in pids.items() if not frozen(pid)]
        for rank in silence.look(time.monotonic(), list(pids), awake).lost:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[rank], signal.SIGKILL)

    watch = Watch(pids, died, look if survives else None, PERIOD_SECONDS)
    watch.start()
    try:
        yield
    finally:
        watch.stop()
