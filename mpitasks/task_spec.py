"""What a worker must know of a task beyond the call itself: a part of its options.

Apart from `mpitasks.options`, which only rank 0 loads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Origin", "Place", "TaskSpec", "isolated"]

Place = tuple[int, tuple[int, ...]]
"""Where randomness of a task comes from: a seed, and where in the program it stands."""


class TaskSpec(NamedTuple):
    """What a worker must know of a task beyond the call itself.

    Attributes:
        label: The task's name, if it has one.
        attempt: Which attempt this is, from 1 on.
        timeout: Seconds that the task, or each item of a chunk, may take.
        isolate: Whether it runs in a child process of its rank.
        memory_limit: Bytes that the child may hold.
        keep: Whether a large result stays with the worker.
        max_tasks_per_child: How many tasks the child may run before it is replaced.
    """

    label: str | None = None
    attempt: int = 1
    timeout: float | None = None
    isolate: bool = False
    memory_limit: int | None = None
    keep: bool = False
    max_tasks_per_child: int | None = None


class Origin(NamedTuple):
    """From where on, and how, the calls of an Executor are numbered.

    Calls and maps have even ids, in the order of the program; what becomes of them
    (chunks, further attempts) has odd ones, which depend on the schedule.

    Attributes:
        first: The id of its first call or map.
        path: Which Executor of the run it is, from 0 on; 0 for one that brings its own
            seed. Behind the place of the task that has opened it, if one has.
        entropy: The seed.
    """

    first: int
    path: tuple[int, ...]
    entropy: int

    def place(self, id: int) -> Place:
        """Return the place of the call, or the map, of that id."""
        return self.entropy, (*self.path, (id - self.first) // 2)


def isolated(task_spec: tuple[Any, ...] | None) -> bool:
    """Whether a task spec, or what is sent of it, asks for a process of its own."""
    return task_spec is not None and TaskSpec(*task_spec).isolate
