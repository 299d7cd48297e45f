"""What a journal says on stderr: each thing once, and one line at the end."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from mpitasks.text import printable

__all__ = ["Summary"]


class Summary:
    """Counts what came of the calls, and says what must be said.

    Args:
        path: The journal, as the user named it.

    Attributes:
        came_back: Results that were read from the journal.
        ran: Calls that were run and noted, the failed among them.
        failed: Those that raised an exception.
        written: Results that are safe on disk.
    """

    def __init__(self, path: Path) -> None:
        self.came_back = 0
        self.ran = 0
        self.failed = 0
        self.written = 0
        self._path = path
        self._changed: dict[str, int] = {}
        self._unkeyable: dict[str, int] = {}
        self._damaged = 0
        self._refused = 0

    def note(self, *, count: int = 1, failed: bool = False) -> None:
        """Count calls that were run."""
        self.ran += count
        self.failed += failed

    def changed(
        self,
        name: str,
        before: Mapping[str, str],
        after: Mapping[str, str],
        results: int,
    ) -> None:
        """Say that a function is not the one that the journal knows."""
        self._changed[name] = self._changed.get(name, 0) + results
        differing = [p for p in {**after, **before} if before.get(p) != after.get(p)]
        shown = ", ".join(map(_part, differing[:3])) + ", ..." * (len(differing) > 3)
        self._say(
            f"{name} changed since its {results} results were written to the journal "
            f"({shown}): they are not used, it runs again"
        )

    def unkeyable(self, name: str, why: str) -> None:
        """Say that calls of a function have no key."""
        if name not in self._unkeyable:
            self._say(
                f"calls of {name} are run, but not kept in the journal: {why}; give "
                f"them a key: executor.with_options(key=...)"
            )
        self._unkeyable[name] = self._unkeyable.get(name, 0) + 1

    def damaged(self, why: str) -> None:
        """Say that a result in the journal is damaged."""
        self._damaged += 1
        if self._damaged == 1:
            self._say(
                f"a result in the journal {self._path} is damaged, and is computed "
                f"again: {why}"
            )

    def refused(self, why: str) -> None:
        """Say that a result cannot stand in the journal."""
        self._refused += 1
        if self._refused == 1:
            self._say(f"a result is not kept in the journal {self._path}: {why}")

    def goes_on(self, why: str) -> None:
        """Say that there is no journal any more."""
        self._say(
            f"the journal {self._path} cannot be written any more ({why}): the run "
            f"goes on WITHOUT it, as --journal-errors continue asks"
        )

    def print(self, error: str | None) -> None:
        """Print the line at the end."""
        words = f"journal {self._path}: {_count(self.came_back, 'result')} came back, "
        words += f"{_count(self.ran, 'call')} ran"
        if self.failed:
            words += f", {self.failed} of them failed"
        if self._changed:
            words += "; not used, since the function changed: "
            words += ", ".join(f"{n} of {name}" for name, n in self._changed.items())
        if self._damaged:
            words += f"; {_count(self._damaged, 'damaged result')} computed again"
        if self._refused:
            words += f"; {_count(self._refused, 'result')} not kept"
        if self._unkeyable:
            words += f"; {sum(self._unkeyable.values())} without a key, not kept"
        self._say(words)
        if error is not None:
            lost = self.ran - self.written
            self._say(
                f"{_count(lost, 'result')} of this run did not get there: {error}"
            )

    def _say(self, words: str) -> None:
        print(f"mpitasks: {printable(words)}", file=sys.stderr, flush=True)


def _part(name: str) -> str:
    """Return what a part of a function's identity is, in words."""
    if name[:1].isdigit():
        return name.partition(" ")[2]
    return "its " + name


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)
