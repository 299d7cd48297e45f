"""Results out of a damaged database file, without SQLite's help.

SQLite finds rows by trees of pages, and one bad page hides all below it. But each row
stands whole in a page (what does not fit, in a chain of overflow pages) and has a
checksum. So this looks everywhere in the file for what a row of ours begins with, and
keeps the rows whose checksum is right: what is found so is what was written, whatever
is wrong with the rest. https://www.sqlite.org/fileformat2.html has the format.

A row that was replaced is found, too, while its bytes are there: the latest counts.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mpitasks.journal.store import (
    MOST_NUMBER,
    PAGE_BYTES,
    FunctionRow,
    Row,
    checksum,
)

__all__ = ["salvage"]

# The head of a row: its own length, then a number for the kind of each column, of
# which the first is 0, as SQLite has the id elsewhere. A result has a key of 16 bytes.
_RESULT = re.compile(rb"(?=[\x0f-\x40]\x00\x2c)", re.DOTALL)
_FUNCTION = re.compile(
    rb"(?=[\x06-\x14]\x00(?:[\x0d-\x7f]|[\x80-\xff]{1,4}[\x00-\x7f])[\x0c-\x7f])",
    re.DOTALL,
)
_COLUMNS = {_RESULT: 14, _FUNCTION: 5}

_LENGTHS = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 7: 8, 8: 0, 9: 0}
_MOST_BYTES = 16 << 20  # no row is longer: large results have files

_LOCAL_MOST = PAGE_BYTES - 35
_LOCAL_LEAST = (PAGE_BYTES - 12) * 32 // 255 - 23


class _Broken(Exception):
    """This is no row after all."""


def salvage(*paths: Path) -> tuple[dict[int, FunctionRow], list[Row]]:
    """Return the functions that are sound in any of the files, by their numbers, and
    the latest result of each call, oldest first.
    """
    functions: dict[bytes, tuple[FunctionRow, int, bool]] = {}
    results: dict[bytes, Row] = {}
    for path in paths:
        if path.stat().st_size == 0:
            continue
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            for _, _, values in _rows(data, _RESULT):
                row = _result(values)
                if row is not None and checksum(row) == values[-1]:
                    known_row = results.get(row.key)
                    if known_row is None or row.at > known_row.at:
                        results[row.key] = row
            for number, sure, values in _rows(data, _FUNCTION):
                function = FunctionRow(*values[1:-1])
                if checksum(function) == values[-1]:
                    known = functions.get(values[-1])
                    if known is None or (sure and not known[2]):
                        functions[values[-1]] = function, number, sure
    oldest_first = sorted(results.values(), key=lambda row: row.at)
    taken = {row.function for row in oldest_first}
    return _numbered(functions.values(), taken), oldest_first


def _result(values: list[Any]) -> Row | None:
    row = Row(*values[1:-1])
    at: Any = row.at
    if not isinstance(at, (int, float)):
        return None
    row.at = float(at)  # SQLite stores a whole number as one
    return row


def _numbered(
    functions: Iterable[tuple[FunctionRow, int, bool]], taken: Iterable[int]
) -> dict[int, FunctionRow]:
    """Return functions by number; where two have one, the surer has it.

    The other gets one that is not taken by a function that is lost.
    """
    numbered: dict[int, FunctionRow] = {}
    rest = []
    for row, number, _ in sorted(functions, key=lambda found: not found[2]):
        if 0 < number <= MOST_NUMBER and number not in numbered:
            numbered[number] = row
        else:
            rest.append(row)
    start = max([0, *numbered, *taken]) + 1
    return {**numbered, **dict(enumerate(rest, start))}


def _rows(
    data: mmap.mmap, head: re.Pattern[bytes]
) -> Iterator[tuple[int, bool, list[Any]]]:
    """Yield number, whether that is sure, and values of all that looks like a row."""
    for found in head.finditer(data):
        at = found.start()
        try:
            kinds, size = _kinds(data, at, _COLUMNS[head])
            values = _values(_body(data, at, size), kinds)
            number, sure = _number(data, at, size)
        except (_Broken, IndexError, struct.error):
            continue
        yield number, sure, values


def _kinds(data: mmap.mmap, at: int, columns: int) -> tuple[list[int], int]:
    """Return the kinds of a row's columns, and how long the row is."""
    end = at + data[at]
    size = data[at]
    at += 1
    kinds = []
    while at < end:
        kind, at = _varint(data, at)
        kinds.append(kind)
        size += (kind - 12) // 2 if kind >= 12 else _LENGTHS.get(kind, _MOST_BYTES)
    if at != end or len(kinds) != columns or size >= _MOST_BYTES:
        raise _Broken
    return kinds, size


def _body(data: mmap.mmap, at: int, size: int) -> bytes:
    """Return a row, what of it is in overflow pages too."""
    local = size
    if size > _LOCAL_MOST:
        local = _LOCAL_LEAST + (size - _LOCAL_LEAST) % (PAGE_BYTES - 4)
        if local > _LOCAL_MOST:
            local = _LOCAL_LEAST
    pieces = [data[at : at + local]]
    missing = size - local
    if missing:
        (follows,) = struct.unpack_from(">I", data, at + local)
    while missing:
        start = (follows - 1) * PAGE_BYTES
        if follows < 2 or start + PAGE_BYTES > len(data):
            raise _Broken
        (follows,) = struct.unpack_from(">I", data, start)
        piece = data[start + 4 : start + 4 + min(missing, PAGE_BYTES - 4)]
        pieces.append(piece)
        missing -= len(piece)
    body = b"".join(pieces)
    if len(body) != size:
        raise _Broken
    return body


def _values(body: bytes, kinds: list[int]) -> list[Any]:
    values: list[Any] = []
    at = body[0]
    for kind in kinds:
        length = (kind - 12) // 2 if kind >= 12 else _LENGTHS[kind]
        values.append(_value(body[at : at + length], kind))
        at += length
    return values


def _value(raw: bytes, kind: int) -> Any:
    if kind == 0:
        return None
    if kind in (8, 9):
        return kind - 8
    if kind == 7:
        return struct.unpack(">d", raw)[0]
    if kind < 12:
        return int.from_bytes(raw, "big", signed=True)
    return raw if kind % 2 == 0 else raw.decode("utf-8", "surrogateescape")


def _number(data: mmap.mmap, end: int, size: int) -> tuple[int, bool]:
    """Return the number of a row, which stands before it, and whether that is sure.

    It is if the row's size stands before that again.
    """
    at = end - 1
    while at > 0 and end - at < 8 and data[at - 1] >= 0x80:
        at -= 1
    number, found = _varint(data, at)
    before = at - 1
    while before > 0 and at - before < 4 and data[before - 1] >= 0x80:
        before -= 1
    # The bytes before the size may look like more of it.
    sure = found == end and any(
        _varint(data, start) == (size, at) for start in range(before, at)
    )
    return number, sure


def _varint(data: Any, at: int) -> tuple[int, int]:
    value = 0
    for place in range(at, at + 8):
        byte = data[place]
        value = (value << 7) | (byte & 0x7F)
        if byte < 0x80:
            return value, place + 1
    return (value << 8) | data[at + 8], at + 9
