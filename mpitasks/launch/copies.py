"""Several copies of a program come to the same end, and one of them says so."""

from __future__ import annotations

import time
from typing import NoReturn

from mpitasks.launch.environment import launch_hint

__all__ = ["raise_on_first"]

SPEAK_SECONDS = 1.0
"""Seconds for the first copy to say it: launchers end all once one has failed."""


def raise_on_first(error: Exception, code: int) -> NoReturn:
    """Raise the error on the first copy; end the others without a word.

    Args:
        error: What is wrong, alike for each copy.
        code: The exit code of the other copies.

    Raises:
        Exception: The error.
        SystemExit: On the other copies.
    """
    hint = launch_hint()
    if hint is None or hint.rank == 0:
        raise error
    time.sleep(SPEAK_SECONDS)
    raise SystemExit(code)
