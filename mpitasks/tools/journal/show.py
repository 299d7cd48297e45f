"""What is in a journal, as a table on the terminal."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from mpitasks.text import printable
from mpitasks.tools.journal.reader import (
    Reader,
    function_versions,
    key_text,
    total_bytes,
)

if TYPE_CHECKING:
    from mpitasks.journal.store import Row

__all__ = ["moment", "show_counts", "show_list", "size"]

KEY_LENGTH = 12


def show_counts(reader: Reader, rows: Iterable[Row]) -> None:
    """Print how many results there are, by function."""
    counts: dict[int, list[float]] = {}
    for row in rows:
        count = counts.setdefault(row.function, [0, 0, 0, row.at, row.at])
        count[0] += 1
        count[1] += row.failed
        count[2] += total_bytes(row)
        count[3:] = [min(count[3], row.at), max(count[4], row.at)]
    results, failed, nbytes = (
        int(sum(count[column] for count in counts.values())) for column in range(3)
    )
    print(
        f"{printable(reader.path.name)}: {results} results, {failed} of them failed, "
        f"{size(nbytes)} of values"
    )
    latest = function_versions(reader.functions)
    lines = [["function", "results", "failed", "size", "first", "last"]]
    for number, (own, bad, own_bytes, first, last) in sorted(counts.items()):
        function = reader.functions.get(number)
        name = "unknown" if function is None else function.name
        if not latest.get(number, True):
            name += " (before it changed)"
        words = [name, f"{own:.0f}", f"{bad:.0f}", size(own_bytes)]
        lines.append([*map(printable, words), moment(first), moment(last)])
    if counts:
        print("\n".join(_aligned(lines)))


def show_list(reader: Reader, rows: Iterable[Row]) -> None:
    """Print a line for each result."""
    for row in rows:
        key = row.key.hex()[:KEY_LENGTH] if row.name is None else key_text(row)
        words = [key, moment(row.at), "failed" if row.failed else "ok"]
        words += [size(total_bytes(row)), reader.name(row) + (row.call or "(...)")]
        if row.label is not None:
            words.append(f"[{row.label}]")
        print(printable("  ".join(words)))


def moment(at: float) -> str:
    """Return a time as text, to the second, in local time."""
    try:
        return datetime.datetime.fromtimestamp(at).isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):  # of a clock that went wrong
        return f"{at:.0f} s"


def size(nbytes: float) -> str:
    """Return a number of bytes as text."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if nbytes < 1024:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"


def _aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(map(str.ljust, line, widths)).rstrip()
