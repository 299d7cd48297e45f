"""What the programs of this folder use to say whether a task gave what a call gives.

Each program is a user's script: it is run by `tests/mpi/test_meaning.py`, as it stands,
and prints "ok" at its end or tells what was wrong.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

BAD: list[str] = []
"""What was wrong so far."""


def check(what: str, got: Any, want: Any) -> None:
    """Note a value that is not the one wanted; types and signs count as well."""
    if repr(got) != repr(want) or type(got) is not type(want):
        BAD.append(f"{what}: got {got!r}, not {want!r}")


def finish() -> None | NoReturn:
    """End the program: with "ok", or with what was wrong."""
    if BAD:
        sys.exit("WRONG " + " | ".join(BAD)[:2000])
    print("ok", flush=True)
    return None
