"""What a worker must know of a task beyond the call itself: a part of its options.

Apart from `mpitasks.options`, which only rank 0 loads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Terms", "isolated"]


class Terms(NamedTuple):
    """What a worker must know of a task beyond the call itself.

    Attributes:
        label: The task's name, if it has one.
        attempt: Which attempt this is, from 1 on.
        timeout: Seconds that the task, or each item of a chunk, may take.
        isolate: Whether it runs in a child process of its rank.
        memory_limit: Bytes that the child may hold.
    """

    label: str | None = None
    attempt: int = 1
    timeout: float | None = None
    isolate: bool = False
    memory_limit: int | None = None


def isolated(terms: tuple[Any, ...] | None) -> bool:
    """Whether terms, or what is sent of them, ask for a process of its own."""
    return terms is not None and Terms(*terms).isolate
