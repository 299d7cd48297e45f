"""A worker's hold on rank 0: it is one of the same user's, or none."""

from __future__ import annotations

import os
import socket
import sys
import uuid

import pytest

from mpitasks.wire.lifeline import Lifeline, _address

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="abstract socket names are Linux's"
)


def test_there_is_none() -> None:
    with pytest.raises(ConnectionRefusedError):
        Lifeline(uuid.uuid4().hex)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_users_socket_is_none() -> None:
    run = uuid.uuid4().hex
    outer, inner = os.pipe()
    end, keep = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(keep)
            os.setgroups([])
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(_address(run))
                listener.listen()
                os.write(inner, b".")
                os.read(end, 1)
        finally:
            os._exit(0)
    for fd in (inner, end):
        os.close(fd)
    assert os.read(outer, 1) == b"."
    with pytest.raises(OSError, match="another user's"):
        Lifeline(run)
    for fd in (outer, keep):
        os.close(fd)
    assert os.waitpid(child, 0)[1] == 0
