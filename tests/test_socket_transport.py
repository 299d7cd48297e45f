"""The transport over a socket keeps the contract of all transports, relayed or not."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mpitasks.launch.relay import Relay
from mpitasks.wire import socket_transport
from mpitasks.wire.local_transport import local_pair
from mpitasks.wire.messages import Goodbye, Message, Shutdown
from mpitasks.wire.missing_buffers import Missing
from mpitasks.wire.socket_transport import SocketTransport
from mpitasks.wire.transport import Transport
from transport_contract import (
    CHECKS,
    Check,
    content,
    drive,
    drive_both,
    number_of,
    numbered,
    pattern,
)

Pair = tuple[SocketTransport, SocketTransport]


class WorkerEnd:
    """The relay's end, as the worker that the contract wants to see there."""

    rank = 1

    def __init__(self, end: SocketTransport) -> None:
        self._end = end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._end, name)

    def send(self, rank: int, message: Message) -> None:
        assert rank == 0
        self._end.send(self.rank, message)

    def poll(self) -> tuple[int, Message] | None:
        arrived = self._end.poll()
        if arrived is None:
            return None
        rank, message = arrived
        assert rank == self.rank
        return 0, message


@pytest.fixture
def ends() -> Iterator[Pair]:
    """Two connected ends."""
    first, second = socket.socketpair()
    made = SocketTransport(first), SocketTransport(second, spare_cores=True)
    yield made
    for end in made:
        end.close()


def receive(end: Transport) -> Any:
    while (arrived := end.poll()) is None:
        end.wait(0.01)
    return arrived


def numbers(arrived: tuple[int, Message]) -> tuple[int, int]:
    rank, message = arrived
    return rank, number_of(message)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_the_contract(ends: Pair, check: Check) -> None:
    script, relay = ends
    drive_both(check, script, WorkerEnd(relay))
    assert script.poll() is None
    assert relay.poll() is None


def test_the_whole_contract_through_a_relay(
    ends: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The transport within a process is not woken by the socket, as that over MPI is.
    monkeypatch.setattr("mpitasks.launch.relay.LOOK_SECONDS", 0.001)
    script, relay_end = ends
    rank_0, worker_end = local_pair()
    relay = Relay(relay_end, rank_0, [1])
    failures = []

    def work() -> None:
        try:
            for check in CHECKS:
                drive(check.worker(worker_end, 0), worker_end)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [
        threading.Thread(target=target, daemon=True) for target in (work, relay.run)
    ]
    for thread in threads:
        thread.start()
    for check in CHECKS:
        drive(check.master(script, 1), script)
    threads[0].join()
    assert failures == []
    script.close()
    threads[1].join()
    assert relay_end.is_closed


def test_a_relay_knows_when_every_worker_has_left(ends: Pair) -> None:
    script, relay_end = ends
    rank_0, worker_end = local_pair()
    relay = Relay(relay_end, rank_0, [1])
    script.send(1, Shutdown())
    assert relay.step()
    assert worker_end.poll() == (0, Shutdown())
    assert not relay.all_left
    worker_end.send(0, Goodbye())
    assert relay.step()
    assert relay.all_left
    assert not relay.step()
    assert receive(script) == (1, Goodbye())


def test_a_relay_takes_nothing_from_workers_that_the_script_does_not_take(
    ends: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpitasks.launch.relay.MOST_UNSENT_BYTES", 100_000)
    script, relay_end = ends
    rank_0, worker_end = local_pair()
    relay = Relay(relay_end, rank_0, [1])
    large = pattern(16 << 20)
    worker_end.send(0, numbered(1, [large]))
    worker_end.send(0, numbered(2))
    assert relay.step()
    assert relay_end.unsent_bytes > 100_000
    assert not relay.step()  # the second stays with the worker
    received = []
    while len(received) < 2:
        relay.step()
        arrived = script.poll()
        if arrived is not None:
            received.append(arrived[1])
    assert content(received[0].buffers[0]) == large.tobytes()


def test_whose_end_is_gone_is_heard_no_more(ends: Pair) -> None:
    script, relay = ends
    script.send(3, numbered(7))
    script.close()
    assert numbers(receive(relay)) == (3, 7)
    assert not relay.is_closed
    while not relay.is_closed:
        assert relay.poll() is None
    relay.send(1, numbered(8, [pattern(1 << 20)]))  # goes nowhere
    assert not relay.sending()
    assert relay.poll() is None
    relay.wait(0.01)


def test_an_end_that_is_gone_while_much_is_sent(ends: Pair) -> None:
    script, relay = ends
    buffer = pattern(64 << 20)
    script.send(1, numbered(1, [buffer]))
    assert script.sending()
    assert not script.sent([buffer])
    relay.close()
    while script.sending():
        script.wait(0.01)
    assert script.is_closed
    assert script.sent([buffer])
    assert script.unsent_bytes == 0


def test_who_is_abandoned_is_heard_no_more(ends: Pair) -> None:
    script, relay = ends
    relay.send(1, numbered(1))
    relay.send(2, numbered(2))
    script.abandon(1)
    arrived = None
    while arrived is None:
        arrived = script.poll()
    assert numbers(arrived) == (2, 2)


def test_a_buffer_that_does_not_fit_into_memory(
    ends: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, relay = ends

    def take(self: SocketTransport, nbytes: int) -> Any:
        if nbytes > 1_000_000:
            raise MemoryError
        return np.empty(nbytes, np.uint8)

    monkeypatch.setattr(socket_transport.SocketTransport, "_take_memory", take)
    sent = numbered(1, [pattern(70_000), pattern(5_000_000), b"end"])
    sender = threading.Thread(target=lambda: drain(script, sent))
    sender.start()
    _, message = receive(relay)
    sender.join()
    first, second, third = message.buffers
    assert content(first) == pattern(70_000).tobytes()
    assert type(second) is Missing
    assert len(second) == 5_000_000
    assert content(third) == b"end"


def drain(end: SocketTransport, message: Message) -> None:
    end.send(1, message)
    while end.sending():
        end.wait(0.01)


def test_a_forked_child_does_not_keep_the_connection(ends: Pair) -> None:
    script, relay = ends
    (reader, writer), (said, says) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:  # it lives until the test closes the pipe
        os.close(writer)
        script.disown()
        os.write(says, b".")
        os.read(reader, 1)
        os._exit(0)
    try:
        os.read(said, 1)
        script.close()
        while not relay.is_closed:  # or the test ends by its time-out
            assert relay.poll() is None
            relay.wait(0.01)
    finally:
        for fd in (writer, reader, said, says):
            os.close(fd)
        os.waitpid(pid, 0)
