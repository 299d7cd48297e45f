"""Opens the session of a task that has tasks; loads what that needs when one does.

Most workers never do, and should not load a master's modules at their start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpitasks.launch.nested_session import NestedSession

__all__ = ["session_of_task"]


def session_of_task() -> NestedSession:
    """Return the session of the task that is running in the calling thread.

    Raises:
        ConfigurationError: Another thread of the task calls.
        RecursionError: Tasks are nested too deep.
    """
    from mpitasks.launch import nested

    return nested.session_of_task()
