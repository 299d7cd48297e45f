"""The exit codes of a run, for rank 0, launchers and verbs alike.

0 and the script's own codes are not here. `docs/failures.md` says when each comes.
"""

from __future__ import annotations

__all__ = [
    "INTERNAL",
    "LOST",
    "OUTPUT",
    "PIPE",
    "SET_UP",
    "SIGNAL",
    "STOPPED",
    "WARNINGS",
]

WARNINGS = 1
"""``mpitasks doctor`` has warnings, and no errors."""

OUTPUT = 1
"""What was to be printed cannot be written: the disk is full, say."""

LOST = 69
"""A rank died, and the run could not go on without it."""

INTERNAL = 70
"""A fault of mpitasks itself."""

STOPPED = 75
"""The run was stopped before its end; the same command goes on with it."""

SET_UP = 78
"""The run was set up in a wrong way, and nothing of the script ran."""

SIGNAL = 128
"""Plus the number of the signal that ended the run, as shells do."""

PIPE = SIGNAL + 13
"""The reader of standard output has closed it: SIGPIPE."""
