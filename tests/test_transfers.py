"""Large transfers in flight: MPI is asked about the first of each line alone."""

from __future__ import annotations

from collections import deque
from typing import Any

from mpitasks.wire.transfers import AT_ONCE, Sends, take_done


class Request:
    """Counts how often all requests were asked; is done once that is said."""

    asked = 0

    def __init__(self, *, done: bool = False) -> None:
        self.done = done

    def Test(self) -> bool:
        Request.asked += 1
        return self.done


def requests(count: int) -> Any:
    Request.asked = 0
    return deque(Request() for _ in range(count))


def test_the_work_grows_with_the_number_of_transfers_not_with_its_square() -> None:
    line = requests(10_000)
    for request in [*line]:
        assert not take_done(line)
        request.done = True
        assert take_done(line)
    assert not line
    assert Request.asked <= 4 * 10_000


def test_sends_are_asked_about_as_rarely() -> None:
    flying, sends = requests(10_000), Sends()
    buffers = [bytearray(1) for _ in flying]
    for request, buffer in zip(flying, buffers, strict=True):
        sends.add(1, request, buffer)
    for request, buffer in zip(flying, buffers, strict=True):
        assert not sends.reap()
        assert sends.any_of([buffer])
        request.done = True
        assert sends.reap()
        assert not sends.any_of([buffer])
    assert not sends
    assert Request.asked <= 4 * 10_000


def test_a_look_ends_though_more_is_done() -> None:
    line = requests(3 * AT_ONCE)
    for request in line:
        request.done = True
    assert take_done(line)
    assert len(line) == 2 * AT_ONCE


def test_it_looks_several_times_for_what_is_not_done() -> None:
    line = requests(2)
    assert not take_done(line, looks=8)
    assert Request.asked == 8


def test_a_rank_that_does_not_receive_holds_up_nobody() -> None:
    unresponsive, *others = requests(3)
    sends = Sends()
    buffers = [bytearray(1) for _ in range(3)]
    for rank, request in enumerate((unresponsive, *others)):
        sends.add(rank, request, buffers[rank])
    for request in others:
        request.done = True
    assert sends.reap()
    assert sends.any_of(buffers[:1])
    assert not sends.any_of(buffers[1:])


def test_memory_that_is_sent_twice_is_on_its_way_until_both_are_gone() -> None:
    first, second = requests(2)
    sends, buffer = Sends(), bytearray(1)
    sends.add(1, first, buffer)
    sends.add(2, second, buffer)
    first.done = True
    assert sends.reap()
    assert sends.any_of([buffer])
    second.done = True
    assert sends.reap()
    assert not sends.any_of([buffer])


def test_what_goes_to_one_rank_is_taken_out() -> None:
    flying, sends = requests(3), Sends()
    buffers = [bytearray(1) for _ in flying]
    for request, buffer, rank in zip(flying, buffers, (1, 2, 1), strict=True):
        sends.add(rank, request, buffer)
    taken = sends.take(1)
    assert [memory for _, memory in taken] == [buffers[0], buffers[2]]
    assert not sends.any_of(taken)
    assert sends.any_of([buffers[1]])
    assert sends.take(7) == []


def test_after_a_death_all_are_looked_at() -> None:
    flying, sends = requests(3), Sends()
    buffers = [bytearray(1) for _ in flying]
    for request, buffer in zip(flying, buffers, strict=True):
        sends.add(1, request, buffer)
    flying[1].done = True
    sends.sift(lambda request: request.Test())
    assert [sends.any_of([buffer]) for buffer in buffers] == [True, False, True]
