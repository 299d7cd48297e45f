"""What every transport must do, in a form that runs in one process or in two.

A check is a pair of sides, one for each end. A side is a generator: it yields when
it has nothing to do until something arrives. `drive_both` runs both sides of a check
in one process; over MPI each rank calls `drive` with its own side, and all ranks go
through `CHECKS` in the same order. A side returns when all its messages have left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpitasks.wire.messages import (
    Batch,
    Goodbye,
    Hello,
    Message,
    Outcomes,
    Request,
    Result,
    Returned,
    Shutdown,
    Welcome,
)
from mpitasks.wire.transport import Transport

__all__ = ["CHECKS", "Check", "drive", "drive_both"]

Side = Generator[None, None, None]

LONG_FRAME = 17 << 20  # longer than what MPI transports receive in one piece
SIZES = [0, 1, 64 << 10, (64 << 10) + 1, 5_000_000]
MANY_BUFFERS = 2000
ROUNDS = 1_000_000


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: What it is about.
        master: The side of rank 0; called with its end and the other's rank.
        worker: The other side.
    """

    name: str
    master: Callable[[Transport, int], Side]
    worker: Callable[[Transport, int], Side]


def drive(side: Side, end: Transport) -> None:
    """Run one side to its end, while another process runs the other."""
    for _ in side:
        end.wait(0.001)


def drive_both(check: Check, master_end: Transport, worker_end: Transport) -> None:
    """Run both sides by turns in this thread."""
    sides = [
        check.master(master_end, worker_end.rank),
        check.worker(worker_end, master_end.rank),
    ]
    for _ in range(ROUNDS):
        sides = [side for side in sides if next(side, sides) is None]
        if not sides:
            return
    raise AssertionError(f"{check.name}: the sides wait for each other")


# What sides are made of.


def receive(end: Transport, peer: int) -> Generator[None, None, Any]:
    """Wait for the next message and return it."""
    while (arrived := end.poll()) is None:
        yield
    source, message = arrived
    assert source == peer
    return message


def drain(end: Transport) -> Side:
    """Wait until everything has left."""
    while end.sending():
        yield


def nothing(end: Transport) -> None:
    """Assert that nothing is there."""
    assert end.poll() is None


def numbered(number: int, buffers: Iterable[Any] = ()) -> Batch:
    """Return a message that can be told from others."""
    return Batch([(number, 0, 0, (), 0)], buffers=list(buffers))


def number_of(message: Any) -> int:
    """Return which message it is."""
    assert type(message) is Batch
    return message.calls[0][0]


def pattern(size: int, seed: int = 1) -> np.ndarray[Any, Any]:
    """Return bytes that are all over different."""
    return (np.arange(size, dtype=np.uint32) * 2654435761 >> seed).astype(np.uint8)


def content(buffer: Any) -> bytes:
    """Return the bytes of a buffer."""
    return bytes(memoryview(buffer).cast("B")) if memoryview(buffer).nbytes else b""


def _twice(
    name: str, sender: Callable[[Transport, int], Side], receiver: Any
) -> list[Check]:
    """Return a check in both directions."""
    return [
        Check(f"{name}, to the worker", sender, receiver),
        Check(f"{name}, to the master", receiver, sender),
    ]


# The checks.


def _silent_first(end: Transport, peer: int) -> Side:
    nothing(end)
    nothing(end)
    assert not end.sending()
    end.send(peer, Welcome(2, True, "a"))
    assert (yield from receive(end, peer)) == Goodbye()
    yield from drain(end)


def _silent_second(end: Transport, peer: int) -> Side:
    assert (yield from receive(end, peer)) == Welcome(2, True, "a")
    nothing(end)
    end.send(peer, Goodbye())
    yield from drain(end)


ONE_OF_EACH: list[Message] = [
    Hello(1, "node7", 4711, [0, 1], "3.12.1", "0.1.0", "a library"),
    Welcome(8, False, "a"),
    Batch([(1, 2, 0, (1, "a"), 0)], [(2, b"frame", 0)], [9]),
    Request((1, 2, 0, (1, "a"), 0)),
    Outcomes(1, 1, [1, 2], [2], [(2, 2, 0.5, 1)], [None, b"x"], {1: (1, 0)}),
    Result(1, 2, 3, 0.5, 0, 0, "a"),
    Returned(1, [4, 5], (2, 7)),
    Shutdown(),
    Goodbye(),
]


