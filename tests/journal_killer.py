"""Kills a process that writes a journal, again and again, and looks what is left.

    python tests/journal_killer.py FOLDER ROUNDS SEED

Each round forks a child that records results of many sizes as fast as it can, and is
killed (SIGKILL) after a random time. Then the journal must open without a word, each
result in it must be right, and all must be there that the child has told to be on disk.
Prints one line of JSON: how old what was lost is. A program of its own: it forks, and
one with threads must not.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import struct
import sys
import time
import types
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from mpitasks.journal.folder import Folder
from mpitasks.journal.opening import open_locked
from mpitasks.journal.recorder import Journal
from mpitasks.journal.rows import Entry, decode_row
from mpitasks.options import TaskOptions
from mpitasks.wire.outcomes import encode_result

MOST_SECONDS = 0.3
STAMP = struct.Struct("<qd")
ON_DISK = -1.0
"""In the place of a time: all results up to this one are on disk."""


def task(number: int) -> Any:
    """Return something of a size that depends on the number."""
    kind = number % 500
    if kind == 99:
        return np.full(200_000 + number % 7, number)  # a file of its own
    if kind % 100 == 48:
        return np.full(20_000, number)
    if kind % 50 == 47:
        return {"number": number, "text": "x" * (number % 5000)}
    return number * 0.5


def write(path: Path, start: int, pipe: int) -> None:
    """Record results until killed; tell the number and the time of each, and now and
    then that all are on disk."""
    journal = Journal(path)
    engine = types.SimpleNamespace(listen=lambda *_: None)
    stop = types.SimpleNamespace(abandon=os._exit, engine=engine)
    journal.attach(stop)  # type: ignore[arg-type]
    met = journal.meet(task)
    assert met is not None
    for number in range(start, start + 1_000_000):
        entry, found = journal.enter(met, (number,), {}, TaskOptions())
        assert isinstance(entry, Entry)
        assert not found, number
        form, payload, buffers = encode_result([task(number)], "here")
        journal.note(entry, form, payload, buffers)
        os.write(pipe, STAMP.pack(number, time.monotonic()))
        if number % 97 == 0:
            assert journal.flush()
            os.write(pipe, STAMP.pack(number, ON_DISK))


def read_back(path: Path) -> set[int]:
    """Return the numbers of the results in the journal, all of which must be right."""
    said = StringIO()
    with contextlib.redirect_stderr(said):
        lock, store = open_locked(path)
    if said.getvalue():
        raise AssertionError(said.getvalue())
    folder = Folder(path)
    found = set()
    for row_number in store.numbers():
        row = store.read(row_number)
        assert row.call is not None
        number = int(row.call.strip("(,)"))
        assert number not in found, f"{number} is there twice"
        value = decode_row(row, folder)
        assert np.array_equal(value, task(number)), f"{number} is wrong"
        found.add(number)
    store.close()
    lock.release()
    return found


def one_round(path: Path, start: int, seconds: float) -> tuple[float, int]:
    """Kill a writer after so long; return the age of the oldest loss, and the next."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            write(path, start, writing)
        finally:
            os._exit(1)
    os.close(writing)
    os.set_blocking(reading, False)
    told = b""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(BlockingIOError):
            told += os.read(reading, 1 << 16)
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    killed = time.monotonic()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the writer ended by itself"
    os.set_blocking(reading, True)
    while piece := os.read(reading, 1 << 16):
        told += piece
    os.close(reading)
    stamps = list(STAMP.iter_unpack(told[: len(told) // STAMP.size * STAMP.size]))
    found = read_back(path)
    safe = max((number for number, when in stamps if when == ON_DISK), default=-1)
    missing = [number for number, _ in stamps if number <= safe and number not in found]
    assert not missing, f"{missing} were on disk"
    lost = [killed - when for number, when in stamps if number not in found]
    return max(lost, default=0.0), (stamps[-1][0] if stamps else start) + 2


def main() -> None:
    """Run the rounds."""
    folder, rounds, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    random.seed(seed)
    ages = []
    following = 0
    for number in range(rounds):
        # A new file now and then, for the kills while it is made.
        path = folder / f"journal-{number // 10}.db"
        if number % 10 == 0:
            following = 0
        most = random.choice([0.03, MOST_SECONDS])  # while it is made, and later
        age, following = one_round(path, following, random.uniform(0, most))
        ages.append(age)
    ages.sort()
    print(json.dumps({"seed": seed, "most": ages[-1], "median": ages[rounds // 2]}))


if __name__ == "__main__":
    main()
