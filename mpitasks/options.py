"""What a user can ask of a task: one frozen record, validated once at the edge.

Everything behind `Executor.with_options` and `Executor(...)` may trust a
`TaskOptions`; nothing behind it checks again.
"""

from __future__ import annotations

import dataclasses
import operator
from dataclasses import dataclass
from typing import Any

from mpitasks.errors import OptionError

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

    Raises:
        OptionError: A value is out of its range or of a wrong type.
    """

    chunksize: int | None = None
    label: str | None = None
    priority: int = 0

    def __post_init__(self) -> None:
        if self.chunksize is not None:
            _require_int("chunksize", self.chunksize)
            if self.chunksize < 1:
                raise OptionError(f"chunksize must be at least 1, not {self.chunksize}")
        if self.label is not None and not isinstance(self.label, str):
            raise OptionError(f"label must be a string, not {self.label!r}")
        _require_int("priority", self.priority)

    def replace(self, **changes: Any) -> TaskOptions:
        """Return a copy with the given options changed.

        Raises:
            TypeError: An option of that name does not exist.
            OptionError: A value is out of its range or of a wrong type.
        """
        known = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise TypeError(
                    f"unknown option {name!r}; the options are {', '.join(known)}"
                )
        return dataclasses.replace(self, **changes)


def _require_int(name: str, value: object) -> None:
    """Accept what can serve as an index, NumPy's integers too."""
    try:
        operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise OptionError(f"{name} must be an integer, not {value!r}") from None
    if isinstance(value, bool):
        raise OptionError(f"{name} must be an integer, not {value!r}")


DEFAULTS = TaskOptions()
