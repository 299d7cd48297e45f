"""Results out of a damaged database file, page by page, without SQLite's help.

SQLite finds rows by trees of pages, and one bad page hides all below it. But each row
stands whole in a leaf page (what does not fit, in a chain of overflow pages) and has
a checksum. So this looks at each page as if it were a leaf, reads what looks like rows,
and keeps those whose checksum is right: what is found so is what was written, whatever
is wrong with the rest. https://www.sqlite.org/fileformat2.html has the format.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mpitasks.master.journal.store import PAGE_BYTES, FunctionRow, Row, checksum

__all__ = ["salvage"]

_LEAF = 13
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_MOST_BYTES = 16 << 20  # no row is longer: large results have files


class _Broken(Exception):
    """This is no row after all."""


def salvage(path: Path) -> tuple[dict[int, FunctionRow], dict[int, Row]]:
    """Return the functions and results that are sound, by their numbers."""
    functions: dict[int, FunctionRow] = {}
    results: dict[int, Row] = {}
    if path.stat().st_size == 0:
        return functions, results
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        for number, values in _rows(data):
            row: Any
            try:
                if len(values) == 14:
                    row = Row(*values[1:-1])
                    row.at = float(row.at)  # SQLite stores a whole number as one
                elif len(values) == 5:
                    row = FunctionRow(*values[1:-1])
                else:
                    continue
                if checksum(row) != values[-1]:
                    continue
            except (TypeError, ValueError):  # what cannot stand in such a row
                continue
            if isinstance(row, Row):
                results[number] = row
            else:
                functions[number] = row
    return functions, results


def _rows(data: mmap.mmap) -> Iterator[tuple[int, list[Any]]]:
    for start in range(0, len(data), PAGE_BYTES):
        head = start + (100 if start == 0 else 0)
        if head + 8 > len(data) or data[head] != _LEAF:
            continue
        (count,) = struct.unpack_from(">H", data, head + 3)
        for at in range(min(count, PAGE_BYTES // 4)):
            try:
                (offset,) = struct.unpack_from(">H", data, head + 8 + 2 * at)
                yield _cell(data, start, start + offset)
            except (_Broken, IndexError, struct.error, UnicodeDecodeError):
                continue


def _cell(data: mmap.mmap, page: int, at: int) -> tuple[int, list[Any]]:
    size, at = _varint(data, at)
    number, at = _varint(data, at)
    if size > _MOST_BYTES:
        raise _Broken
    most = PAGE_BYTES - 35
    if size <= most:
        return number, _record(data[at : at + size])
    least = (PAGE_BYTES - 12) * 32 // 255 - 23
    local = least + (size - least) % (PAGE_BYTES - 4)
    if local > most:
        local = least
    if at + local + 4 > page + PAGE_BYTES:
        raise _Broken
    pieces = [data[at : at + local]]
    (follows,) = struct.unpack_from(">I", data, at + local)
    missing = size - local
    while missing > 0:
        start = (follows - 1) * PAGE_BYTES
        if follows < 2 or start + PAGE_BYTES > len(data):
            raise _Broken
        (follows,) = struct.unpack_from(">I", data, start)
        pieces.append(data[start + 4 : start + 4 + min(missing, PAGE_BYTES - 4)])
        missing -= PAGE_BYTES - 4
    return number, _record(b"".join(pieces))


def _record(body: bytes) -> list[Any]:
    length, at = _varint(body, 0)
    kinds = []
    while at < length:
        kind, at = _varint(body, at)
        kinds.append(kind)
    values: list[Any] = []
    for kind in kinds:
        value, at = _value(body, kind, at)
        values.append(value)
    if at != len(body):
        raise _Broken
    return values


def _value(body: bytes, kind: int, at: int) -> tuple[Any, int]:
    if kind == 0:
        return None, at
    if kind in (8, 9):
        return kind - 8, at
    if kind == 7:
        return struct.unpack_from(">d", body, at)[0], at + 8
    if kind in _INTEGERS:
        end = at + _INTEGERS[kind]
        return int.from_bytes(body[at:end], "big", signed=True), end
    if kind < 12:
        raise _Broken
    end = at + (kind - 12) // 2
    if end > len(body):
        raise _Broken
    raw = body[at:end]
    return (raw if kind % 2 == 0 else raw.decode()), end


def _varint(data: Any, at: int) -> tuple[int, int]:
    value = 0
    for place in range(9):
        byte = data[at + place]
        if place == 8:
            return (value << 8) | byte, at + 9
        value = (value << 7) | (byte & 0x7F)
        if byte < 0x80:
            return value, at + place + 1
    raise _Broken
