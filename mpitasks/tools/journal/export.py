"""Results out of a journal: as CSV, as JSON, or arrays as npz. One value at a time."""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import io
import json
import math
import os
import sys
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from mpitasks.errors import JournalError
from mpitasks.files import replacing
from mpitasks.journal.folder import Damaged
from mpitasks.journal.row_text import fit
from mpitasks.text import printable
from mpitasks.tools.journal.reader import Reader, key_text
from mpitasks.tools.journal.show import moment
from mpitasks.wire.diagnose import describe
from mpitasks.wire.outcomes import Failure

if TYPE_CHECKING:
    from mpitasks.journal.store import Row

__all__ = ["FORMATS", "write"]

FORMATS = ("csv", "json", "npz")

COLUMNS = ("key", "function", "call", "label", "at", "state", "value")

MOST_BITS = 10_000
"""Longer integers stand there in hexadecimal: Python and others refuse decimals."""

MOST_NAME = 10_000

_USERS = (Exception, SystemExit, GeneratorExit)
"""What methods of the results may raise; Ctrl-C ends the export."""

_NPZ_MARK = b"mt\x08\0mpitasks"
"""An extra field of each member, by which an archive is known as one of ours."""

EMPTY_ZIP = 22
"""The bytes of an archive without members."""

MOST_ITEMS = 10_000
"""Larger arrays stand in CSV and JSON as their dtype and shape."""


def write(reader: Reader, rows: Iterable[Row], options: argparse.Namespace) -> int:
    """Write the rows in each format that `options` name; return the exit code.

    Raises:
        JournalError: A file cannot be written.
    """
    sys.path.insert(0, os.getcwd())  # noqa: PTH109  where the script's modules may be
    wanted = list(rows)  # without their values
    for name in FORMATS:
        target = getattr(options, name)
        if target is None:
            continue
        try:
            count = _WRITERS[name](_entries(reader, wanted), target)
        except OSError as error:
            if target == "-" and isinstance(error, BrokenPipeError):
                raise  # nobody reads on, which is no error of the export
            raise JournalError(f"{target} cannot be written: {error}") from error
        if target != "-":
            print(f"written: {target} ({count} of {len(wanted)} results)")
    for what in reader.damaged:
        print(f"mpitasks: damaged: {printable(what)}", file=sys.stderr)
    return 1 if reader.damaged or reader.damage else 0


def _entries(
    reader: Reader, rows: Iterable[Row]
) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield what is known of each result, and its value or error."""
    for row in rows:
        state = "failed" if row.failed else "ok"
        try:
            value = reader.value(row)
        except Damaged as error:
            value, state = f"damaged: {error}", "damaged"
        if type(value) is Failure:
            value = value.error
        yield (
            {
                "key": key_text(row),
                "function": reader.name(row),
                "call": row.call,
                "label": row.label,
                "at": moment(row.at),
                "state": state,
            },
            value,
        )


def _write_csv(entries: Iterable[tuple[dict[str, Any], Any]], target: str) -> int:
    count = 0
    with _opened(target, ",".join(COLUMNS)) as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for known, value in entries:
            shown = _shown(value)
            if isinstance(shown, (list, dict)):
                shown = json.dumps(shown)
            told = {**known, "value": shown}
            if target == "-":  # which may be a terminal
                told = {k: printable(str(v)) for k, v in told.items() if v is not None}
            writer.writerow(told)
            count += 1
    return count


def _write_json(entries: Iterable[tuple[dict[str, Any], Any]], target: str) -> int:
    count = 0
    with _opened(target, '[\n {"key": ', "[\n]\n") as file:
        file.write("[")
        for known, value in entries:
            file.write(",\n " if count else "\n ")
            json.dump({**known, "value": _shown(value)}, file)
            count += 1
        file.write("\n]\n")
    return count


def _write_npz(entries: Iterable[tuple[dict[str, Any], Any]], target: str) -> int:
    """Write the arrays and numbers among the results, each under its key."""
    if target == "-":
        raise JournalError("--npz needs a file; it cannot go to the terminal")
    names: set[str] = set()
    count = 0
    with (
        replacing(target, _is_npz, streams=True) as out,
        zipfile.ZipFile(out, "w", allowZip64=True) as archive,
    ):
        for known, value in entries:
            if known["state"] != "ok":
                continue
            arrays = _found_arrays(known["key"], value)
            for name, array in arrays.items():
                unique = name if name not in names else f"{name}#{len(names)}"
                names.add(unique)
                member = zipfile.ZipInfo(f"{unique}.npy")
                member.extra = _NPZ_MARK
                with archive.open(member, "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)
            count += bool(arrays)
    return count


def _found_arrays(name: str, value: Any) -> dict[str, np.ndarray[Any, Any]]:
    try:
        return {_member(name): array for name, array in _arrays(name, value)}
    except _USERS:
        return {}


def _member(name: str) -> str:
    """Return the name of an array as an archive can have it."""
    return printable(name)[:MOST_NAME]


def _arrays(name: str, value: Any) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Yield the arrays in a result; those of a dict or a tuple as ``name/part``."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _arrays(f"{name}/{key}", part)
        return
    try:
        array = np.asarray(value)
    except ValueError:  # parts of several shapes
        array = np.asarray(None)
    if not array.dtype.hasobject:
        yield name, array
    elif isinstance(value, (list, tuple)):
        for at, part in enumerate(value):
            yield from _arrays(f"{name}/{at}", part)


def _shown(value: Any) -> Any:
    """Return a value as JSON has it, or why there is no way to show it."""
    try:
        return simple(value)
    except _USERS as error:
        return f"cannot be shown: {describe(error)}"


def simple(value: Any) -> Any:
    """Return a value as JSON has it.

    Raises:
        BaseException: Whatever the value's own methods raise.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return hex(value)
    if isinstance(value, str):
        return fit(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, np.ndarray):
        if value.size <= MOST_ITEMS:
            return simple(value.tolist())
        return {"array": str(value.dtype), "shape": list(value.shape)}
    if isinstance(value, (list, tuple)):
        return [simple(part) for part in value]
    if isinstance(value, dict):
        return {_name(key): simple(part) for key, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: simple(getattr(value, name)) for name in names}
    return fit(repr(value))


def _name(key: Any) -> str:
    long = isinstance(key, int) and key.bit_length() > MOST_BITS
    return hex(key) if long else fit(str(key))


@contextlib.contextmanager
def _opened(target: str, *beginnings: str) -> Iterator[IO[str]]:
    """Open what is written to: a file, in the place of one that begins like that."""
    if target == "-":
        yield sys.stdout
        return
    ours = tuple(text.encode() for text in beginnings)
    with replacing(target, lambda head: head.startswith(ours), streams=True) as out:
        file = io.TextIOWrapper(out, encoding="utf-8", newline="")
        yield file
        file.detach()  # flushed; `replacing` closes it


def _is_npz(head: bytes) -> bool:
    return head.startswith(b"PK") and (_NPZ_MARK in head or len(head) == EMPTY_ZIP)


_WRITERS = {"csv": _write_csv, "json": _write_json, "npz": _write_npz}
