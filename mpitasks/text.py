"""Text that others wrote, made fit for a terminal: one place, for all that is printed.

A terminal obeys control characters: they move its cursor, change its title, hide what
stands there. So whatever comes from a file, from SLURM or from a task's name passes
here before it is shown. Nothing here raises.
"""

from __future__ import annotations

from typing import Any

__all__ = ["json_line", "printable"]


def printable(text: str, keep: str = "") -> str:
    r"""Return text for a terminal: what that might obey, as ``\x1b`` and the like.

    Args:
        text: Any text.
        keep: Characters that stay as they are: a line's end, say.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def json_line(value: Any) -> str:
    """Return a value as JSON on one line, without any control character."""
    import json

    return json.dumps(value).replace("\x7f", "\\u007f")
