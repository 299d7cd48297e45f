"""One run at a time on one journal: a lock, and a note of who holds it.

The lock is a POSIX record lock (fcntl) on FILE.lock: the kernel lets go of it when the
process is gone, however it ended, and shared file systems know it across nodes. What
the file says of its holder is only for the message; after a kill it is stale, and
harmless. It also marks FILE as ours, when nothing in a damaged FILE does any more.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from mpitasks.errors import JournalError

__all__ = ["Lock", "lock_path"]

_HELD = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)

PATIENCE_SECONDS = 2.0
"""A run that was killed may still be on its way out, waiting for the disk."""

_ours: set[str] = set()
"""Journals that this process holds: to the kernel a process is at one with itself."""


def lock_path(journal: Path) -> Path:
    """Return where the lock of a journal is."""
    return journal.with_name(journal.name + ".lock")


class Lock:
    """Holds the lock of a journal.

    Args:
        journal: The journal's file.

    Attributes:
        known: Whether a journal of ours was here before.
        works: Whether the file system has locks.

    Raises:
        JournalError: Another run holds it, or the file cannot be made.
    """

    def __init__(self, journal: Path) -> None:
        self._name = os.path.realpath(journal)
        if self._name in _ours:
            raise JournalError(
                f"the journal {journal} is open in this process already: use the "
                f"Executor that has it, or shut that one down first"
            )
        self.works = True
        path = lock_path(journal)
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _cannot(journal, error) from error
        try:
            _take(self._file)
        except OSError as error:
            if error.errno in _HELD:
                holder = self._read()
                os.close(self._file)
                raise JournalError(_refusal(journal, holder)) from error
            if error.errno not in _NO_LOCKS:
                os.close(self._file)
                raise _cannot(journal, error) from error
            self.works = False
            print(
                f"mpitasks: the file system of {journal} has no locks, so nothing "
                f"keeps a second job off this journal: take care that there is none",
                file=sys.stderr,
            )
        self.known = bool(self._read())
        self._path = path
        _ours.add(self._name)

    def claim(self) -> None:
        """Say who holds it, and that the journal is one."""
        with contextlib.suppress(OSError):  # a full disk is noticed later, and said
            text = json.dumps(_holder()).encode()
            os.pwrite(self._file, text, 0)
            os.ftruncate(self._file, len(text))

    def release(self) -> None:
        """Let others have the journal. May be called again."""
        if self._name in _ours:
            _ours.discard(self._name)
            if os.fstat(self._file).st_size == 0:  # it was not claimed
                self._path.unlink(missing_ok=True)
            os.close(self._file)

    def _read(self) -> dict[str, Any]:
        try:
            told = json.loads(os.pread(self._file, 4096, 0))
        except (OSError, ValueError):
            return {}
        return told if isinstance(told, dict) else {}


def _take(file: int) -> None:
    """Take the lock, waiting for a little while.

    Raises:
        OSError: Somebody has it, or there are no locks here.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in _HELD or time.monotonic() > end:
                raise
        time.sleep(PATIENCE_SECONDS / 50)


def _holder() -> dict[str, Any]:
    return {
        "what": "mpitasks journal",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "job": os.environ.get("SLURM_JOB_ID"),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _refusal(journal: Path, holder: dict[str, Any]) -> str:
    if not holder:
        return f"the journal {journal} is in use by another run"
    job = holder.get("job")
    ending = f"scancel {job}" if job else f"kill {holder.get('pid')}"
    of_job = f" of SLURM job {job}" if job else ""
    return (
        f"the journal {journal} is in use by pid {holder.get('pid')}{of_job} on host "
        f"{holder.get('host')} since {holder.get('since')}: wait for its end or end it "
        f"({ending}), or take another journal"
    )


def _cannot(journal: Path, error: OSError) -> JournalError:
    why = os.strerror(error.errno or 0)
    told = JournalError(
        f"the journal {journal} cannot be written ({why}): --journal needs a file in a "
        f"folder where this user may make files"
    )
    told.unwritable = True
    return told