def _send_each(end: Transport, peer: int) -> Side:
    for message in ONE_OF_EACH:
        end.send(peer, message)
    yield from drain(end)


def _receive_each(end: Transport, peer: int) -> Side:
    for message in ONE_OF_EACH:
        again = yield from receive(end, peer)
        assert type(again) is type(message)
        assert again == message
        assert again is not message


def _send_many(end: Transport, peer: int) -> Side:
    for number in range(2000):
        end.send(peer, numbered(number))
    yield from drain(end)


def _receive_many(end: Transport, peer: int) -> Side:
    for number in range(2000):
        assert number_of((yield from receive(end, peer))) == number


def _by_turns(number: int) -> Message:
    """Return a message with a short frame, or with one that is not."""
    if number % 3 == 1:
        return Batch([(number, 0, 1, bytes([number % 251]) * 500, 0)])
    return Request((number, 0, 0, (), 0))


def _send_by_turns(end: Transport, peer: int) -> Side:
    for number in range(2000):
        end.send(peer, _by_turns(number))
    yield from drain(end)
    assert not end.sending()


def _receive_by_turns(end: Transport, peer: int) -> Side:
    for number in range(2000):
        assert (yield from receive(end, peer)) == _by_turns(number)


def _both_at_once(end: Transport, peer: int) -> Side:
    for number in range(300):
        end.send(peer, numbered(number, [pattern(number * 100)]))
    for number in range(300):
        message = yield from receive(end, peer)
        assert number_of(message) == number
        assert content(message.buffers[0]) == pattern(number * 100).tobytes()
    yield from drain(end)


def _ping(end: Transport, peer: int) -> Side:
    for number in range(200):
        end.send(peer, numbered(number))
        assert number_of((yield from receive(end, peer))) == number + 1
    yield from drain(end)


def _pong(end: Transport, peer: int) -> Side:
    for number in range(200):
        assert number_of((yield from receive(end, peer))) == number
        end.send(peer, numbered(number + 1))
    yield from drain(end)


def _buffer_sender(size: int) -> Callable[[Transport, int], Side]:
    def side(end: Transport, peer: int) -> Side:
        source = pattern(size)
        end.send(peer, numbered(1, [source]))
        yield from drain(end)
        assert number_of((yield from receive(end, peer))) == 2
        assert source.tobytes() == pattern(size).tobytes()  # it wrote into its own
        source[:] = 77
        end.send(peer, numbered(3))
        yield from drain(end)

    return side


def _buffer_receiver(size: int) -> Callable[[Transport, int], Side]:
    def side(end: Transport, peer: int) -> Side:
        message = yield from receive(end, peer)
        (buffer,) = message.buffers
        assert content(buffer) == pattern(size).tobytes()
        view = memoryview(buffer)
        assert not view.readonly
        assert view.contiguous
        if size:
            view.cast("B")[size - 1] ^= 255
        mine = content(buffer)
        end.send(peer, numbered(2))
        yield from drain(end)
        assert number_of((yield from receive(end, peer))) == 3
        assert content(buffer) == mine  # the sender wrote into its own

    return side


def _kinds() -> list[Any]:
    read_only = pattern(70_000).view("f4")
    read_only.flags.writeable = False
    return [
        b"",
        b"abc",
        bytearray(b"defg"),
        memoryview(b"hijkl")[1:4],
        pattern(400_000).view("c16").reshape(50, -1),
        read_only,
        np.empty((0, 3)),
        bytes(100_000),
        np.zeros((), "f8"),
    ]


def _send_kinds(end: Transport, peer: int) -> Side:
    buffers = _kinds()
    end.send(peer, numbered(1, buffers))
    end.send(peer, Outcomes(1, 1, [5], [], [], [None], {}, buffers=_kinds()[::-1]))
    end.send(peer, numbered(2))
    yield from drain(end)


def _receive_kinds(end: Transport, peer: int) -> Side:
    expected = [memoryview(buffer).tobytes() for buffer in _kinds()]
    message = yield from receive(end, peer)
    assert number_of(message) == 1
    assert [content(buffer) for buffer in message.buffers] == expected
    assert not any(memoryview(buffer).readonly for buffer in message.buffers)
    message = yield from receive(end, peer)
    assert message.ids == [5]
    assert [content(buffer) for buffer in message.buffers] == expected[::-1]
    assert number_of((yield from receive(end, peer))) == 2


