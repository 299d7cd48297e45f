"""Node memory: large data that processes of one machine map, instead of a copy each.

A block is anonymous memory behind a file descriptor, so it has no name that could be
left in /dev/shm: it is gone with the last process that has it. Its owner fills it once;
the kernel then lets nobody change it or its size. Other processes of the owner's user
attach it through ``/proc/PID/fd/NUMBER``, without the help of the owner, whatever that
is doing. They map it read-only, or privately: then a page is copied when it is written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import resource
from collections.abc import Callable
from typing import Any

__all__ = [
    "LARGE_BYTES",
    "SIZE_SEALS",
    "Block",
    "Mapping",
    "Reference",
    "anonymous_file",
    "anonymous_memory",
    "in_block",
    "is_attachable",
    "reference_of",
]

Reference = tuple[int, int, str, int]
"""The owner's process id, its descriptor, the name and the size in bytes of a block."""

LARGE_BYTES = 1 << 20
"""Buffers of at least this many bytes get a block; a copy of less costs less."""

_DESCRIPTORS, _ = resource.getrlimit(resource.RLIMIT_NOFILE)

MOST_BLOCKS = 256 if _DESCRIPTORS < 0 else min(256, _DESCRIPTORS // 8)
"""How many blocks a process may have at a time. Each takes two of its descriptors, and
up to three of a process that attaches it."""


def _seals(*names: str) -> int:
    return sum(getattr(fcntl, f"F_SEAL_{name}", 0) for name in names)  # Linux has them


SIZE_SEALS = _seals("SHRINK", "GROW", "SEAL")
_ALL_SEALS = SIZE_SEALS | _seals("WRITE")

_owned: set[int] = set()
"""Descriptors of the blocks that this process has filled."""


def anonymous_file(name: str) -> int:
    """Return a descriptor of memory without a name anybody could find.

    Raises:
        OSError: The system has no such thing, or no memory for it.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    # A Python that was built for an old C library has no memfd_create.
    return os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)


def anonymous_memory(name: str, nbytes: int) -> int:
    """As `anonymous_file`, of a size that nobody can change any more.

    A process that reads mapped memory behind the end of its file dies of SIGBUS.

    Raises:
        OSError: The system has no such thing, or no memory for it.
    """
    fd = anonymous_file(name)
    try:
        os.ftruncate(fd, nbytes)
        if hasattr(os, "memfd_create"):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SIZE_SEALS)
        return fd
    except BaseException:
        os.close(fd)
        raise


class Block:
    """A piece of node memory that this process has open.

    Attributes:
        reference: How another process attaches it.
    """

    def __init__(self, fd: int, reference: Reference) -> None:
        self._fd = fd
        self.reference = reference

    @classmethod
    def filled(cls, buffer: Any) -> Block:
        """Return a new block with the bytes of a buffer.

        Raises:
            OSError: There is no memory for it, or there are too many blocks.
        """
        if not hasattr(os, "memfd_create"):
            raise OSError("the system has no memory that can be sealed")
        if len(_owned) >= MOST_BLOCKS:
            raise OSError("there are too many blocks")
        view = memoryview(buffer).cast("B")
        name = f"mpitasks-{os.urandom(8).hex()}"
        fd = anonymous_file(name)
        try:
            # Written, not mapped: if there is no room that is an error, and no SIGBUS.
            written = 0
            while written < view.nbytes:
                written += os.pwrite(fd, view[written:], written)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _ALL_SEALS)
        except BaseException:
            os.close(fd)
            raise
        _owned.add(fd)
        return cls(fd, (os.getpid(), fd, name, view.nbytes))

    @classmethod
    def attached(cls, reference: Reference) -> Block:
        """Return a block of another process, or of this one.

        Raises:
            OSError: It is not there, or not to be attached from here.
        """
        pid, number, name, nbytes = reference
        path = f"/proc/{pid}/fd/{number}"
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.readlink(path)  # noqa: PTH115 (slow to load)
            if there != f"/memfd:{name} (deleted)":
                raise FileNotFoundError(f"{path} is no block of that name")
            if os.fstat(fd).st_size != nbytes:
                raise OSError(f"{path} is not of {nbytes} bytes")
        except BaseException:
            os.close(fd)
            raise
        return cls(fd, reference)

    def shared(self) -> Mapping:
        """Return the memory itself, read-only."""
        try:
            mapped = Mapping(self._fd, self.reference[3], access=mmap.ACCESS_READ)
        except OSError as error:
            raise _no_room(error) from error
        mapped.block = self
        return mapped

    def private(self) -> mmap.mmap:
        """Return memory with the same bytes that nobody else sees."""
        try:
            return mmap.mmap(
                self._fd,
                self.reference[3],
                flags=mmap.MAP_PRIVATE,
                prot=mmap.PROT_READ | mmap.PROT_WRITE,
            )
        except OSError as error:
            raise _no_room(error) from error

    # At the end of the interpreter the module's names are gone.
    def __del__(
        self,
        forget: Callable[[int], None] = _owned.discard,
        close: Callable[[int], None] = os.close,
    ) -> None:
        forget(self._fd)
        close(self._fd)


def _no_room(error: OSError) -> BaseException:
    """Return what to raise if memory cannot be mapped."""
    if error.errno == errno.ENOMEM:
        return MemoryError("there is no room to map an array that ranks share")
    return error


class Mapping(mmap.mmap):
    """A block as it is mapped read-only; keeps it open."""

    block: Block


def in_block(buffer: Any) -> memoryview | None:
    """Return a view of a block with the bytes of a large buffer.

    Returns:
        The view, read-only; None if the buffer is small, or there is no room.
    """
    if memoryview(buffer).nbytes < LARGE_BYTES:
        return None
    with contextlib.suppress(OSError, ValueError, MemoryError):
        return memoryview(Block.filled(buffer).shared())
    return None


def reference_of(buffer: Any) -> Reference | None:
    """Return how to attach the block that a buffer is a view of, if it is one."""
    holder = getattr(buffer, "obj", None)
    return holder.block.reference if type(holder) is Mapping else None


def is_attachable(pid: int) -> bool:
    """Whether blocks of this process can be attached by another one, as far as is seen.

    Whoever may look at that process's descriptors is one that may look at ours.
    """
    try:
        os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208 (slow to load)
        return True
    except OSError:
        return False
