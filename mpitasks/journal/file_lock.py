"""One run at a time on one journal: a lock, and a note of who holds it.

The lock is a POSIX record lock (fcntl) on FILE.lock: the kernel lets go of it when the
process is gone, however it ended, and shared file systems know it across nodes. What
the file says of its holder is only for the message; after a kill it is stale, and
harmless. It also marks FILE as ours, when nothing in a damaged FILE does any more.

A journal has one lock, whichever way leads to it: `resolve` follows symbolic links,
and refuses hard links, of which nobody can tell which name the lock should bear.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import json
import os
import socket
import stat
import sys
import time
from pathlib import Path
from typing import Any

from mpitasks.errors import JournalError
from mpitasks.files import open_regular
from mpitasks.text import printable

__all__ = ["Lock", "lock_path", "resolve"]

_HELD = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)

PATIENCE_SECONDS = 2.0
"""A run that was killed may still be on its way out, waiting for the disk."""

_ours: dict[str, tuple[int, int]] = {}
"""Journals that this process holds, and which file their locks are: to the kernel a
process is at one with itself."""

_WORDS = (b"mpitasks", b"journal", b'"host"', b'"pid"', b'"since"')


def resolve(path: Path) -> Path:
    """Return where a journal really is: one file has one lock and one folder.

    A link to a file that is not there leads to where that file will be made.

    Raises:
        JournalError: No journal can be there.
    """
    try:
        real = Path(os.path.realpath(path))
        kind = real.stat()
    except FileNotFoundError:
        return real
    except (OSError, ValueError) as error:
        raise JournalError(f"{path} cannot be a journal: {error}") from error
    if stat.S_ISDIR(kind.st_mode):
        raise JournalError(f"{path} is a folder; a journal is a file")
    if not stat.S_ISREG(kind.st_mode):
        raise JournalError(f"{path} is a device or a pipe; a journal is a file")
    if kind.st_nlink > 1 + _links_of_ours(real, kind):
        raise JournalError(
            f"the file {path} has {kind.st_nlink} names (hard links), and its lock and "
            f"its folder can bear one only: remove the others, use a symbolic link, or "
            f"take a copy, with its folder {real.name}.d"
        )
    return real


def _links_of_ours(real: Path, kind: os.stat_result) -> int:
    """Return how many names a mending that was cut off has left."""
    kept = glob.glob(f"{glob.escape(str(real))}.damaged-*")  # noqa: PTH207
    return sum(os.path.samestat(os.stat(name), kind) for name in kept)  # noqa: PTH116


def lock_path(journal: Path) -> Path:
    """Return where the lock of a journal is."""
    return journal.with_name(journal.name + ".lock")


class Lock:
    """Holds the lock of a journal.

    Args:
        journal: The journal's file, as `resolve` returns it.

    Attributes:
        known: Whether a journal of ours was here before.
        foreign: Whether the file was there before and is something else.
        works: Whether the file system has locks.

    Raises:
        JournalError: Another run holds it, or the file cannot be made.
    """

    def __init__(self, journal: Path) -> None:
        self._name = str(journal)
        path = lock_path(journal)
        _refuse_ours(journal, path)  # before it is opened: closing lets go of it
        self.works = True
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            self._file = open_regular(str(path), flags)
        except OSError as error:
            raise _cannot(journal, error) from error
        try:
            _take(self._file)
        except OSError as error:
            if error.errno in _HELD:
                holder = _told(self._read())
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
        _refuse_second_name(path, self._file)
        content = self._read()
        # One word may be damaged, and after a power cut there may be zeros.
        self.known = sum(word in content for word in _WORDS) >= 2
        self.foreign = bool(content.strip(b"\0")) and not self.known
        self._path = path
        self._claimed = False
        kind = os.fstat(self._file)
        _ours[self._name] = kind.st_dev, kind.st_ino

    def claim(self) -> None:
        """Say who holds it, and that the journal is one."""
        self._claimed = True
        with contextlib.suppress(OSError):  # a full disk is noticed later, and said
            text = json.dumps(_holder()).encode()
            os.pwrite(self._file, text, 0)
            os.ftruncate(self._file, len(text))

    def release(self) -> None:
        """Let others have the journal. May be called again."""
        if _ours.pop(self._name, None) is not None:
            if not self._claimed and os.fstat(self._file).st_size == 0:  # made here
                self._path.unlink(missing_ok=True)
            os.close(self._file)

    def _read(self) -> bytes:
        try:
            return os.pread(self._file, 4096, 0)
        except OSError:
            return b""


def _refuse_ours(journal: Path, path: Path) -> None:
    """Raise if this process has the journal already."""
    held = str(journal) in _ours
    with contextlib.suppress(OSError):  # another name may lead to the same lock
        kind = path.stat()
        held = held or (kind.st_dev, kind.st_ino) in _ours.values()
    if held:
        raise JournalError(
            f"the journal {journal} is open in this process already: use the "
            f"Executor that has it, or shut that one down first"
        )


def _refuse_second_name(path: Path, file: int) -> None:
    """Raise if what is written to a lock would stand in a file of another name, too."""
    if os.fstat(file).st_nlink > 1:
        os.close(file)
        raise JournalError(
            f"{path} has more than one name (hard links), and is left as it is: remove "
            f"it, or take another name for the journal"
        )


def _told(content: bytes) -> dict[str, Any]:
    """Return what a lock's file says of its holder."""
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
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
    holder = {key: value and printable(str(value)) for key, value in holder.items()}
    job = holder.get("job")
    ending = f"scancel {job}" if job else f"kill {holder.get('pid')}"
    of_job = f" of SLURM job {job}" if job else ""
    return (
        f"the journal {journal} is in use by pid {holder.get('pid')}{of_job} on host "
        f"{holder.get('host')} since {holder.get('since')}: wait for its end or end it "
        f"({ending}), or take another journal"
    )


def _cannot(journal: Path, error: OSError) -> JournalError:
    why = error.strerror or str(error)
    told = JournalError(
        f"the journal {journal} cannot be written ({why}): --journal needs a file in a "
        f"folder where this user may make files"
    )
    told.unwritable = True
    return told
