"""Messages become frames and come back; damaged frames are an error."""

from __future__ import annotations

import pickle
import typing
from typing import Any

import numpy as np
import pytest

from mpitasks.errors import TransportError
from mpitasks.scheduler import events
from mpitasks.wire import messages
from mpitasks.wire.messages import (
    CALL_PLAIN,
    PLAIN,
    Announcement,
    Answered,
    Awaited,
    Batch,
    Called,
    Cancel,
    EndMoved,
    Fetch,
    Fetched,
    Goodbye,
    Heartbeat,
    Hello,
    HolderGone,
    Logged,
    Lost,
    Message,
    Opening,
    Outcomes,
    Overhead,
    PeerFailure,
    Ping,
    Release,
    Request,
    Result,
    Returned,
    Shutdown,
    Welcome,
    announce,
    pack,
    unpack,
)

ONE_OF_EACH: list[Message] = [
    Hello(3, "node7", 4711, [0, 1], "3.12.1", "0.1.0", "MPICH 5", "vm 1"),
    Welcome(8, True, "a"),
    Welcome(8, True, "a", 4711),
    Batch([(1, 2, messages.CALL_PLAIN, (1, "a"), 0)], [(2, b"frame", 0)], [9]),
    Batch([], task_spec={3: ("fit", 2, 1.5, False, None)}),
    Request((1, 2, messages.CALL_PLAIN, (1, "a"), 0)),
    Result(3, 1, 2, 0.5, 0, messages.PLAIN, "x"),
    Cancel([3, 4]),
    Shutdown(),
    Shutdown(degraded=True),
    Outcomes(
        3, 1, [1, 2], [2], [(2, 2, 0.5, 1)], [None, b"x"], {1: (messages.VALUE, 0)}
    ),
    Returned(3, [4, 5], (2, 7)),
    Returned(3, [], None),
    Goodbye(),
    Ping(),
    Heartbeat(),
    Lost(),
    PeerFailure(3, "died"),
    Batch([], places={3: 2, 5: (7, (0, 1), 4), 9: (7, (0, 1), [4, 6])}),
    Outcomes(3, 1, [1], [], [(2, 1, 0.5, 0)], ["x"], {}, [1]),
    Opening([(4, (0,), 2**100)]),
    Opening([], ({"": 30, "app": 10}, ["off"], 0, True)),
    Logged([b"record"]),
    EndMoved(3600.0, 60.0),
    Release([3, 5]),
    HolderGone(3, "rank 3 died"),
    Fetch(2, 5),
    Fetched(5, is_there=False),
    Overhead(0.5, 0.25, {1: 1000, 3: 80}),
    Called(2, 1, 7, False, "add", CALL_PLAIN, (1,), None, "label"),
    Answered(1, PLAIN, 5),
    Awaited(2, 1, 7, [8, 9]),
]


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda m: type(m).__name__)
def test_a_message_arrives_equal(message: Message) -> None:
    frame, buffers = pack(message)
    again, sizes = unpack(frame)
    assert type(again) is type(message)
    assert again == message
    assert again is not message
    assert list(sizes) == list(buffers) == []


def test_there_is_one_of_each() -> None:
    kinds = {type(message) for message in ONE_OF_EACH}
    assert kinds == set(typing.get_args(messages.Message)) - {Announcement}


@pytest.mark.parametrize(
    "message",
    [Batch([]), Outcomes(0, 0, [], [], [], [], {})],
    ids=["Batch", "Outcomes"],
)
def test_buffers_stay_outside_and_their_sizes_are_told(message: Any) -> None:
    source = [b"abc", bytearray(5), memoryview(b""), np.zeros((2, 3))]
    message.buffers = source
    frame, buffers = pack(message)
    again, sizes = unpack(frame)
    assert [id(buffer) for buffer in buffers] == [id(buffer) for buffer in source]
    assert list(sizes) == [3, 5, 0, 48]
    assert again is not None
    assert list(again.buffers) == []  # type: ignore[union-attr]


def test_two_messages_that_arrived_share_no_list() -> None:
    frame, _ = pack(Outcomes(0, 0, [], [], [], [], {}))
    first, second = unpack(frame)[0], unpack(frame)[0]
    assert isinstance(first, Outcomes)
    assert isinstance(second, Outcomes)
    first.buffers.append(b"x")
    first.ids.append(1)
    assert (second.buffers, second.ids) == ([], [])


def test_a_frame_can_be_any_buffer() -> None:
    frame, _ = pack(Welcome(2, False, "a"))
    for shape in (bytes, bytearray, memoryview):
        assert unpack(shape(frame))[0] == Welcome(2, False, "a")


def test_an_announcement_tells_the_sizes() -> None:
    (frame,) = announce([b"x" * 17, bytearray(3)])
    assert unpack(frame) == (Announcement(False), [17, 3])


def test_many_sizes_are_announced_in_several_frames() -> None:
    buffers = [bytes(n % 7) for n in range(1000)]
    frames = announce(buffers)
    unpacked = [unpack(frame) for frame in frames]
    assert [m for m, _ in unpacked] == [Announcement(True)] * 7 + [Announcement(False)]
    assert [n for _, sizes in unpacked for n in sizes] == [len(b) for b in buffers]


def test_what_stands_behind_a_frame_is_ignored() -> None:
    frame, _ = pack(Goodbye())
    assert unpack(frame + b"the frame before was longer") == (Goodbye(), ())


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"nonsense",
        pack(Shutdown())[0][:-1],
        pickle.dumps(None),
        pickle.dumps(()),
        pickle.dumps((99, ())),
        pickle.dumps((1, ())),
        pickle.dumps((1, (), *range(9))),
        pickle.dumps(("x", ())),
        b"cnowhere\nnothing\n.",
    ],
)
def test_a_damaged_frame_is_an_error(frame: bytes) -> None:
    with pytest.raises(TransportError, match="a damaged message arrived") as caught:
        unpack(frame)
    assert caught.value.__cause__ is not None


def test_codes_are_distinct() -> None:
    calls = ["CALL_PLAIN", "CALL", "MAP_PLAIN", "STARMAP_PLAIN", "MAP", "STARMAP"]
    forms = ["PLAIN", "VALUE", "ERROR", "LIST", "ITEMS"]
    for names in (calls, forms):
        assert len({getattr(messages, name) for name in names}) == len(names)


def test_messages_are_no_events() -> None:
    names = {kind.__name__ for kind in typing.get_args(messages.Message)}
    others = {kind.__name__ for kind in typing.get_args(events.Event)}
    assert not names & others
