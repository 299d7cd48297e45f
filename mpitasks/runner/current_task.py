"""What `mpitasks.current_task` returns.

Apart from `mpitasks.runner.context`: it is a data class of the standard library, which
a worker loads only if a task asks.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CurrentTask"]


@dataclass(frozen=True, slots=True)
class CurrentTask:
    """A task, as it sees itself.

    Attributes:
        id: Its number in the run. Each attempt, and each chunk of a map, has its own.
        attempt: Which attempt this is, from 1 on.
        label: Its name, as given by ``with_options(label=...)``, or None.
        rank: The rank that runs it.
        host: That rank's host.
        place: Where in the program it stands, whatever ranks there are: the number of
            the Executor, that of the call or map in it, and in a map the index of the
            item. `mpitasks.rng` depends on it.
    """

    id: int
    attempt: int
    label: str | None
    rank: int
    host: str
    place: tuple[int, ...] = ()
