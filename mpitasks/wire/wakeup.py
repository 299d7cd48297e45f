"""Wakes a rank that sleeps, if it is on the same host: a wake-up beside MPI.

MPI has no way to sleep until a message comes, so an idle rank would have to look some
thousand times a second. Instead each rank of a host has a Unix datagram socket with
an abstract name (no file, no port; gone with the process; Linux only), sleeps on it
when nothing came for a while, and whoever sends it a message after a silence rings.

Nothing depends on it: a ring that is lost costs one sleep (`DOZE_SECONDS`), and ranks
that cannot be reached, on other hosts or systems, are polled for as before. A rank
sleeps this way only when all ranks that may send to it have rung before (`trusted`).

Anybody on the host can find the name of such a socket and send to it. So each ring
begins with the run's secret, which the ranks have told each other over MPI, and the
kernel drops what does not (a socket filter): a stranger wakes nobody.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys
import threading
from collections.abc import Iterable
from time import sleep  # a task may patch the module

__all__ = ["DOZE_SECONDS", "SECRET_BYTES", "Wakeup"]

SECRET_BYTES = 16

DOZE_SECONDS = 0.05
"""A sleep ends after this, rung or not: a ring is a hint, not a message."""

NAP_SECONDS = 0.8e-3


class Wakeup:
    """One rank's bell, and the way to those of others. Used by several threads.

    Args:
        name: The run's name, the same on all its ranks and on no others.
        secret: `SECRET_BYTES` that only ranks of this run know.
        rank: Whose bell this is.
        peers: The ranks that messages come from.

    Raises:
        OSError: This system has no such sockets.
    """

    def __init__(
        self, name: str, secret: bytes, rank: int, peers: Iterable[int]
    ) -> None:
        if sys.platform != "linux":
            raise OSError("abstract socket names are Linux's")
        self._name = name
        self._secret = secret
        self._own = secret + b"%d" % rank
        self._silent = set(peers)  # have not rung yet
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        _drop_strangers(self._socket, secret)
        try:
            self._socket.bind(self._address(rank))
        except OSError:
            self._socket.close()
            raise
        self._rung = select.poll()
        self._rung.register(self._socket, select.POLLIN)
        self._bed = threading.Lock()

    @property
    def trusted(self) -> bool:
        """Whether every peer has shown that it can ring here."""
        if self._silent:
            self._drain()
        return not self._silent

    def distrust(self) -> None:
        """Ranks that cannot ring here may send messages from now on."""
        self._silent.add(-1)

    def watch(self, fd: int) -> None:
        """Let a sleep end, too, when there is something to read from a file."""
        self._rung.register(fd, select.POLLIN)

    def ring(self, rank: int) -> None:
        """Wake the rank, if it sleeps and can be reached."""
        with contextlib.suppress(OSError):  # not there, or its bell rings already
            self._socket.sendto(self._own, self._address(rank))

    def wait(self, seconds: float) -> bool:
        """Sleep until somebody rings, at most this long; return whether somebody did.

        One thread at a time: a ring would be taken in by the first that wakes, and the
        others would sleep on. They sleep for a short time, rung or not.
        """
        if not self._bed.acquire(blocking=False):
            sleep(min(seconds, NAP_SECONDS))
            return False
        try:
            rung = self._rung.poll(min(seconds, DOZE_SECONDS) * 1e3)
            own = self._socket.fileno()
            return self._drain() or any(fd != own for fd, _ in rung) if rung else False
        finally:
            self._bed.release()

    def close(self) -> None:
        """Take the bell away."""
        self._socket.close()

    def _drain(self) -> bool:
        """Take in all rings; return whether there was one of this run."""
        rung = False
        with contextlib.suppress(BlockingIOError):
            while True:
                ring = self._socket.recv(SECRET_BYTES + 16)
                if not ring.startswith(self._secret):
                    continue  # where the kernel has no such filters
                rung = True
                rank = ring[SECRET_BYTES:]
                if self._silent and rank.isdigit():
                    self._silent.discard(int(rank))
        return rung

    def _address(self, rank: int) -> str:
        return f"\0mpitasks-{self._name}-{rank}"


_SO_ATTACH_FILTER = 26  # socket(7); not in Python's socket
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # of classic BPF
_ALL = 0xFFFFFFFF


def _drop_strangers(end: socket.socket, secret: bytes) -> None:
    """Have the kernel drop what does not begin with the secret, before it wakes us."""
    import ctypes  # late: another thread may be importing it when a script forks

    words = struct.unpack(f"!{len(secret) // 4}I", secret)
    steps = []
    for number, word in enumerate(words):
        to_the_end = 2 * (len(words) - number) - 1
        steps += [(_LOAD_WORD, 0, 0, 4 * number)]
        steps += [(_JUMP_IF_EQUAL, 0, to_the_end, word)]
    steps += [(_RETURN, 0, 0, _ALL), (_RETURN, 0, 0, 0)]
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    kept = ctypes.create_string_buffer(code)
    program = struct.pack("HP", len(steps), ctypes.addressof(kept))
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
