"""What a user can ask of a task: one frozen record, validated once at the edge.

Everything behind `Executor.with_options` and `Executor(...)` may trust a
`TaskOptions`; nothing behind it checks again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import operator
from dataclasses import dataclass, field
from typing import Any

from mpitasks.errors import OptionError
from mpitasks.task_spec import TaskSpec
from mpitasks.values import integer, seconds, size

__all__ = ["DEFAULTS", "TaskOptions"]


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """Options of the tasks that an Executor, or a view of it, submits.

    Attributes:
        chunksize: Items per chunk in `map` and its relatives; None lets the
            library choose from measured durations.
        label: A name for the tasks, shown in messages about them.
        priority: Tasks of a higher priority are sent first; among equals the
            earlier submitted goes first. Any integer; the default is 0.
        retries: How often a task, or an item of a map, that raised is tried again.
        retry_on: Exception types that are worth another attempt.
        retry_delay: Seconds before the second attempt; doubled for each further one,
            up to 5 minutes.
        timeout: Seconds that a task, or each item of a map, may run. Then
            `mpitasks.TaskTimeout` is raised in it; see ``docs/failures.md`` for what
            cannot be interrupted.
        isolate: Run the task in a child process of its rank, so that a crash costs
            nothing but the task.
        memory_limit: Bytes of resident memory that an isolated task may hold, or text
            such as "2G", as on the command line.
        max_tasks_per_child: How many tasks a child process runs before a fresh one
            takes its place, for what leaks memory or handles; a chunk counts as one
            task. None for any number. For isolated tasks.
        max_crashes: How many times a task may lose its rank before it fails with
            `mpitasks.WorkerLost`, where the MPI survives such a loss. What was lost
            together counts once for each; then they run one by one.
        max_failures: How many items of a map may fail; with one more the map ends
            with `mpitasks.TooManyFailures`. None for any number. Where some may fail,
            `return_exceptions` says what stands in their places.
        fail_fast: A map raises the first exception that arrives, in whatever place,
            and runs nothing more.
        return_exceptions: A map yields exceptions as values instead of raising them,
            as `asyncio.gather` does.
        progress: Show how far maps are, and calls of `submit`, on standard error. See
            ``docs/observing.md``.
        key: What tells the calls apart in a journal, in the place of their arguments:
            a value for `submit`; for a map a function of the same arguments that
            returns one. See ``docs/resume.md``.
        keep: The result of a call stays in the memory of the worker that made it, until
            somebody asks for it. Calls that have the future among their arguments get
            it from there. For `submit` only. See ``docs/data.md``.
        task_spec: What a worker must know of these options; None if nothing.

    Raises:
        OptionError: A value is out of its range or of a wrong type.
    """

    chunksize: int | None = None
    label: str | None = None
    priority: int = 0
    retries: int = 0
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception
    retry_delay: float = 0.0
    timeout: float | None = None
    isolate: bool = False
    memory_limit: int | None = None
    max_tasks_per_child: int | None = None
    max_crashes: int = 3
    max_failures: int | None = None
    fail_fast: bool = False
    return_exceptions: bool = False
    progress: bool = False
    key: Any = None
    keep: bool = False
    task_spec: TaskSpec | None = field(
        init=False, repr=False, compare=False, default=None
    )

    def __post_init__(self) -> None:
        for name, least in _INTEGERS.items():
            value = getattr(self, name)
            if value is not None or name in _REQUIRED:
                self._set(name, integer(name, value, least))
        for name in ("retry_delay", "timeout"):
            value = getattr(self, name)
            if value is not None or name == "retry_delay":
                self._set(name, seconds(name, value, above_zero=name == "timeout"))
        if self.memory_limit is not None:
            self._set("memory_limit", size("memory_limit", self.memory_limit))
        for name in ("isolate", "fail_fast", "return_exceptions", "progress", "keep"):
            if not isinstance(getattr(self, name), bool):
                raise OptionError(
                    f"{name} must be True or False, not {getattr(self, name)!r}"
                )
        if self.label is not None and not isinstance(self.label, str):
            raise OptionError(f"label must be a string, not {self.label!r}")
        _require_exceptions(self.retry_on)
        self._set("key", _plain_key(self.key))
        if self.memory_limit is not None and not self.isolate:
            raise OptionError(
                "memory_limit needs isolate=True: only a task in a process of its own "
                "can be watched and ended without its rank"
            )
        if self.max_tasks_per_child is not None and not self.isolate:
            raise OptionError(
                "max_tasks_per_child needs isolate=True: only a task in a process of "
                "its own can have a fresh one"
            )
        task_spec = TaskSpec(
            self.label,
            1,
            self.timeout,
            self.isolate,
            self.memory_limit,
            self.keep,
            self.max_tasks_per_child,
        )
        self._set("task_spec", None if task_spec == TaskSpec() else task_spec)

    def _set(self, name: str, value: Any) -> None:
        """Set a field, as the frozen dataclass lets nobody else do."""
        object.__setattr__(self, name, value)

    def check_for_map(self) -> None:
        """See to it that a map can do what is asked.

        Raises:
            OptionError: Failures are allowed, and nothing stands for their results; or
                results are to be kept.
        """
        if self.keep:
            raise OptionError(
                "keep=True is for submit: a map returns values, not futures; submit "
                "the calls one by one, and pass the futures on"
            )
        if self.max_failures and not (self.return_exceptions or self.fail_fast):
            raise OptionError(
                f"max_failures={self.max_failures} allows items of a map to fail, and "
                f"return_exceptions=False raises the first failure: say "
                f"return_exceptions=True as well, and exceptions stand in the places "
                f"of items that failed; or leave max_failures out"
            )

    def replace(self, **changes: Any) -> TaskOptions:
        """Return a copy with the given options changed.

        Raises:
            TypeError: An option of that name does not exist.
            OptionError: A value is out of its range or of a wrong type.
        """
        if not changes:
            return self
        known = [field.name for field in dataclasses.fields(self) if field.init]
        for name in changes:
            if name not in known:
                raise TypeError(
                    f"unknown option {name!r}; the options are {', '.join(known)}"
                )
        if changes.get("isolate") is False:
            for name in ("memory_limit", "max_tasks_per_child"):
                changes.setdefault(name, None)  # they came with the isolation
        return dataclasses.replace(self, **changes)


_INTEGERS: dict[str, int | None] = {
    "chunksize": 1,
    "priority": None,
    "retries": 0,
    "max_tasks_per_child": 1,
    "max_crashes": 1,
    "max_failures": 0,
}
"""Options that are integers, and the least that each may be."""

_REQUIRED = frozenset({"priority", "retries", "max_crashes"})
"""Those of them that cannot be None."""


def _require_exceptions(kinds: object) -> None:
    several = kinds if isinstance(kinds, tuple) else (kinds,)
    for kind in several:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise OptionError(
                f"retry_on must be an exception type or a tuple of them, not {kinds!r}"
            )


def _plain_key(key: Any) -> Any:
    """Return what is the same in the next run: text, numbers, tuples of them."""
    if key is None or callable(key) or isinstance(key, (str, bytes, int, float)):
        return key
    if isinstance(key, tuple):
        return tuple(map(_plain_key, key))
    with contextlib.suppress(TypeError):
        return operator.index(key)  # an integer of NumPy's
    raise OptionError(
        f"key must be text, a number, a tuple of them, or a function of the "
        f"arguments that returns one, not {key!r}"
    )


DEFAULTS = TaskOptions()
