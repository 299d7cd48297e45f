"""How a process and one that it has had started find each other: a socket, once.

The socket has an abstract name (Linux): no file, no port, and the kernel forgets it
with its process, however that ends. Others on the host can read such names, so each
side asks the kernel whose process is at the other end (SO_PEERCRED, unix(7)), and
speaks with processes of its own user only. The first thing that is said, a greeting of
plain values, is sent and read here; what it means is not known.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import socket
import struct
import sys
from collections.abc import Sequence
from time import monotonic
from typing import Any

__all__ = ["Meeting", "join_meeting", "read_greeting", "send_greeting"]

_LENGTH = struct.Struct("=Q")

_CREDENTIALS = struct.Struct("3i")  # process, user, group


class Meeting:
    """Where the other process is waited for.

    Attributes:
        name: What it must be told: no secret, since only this user's processes are
            let in.

    Raises:
        OSError: This system has no such sockets.
    """

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise OSError("abstract socket names are Linux's")
        self.name = f"mpitasks-{os.urandom(16).hex()}-meet"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(f"\0{self.name}")
        self._socket.listen()
        self._socket.setblocking(False)

    def wait(self, seconds: float, others: Sequence[int] = ()) -> socket.socket | None:
        """Return the connection, once the other process has made it; None if not.

        Args:
            seconds: How long to wait.
            others: Descriptors; when one can be read from, it waits no longer.
        """
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0:
            own = self._socket.fileno()
            ready, _, _ = select.select([own, *others], [], [], left)
            if own in ready:
                with contextlib.suppress(OSError):
                    connection, _ = self._socket.accept()
                    if _is_ours(connection):
                        return connection
                    connection.close()
            elif ready:
                break
        return None

    def close(self) -> None:
        """Let nobody come any more."""
        self._socket.close()


def join_meeting(name: str) -> socket.socket:
    """Connect to the process that waits under that name.

    Raises:
        OSError: Nobody waits there: on another host, say, or not any more.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(f"\0{name}")
        if not _is_ours(connection):
            raise PermissionError("the process that waits there is another user's")
    except OSError:
        connection.close()
        raise
    return connection


def send_greeting(connection: socket.socket, greeting: dict[str, Any]) -> None:
    """Say who is there. Blocks.

    Raises:
        OSError: The other process is gone.
    """
    text = pickle.dumps(greeting)
    connection.sendall(_LENGTH.pack(len(text)) + text)


def read_greeting(connection: socket.socket) -> dict[str, Any]:
    """Return what the other process says first. Blocks.

    It is a process of this user's, so its pickle is trusted.

    Raises:
        OSError: The other process is gone; or it was silent for longer than the
            socket's timeout.
    """
    (length,) = _LENGTH.unpack(_read(connection, _LENGTH.size))
    greeting: dict[str, Any] = pickle.loads(_read(connection, length))
    return greeting


def _read(connection: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        part = connection.recv(length - len(parts))
        if not part:
            raise ConnectionResetError("the other process is gone")
        parts += part
    return bytes(parts)


def _is_ours(connection: socket.socket) -> bool:
    """Whether a process of this user is at the other end."""
    told = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
    )
    _, user, _ = _CREDENTIALS.unpack(told)
    return bool(user == os.geteuid())
