"""What every way out of rank 0 does last: it tells the exit code to the status file.

Rank 0 ends in several places: at the end of the script, by a signal, by an abort. It is
light, because every rank comes through here; the file is `mpitasks.launch.reporting`'s.
"""

from __future__ import annotations

import sys

__all__ = ["tell_end"]


def tell_end(code: int) -> None:
    """Write the status file for the last time, if there is one."""
    reporting = sys.modules.get("mpitasks.launch.reporting")
    if reporting is not None:
        reporting.finish(code)
