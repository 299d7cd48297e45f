"""Memory of another process of this machine, read without its help.

The kernel copies it (process_vm_readv(2), "cross memory attach"), as MPI libraries do
for large messages: so a process that runs C code for minutes delays nobody who reads
from it. It is allowed between processes of one user that may trace each other; where it
is not, callers fall back to messages.

A process that is gone may have left its id to another one, and one that lives may use
its memory for something else by now. So each call reads a token last, random bytes
beside the data, and what it read counts only if they are right: whoever gives the
memory away wipes the token first.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mpitasks.wire.processes import machine

if TYPE_CHECKING:
    from mpitasks.wire.codec import Buffer

__all__ = ["Guard", "Origin", "Span", "allow_readers", "read", "span_of"]

Span = tuple[int, int]
"""Where memory begins, as an address of its process, and how many bytes it has."""

SPANS_AT_ONCE = 512
BYTES_AT_ONCE = 256 << 20
"""In one call. The kernel takes 1,024 spans and 2 GiB."""

_TOKEN_BYTES = 16

_PR_SET_PTRACER, _PR_SET_PTRACER_ANY = 0x59616D61, ctypes.c_ulong(-1)


class Origin(NamedTuple):
    """Where memory is that others may read.

    Attributes:
        machine: The machine, as `mpitasks.wire.processes.machine` calls that.
        pid: The process there.
        token: What stands beside the data as long as they are there,
        address: and where.
    """

    machine: str
    pid: int
    token: bytes
    address: int

    @property
    def is_here(self) -> bool:
        """Whether it is this process."""
        return self.pid == os.getpid() and self.machine == _machine()


_machine = functools.cache(machine)


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("nbytes", ctypes.c_size_t))


def span_of(buffer: Buffer) -> Span:
    """Return where a contiguous buffer of this process is. It must stay alive."""
    import numpy as np

    view = np.frombuffer(buffer, np.uint8) if memoryview(buffer).nbytes else None
    return (0, 0) if view is None else (view.ctypes.data, view.nbytes)


class Guard:
    """The token beside some data of this process.

    Attributes:
        origin: How others find it.
    """

    def __init__(self) -> None:
        self._token = bytearray(os.urandom(_TOKEN_BYTES))
        address = span_of(self._token)[0]
        self.origin = Origin(_machine(), os.getpid(), bytes(self._token), address)

    def wipe(self) -> None:
        """From now on nobody must take the data for what they were."""
        self._token[:] = bytes(_TOKEN_BYTES)


def allow_readers() -> None:
    """Let other processes of this user read here, where Yama forbids it by default.

    Open MPI and UCX do the same. See prctl(2), PR_SET_PTRACER.
    """
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope") as file:  # noqa: PTH123
            restricted = file.read().strip() == "1"
    except OSError:
        return  # the kernel has no such thing
    if restricted:
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY, 0, 0, 0)


def read(origin: Origin, spans: Sequence[Span], into: Sequence[Buffer]) -> bool:
    """Read memory of another process, or of this one.

    Args:
        origin: Whose it is.
        spans: Where the memory is.
        into: A writable buffer of the same size for each.

    Returns:
        Whether it was read: False if the process is gone, or on another machine, or may
        not be read from, or if the data are not there any more. What stands in the
        buffers then means nothing.
    """
    call = _system_call()
    if call is None or origin.machine != _machine():
        return False
    theirs: list[Span] = []
    own: list[Span] = []
    nbytes = 0
    for span, buffer in zip(spans, into, strict=True):
        target = span_of(buffer)
        for at in range(0, span[1], BYTES_AT_ONCE):
            size = min(BYTES_AT_ONCE, span[1] - at)
            if nbytes + size > BYTES_AT_ONCE or len(theirs) == SPANS_AT_ONCE:
                if not _read(call, origin, theirs, own):
                    return False
                theirs, own, nbytes = [], [], 0
            theirs.append((span[0] + at, size))
            own.append((target[0] + at, size))
            nbytes += size
    return _read(call, origin, theirs, own)


def _read(call: Any, origin: Origin, theirs: list[Span], own: list[Span]) -> bool:
    token = ctypes.create_string_buffer(_TOKEN_BYTES)
    there = [*theirs, (origin.address, _TOKEN_BYTES)]  # in this order
    here = [*own, (ctypes.addressof(token), _TOKEN_BYTES)]
    count = len(there)
    nbytes = call(origin.pid, _vectors(here), count, _vectors(there), count, 0)
    return token.raw == origin.token and nbytes == sum(size for _, size in there)


def _vectors(spans: Sequence[Span]) -> Any:
    return (_Vector * len(spans))(*[_Vector(*span) for span in spans])


@functools.cache
def _system_call() -> Any:
    """Return the C library's function; None if it has none."""
    try:
        call = ctypes.CDLL(None, use_errno=True).process_vm_readv
    except (AttributeError, OSError):
        return None
    call.restype = ctypes.c_ssize_t
    call.argtypes = (
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_ulong,
        ctypes.c_void_p,
        ctypes.c_ulong,
        ctypes.c_ulong,
    )
    return call
