"""Wakes a rank that sleeps, if it is on the same host: a doorbell beside MPI.

MPI has no way to sleep until a message comes, so an idle rank would have to look some
thousand times a second. Instead each rank of a host has a Unix datagram socket with
an abstract name (no file, no port; gone with the process; Linux only), sleeps on it
when nothing came for a while, and whoever sends it a message after a silence rings.

Nothing depends on it: a ring that is lost costs one sleep (`DOZE_SECONDS`), and ranks
that cannot be reached, on other hosts or systems, are polled for as before. A rank
sleeps this way only when all ranks that may send to it have rung before (`trusted`).
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import threading
import time
from collections.abc import Iterable

__all__ = ["DOZE_SECONDS", "Doorbell"]

DOZE_SECONDS = 0.05
"""A sleep ends after this, rung or not: a ring is a hint, not a message."""

NAP_SECONDS = 0.8e-3


class Doorbell:
    """One rank's bell, and the way to those of others. Used by several threads.

    Args:
        name: The run's name, the same on all its ranks and on no others.
        rank: Whose bell this is.
        peers: The ranks that messages come from.

    Raises:
        OSError: This system has no such sockets.
    """

    def __init__(self, name: str, rank: int, peers: Iterable[int]) -> None:
        if sys.platform != "linux":
            raise OSError("abstract socket names are Linux's")
        self._name = name
        self._own = b"%d" % rank
        self._silent = set(peers)  # have not rung yet
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
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

    def ring(self, rank: int) -> None:
        """Wake the rank, if it sleeps and can be reached."""
        with contextlib.suppress(OSError):  # not there, or its bell rings already
            self._socket.sendto(self._own, self._address(rank))

    def wait(self, seconds: float) -> bool:
        """Sleep until somebody rings, at most so long; return whether somebody did.

        One thread at a time: a ring would be taken in by the first that wakes, and the
        others would sleep on. They sleep for a short time, rung or not.
        """
        if not self._bed.acquire(blocking=False):
            time.sleep(min(seconds, NAP_SECONDS))
            return False
        try:
            rung = bool(self._rung.poll(min(seconds, DOZE_SECONDS) * 1e3))
            if rung:
                self._drain()
            return rung
        finally:
            self._bed.release()

    def close(self) -> None:
        """Take the bell away."""
        self._socket.close()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                rang = self._socket.recv(16)
                if self._silent and rang.isdigit():
                    self._silent.discard(int(rang))

    def _address(self, rank: int) -> str:
        return f"\0mpitasks-{self._name}-{rank}"