def _send_mixed(end: Transport, peer: int) -> Side:
    for number in range(60):
        sizes = [SIZES[number % 3], SIZES[-1]] if number % 5 == 0 else []
        end.send(peer, numbered(number, [pattern(size) for size in sizes]))
    yield from drain(end)


def _receive_mixed(end: Transport, peer: int) -> Side:
    for number in range(60):
        message = yield from receive(end, peer)
        assert number_of(message) == number
        sizes = [SIZES[number % 3], SIZES[-1]] if number % 5 == 0 else []
        assert [memoryview(b).nbytes for b in message.buffers] == sizes
        for size, buffer in zip(sizes, message.buffers, strict=True):
            assert content(buffer) == pattern(size).tobytes()


def _long_frame(buffers: list[Any]) -> Batch:
    return Batch([(1, 0, 1, pattern(LONG_FRAME).tobytes(), 0)], buffers=buffers)


def _send_long_frames(end: Transport, peer: int) -> Side:
    end.send(peer, numbered(0))
    end.send(peer, _long_frame([]))
    end.send(peer, numbered(2))
    end.send(peer, _long_frame([pattern(70_000), b"", pattern(3)]))
    end.send(peer, numbered(4))
    yield from drain(end)


def _receive_long_frames(end: Transport, peer: int) -> Side:
    assert number_of((yield from receive(end, peer))) == 0
    message = yield from receive(end, peer)
    assert message.calls == _long_frame([]).calls
    assert not message.buffers
    assert number_of((yield from receive(end, peer))) == 2
    message = yield from receive(end, peer)
    assert message.calls == _long_frame([]).calls
    sizes = [memoryview(buffer).nbytes for buffer in message.buffers]
    assert sizes == [70_000, 0, 3]
    assert content(message.buffers[0]) == pattern(70_000).tobytes()
    assert number_of((yield from receive(end, peer))) == 4


def _send_many_buffers(end: Transport, peer: int) -> Side:
    sizes = [SIZES[number % 4] for number in range(MANY_BUFFERS)]
    end.send(peer, numbered(1, [pattern(size) for size in sizes]))
    end.send(peer, numbered(2))
    yield from drain(end)


def _receive_many_buffers(end: Transport, peer: int) -> Side:
    message = yield from receive(end, peer)
    assert number_of(message) == 1
    assert len(message.buffers) == MANY_BUFFERS
    expected = [pattern(size).tobytes() for size in SIZES[:4]]
    for number, buffer in enumerate(message.buffers):
        assert content(buffer) == expected[number % 4]
    assert number_of((yield from receive(end, peer))) == 2


def _woken(end: Transport, peer: int) -> Side:
    end.wake()
    end.doze(3600.0)  # it was woken before
    for pause in (end.doze, end.wait):
        sleeper = threading.Thread(target=pause, args=(3600.0,), daemon=True)
        sleeper.start()
        end.wake()
        sleeper.join(120.0)
        assert not sleeper.is_alive()
    nothing(end)  # to wake oneself is no message
    end.send(peer, numbered(1))
    assert number_of((yield from receive(end, peer))) == 2
    end.send(peer, numbered(3))
    yield from drain(end)


def _dozing(end: Transport, peer: int) -> Side:
    assert number_of((yield from receive(end, peer))) == 1
    end.send(peer, numbered(2))
    yield
    while (arrived := end.poll()) is None:
        end.doze(3600.0)
    source, message = arrived
    assert (source, number_of(message)) == (peer, 3)
    yield from drain(end)


CHECKS: list[Check] = [
    Check("nothing is there until it is sent", _silent_first, _silent_second),
    Check("each kind of message, to the worker", _send_each, _receive_each),
    Check("each kind of message, to the master", _receive_each, _send_each),
    *_twice("many messages in order", _send_many, _receive_many),
    *_twice("short frames and longer ones", _send_by_turns, _receive_by_turns),
    Check("both send at once", _both_at_once, _both_at_once),
    Check("back and forth", _ping, _pong),
    *[
        check
        for size in SIZES
        for check in _twice(
            f"a buffer of {size} bytes, writable and nobody else's",
            _buffer_sender(size),
            _buffer_receiver(size),
        )
    ],
    *_twice("buffers of any kind", _send_kinds, _receive_kinds),
    *_twice("small messages behind large ones", _send_mixed, _receive_mixed),
    *_twice("long frames", _send_long_frames, _receive_long_frames),
    *_twice("a message of many buffers", _send_many_buffers, _receive_many_buffers),
    *_twice("a sleep ends when woken or by a message", _woken, _dozing),
]
