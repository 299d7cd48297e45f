"""A bulk job: items in, chunks out, results back in order."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest

from mpitasks.errors import SerializationError
from mpitasks.master.bulk_job import BulkJob
from mpitasks.master.functions import Functions
from mpitasks.master.job_results import JobResults
from mpitasks.options import DEFAULTS
from mpitasks.scheduler.backlog import Backlog
from mpitasks.scheduler.batching import take_run
from mpitasks.scheduler.events import BulkExtended, Task
from mpitasks.scheduler.policy import BATCH_BYTES, ReadyQueue
from mpitasks.wire import codec
from mpitasks.wire.codec import THRESHOLD, Unsendable
from mpitasks.wire.messages import MAP, MAP_PLAIN, STARMAP, STARMAP_PLAIN
from mpitasks.wire.outcomes import Failure


def make(source: Iterable[Any], *, star: bool = False, ordered: bool = True) -> BulkJob:
    """Return a job."""
    target = Functions().register(abs)
    return BulkJob(target, source, star=star, ordered=ordered, options=DEFAULTS)


def offer(job: BulkJob, limit: int | None = None) -> int:
    """Pull items and make them ready, as the event loop and the scheduler do."""
    count = job.pull(limit)
    queue = Backlog(itertools.count())
    queue.extend(BulkExtended(job.bulk, count, job.target.id, job.sizes(count)))
    return count


def carve(job: BulkJob, limit: int) -> Task:
    """Cut off a chunk, as the scheduler does."""
    queue = ReadyQueue()
    queue.add(job.bulk, job.bulk.ready)
    (chunk,) = take_run(queue, job.bulk, limit, itertools.count())
    job.items_of(chunk)
    return chunk


def split(chunk: Task, id: int, keep: int) -> Task:
    """Split a chunk, as the scheduler does."""
    rest = chunk.part(id, keep, chunk.count - keep)
    chunk.count = keep
    return rest


def test_all_items_are_pulled_at_once_or_some() -> None:
    job = make(range(10))
    assert offer(job, 3) == 3
    assert (job.pulled, job.unyielded, job.source.is_exhausted) == (3, 3, False)
    assert offer(job, None) == 7
    assert job.source.is_exhausted
    assert offer(job, None) == offer(job, 5) == 0
    assert job.pulled == 10


def test_a_source_is_at_its_end_when_it_gives_less_than_wanted() -> None:
    job = make(range(3))
    offer(job, 3)
    assert not job.source.is_exhausted
    assert offer(job, 3) == 0
    assert job.source.is_exhausted


def test_an_error_of_the_source_is_the_consumer_s() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("no more")

    job = make(source())
    with pytest.raises(OSError, match="no more"):
        job.pull(None)


def test_chunks_are_consecutive() -> None:
    job = make("abcdefghij")
    offer(job, 6)
    chunks = [carve(job, 2), carve(job, 3)]
    offer(job)
    chunks += [carve(job, 4), carve(job, 4)]
    assert [chunk.start for chunk in chunks] == [0, 2, 5, 9]
    assert [chunk.count for chunk in chunks] == [2, 3, 4, 1]
    assert [item for chunk in chunks for item in job.items_of(chunk)] == list(
        "abcdefghij"
    )
    assert {chunk.function for chunk in chunks} == {job.target.id}


def test_carved_items_are_let_go() -> None:
    job = make(iter(range(100)))
    offer(job)
    carve(job, 60)
    assert len(job._items) == 40
    carve(job, 40)
    assert job._items == []


def test_a_chunk_is_no_larger_than_a_message() -> None:
    large = np.zeros(BATCH_BYTES // 4 + 1, np.uint8)
    job = make([large] * 10)
    offer(job)
    assert carve(job, 10).count == 3


@pytest.mark.parametrize(
    "item",
    [b"x" * (2 * BATCH_BYTES), (1, b"x" * (2 * BATCH_BYTES)), "x" * (2 * BATCH_BYTES)],
    ids=["bytes", "tuple", "text"],
)
def test_an_item_larger_than_a_message_goes_alone(item: Any) -> None:
    job = make([item, item])
    offer(job)
    assert carve(job, 10).count == 1


def test_an_item_with_a_strange_size_counts_as_small() -> None:
    class Strange:
        nbytes = "many"

    job = make([Strange()] * 5)
    offer(job)
    assert carve(job, 5).count == 5


def test_sizes_are_of_the_last_items_whatever_is_sent_meanwhile() -> None:
    """Another thread cuts chunks off the front while the consuming thread looks."""

    class Shrinking(list[Any]):
        def __len__(self) -> int:
            before = super().__len__()
            del self[: before // 2]
            return before

    job = make(["x" * n for n in range(10)])
    job.pull(None)
    job._items = Shrinking(job._items)
    assert job.sizes(3) == [7, 8, 9]


# To the wire.


@pytest.mark.parametrize(
    ("items", "star", "mode"),
    [
        ([1, 2.0, "x"], False, MAP_PLAIN),
        ([(1, 2), (3, "x")], True, STARMAP_PLAIN),
    ],
)
def test_plain_items_are_one_frame(items: list[Any], mode: int, *, star: bool) -> None:
    job = make(items, star=star)
    offer(job)
    chunk = carve(job, 3)
    wire, _, buffers = job.encode(chunk)
    assert wire[:3] == (chunk.id, job.target.id, mode)
    assert codec.decode(wire[3]) == items
    assert (wire[4], buffers) == (0, [])


@pytest.mark.parametrize(("star", "mode"), [(False, MAP), (True, STARMAP)])
def test_other_items_are_frames_of_their_own(mode: int, *, star: bool) -> None:
    large = np.arange(float(THRESHOLD))
    items = [([1],), (large,), (large * 2, large * 3)]
    job = make(items, star=star)
    offer(job)
    wire, _, buffers = job.encode(carve(job, 3))
    assert wire[2] == mode
    assert [count for _, count in wire[3]] == [0, 1, 2]
    assert wire[4] == len(buffers) == 3
    assert codec.decode(wire[3][0][0]) == ([1],)
    last = codec.decode(wire[3][2][0], [bytearray(b) for b in buffers[1:]])
    assert np.array_equal(last[1], large * 3)


def test_an_item_that_cannot_be_pickled_takes_its_place_as_an_error() -> None:
    job = make([[1], threading.Lock(), [2]])
    offer(job, 1)
    carve(job, 1)
    offer(job)
    wire, _, _ = job.encode(carve(job, 2))
    stand_in = codec.decode(wire[3][0][0])
    assert type(stand_in) is Unsendable
    assert type(stand_in.error) is SerializationError
    assert str(stand_in.error).startswith("item 1 cannot be pickled")
    assert codec.decode(wire[3][1][0]) == [2]


# Results.


def _carved(job: BulkJob) -> list[Task]:
    offer(job)
    return [carve(job, 2) for _ in range(3)]


def test_ordered_results_wait_for_those_before_them() -> None:
    job = make(range(6))
    first, second, third = _carved(job)
    job.deliver(second.start, [2, 3], mixed=False)
    assert not job.results.has_news()
    job.deliver(first.start, [0, 1], mixed=False)
    assert job.results.has_news()
    assert job.results.take() == (0, [0, 1], False)
    assert job.results.take() == (2, [2, 3], False)
    assert not job.results.has_news()
    assert not job.exhausted
    assert job.unyielded == 2
    job.deliver(third.start, [4, Failure(OSError())], mixed=True)
    assert job.results.take()[2] is True
    assert job.exhausted


def test_unordered_results_come_as_they_are() -> None:
    job = make(range(6), ordered=False)
    first, second, third = _carved(job)
    starts = []
    for chunk in (third, first, second):
        job.deliver(chunk.start, list(job.items_of(chunk)), mixed=False)
        assert job.results.has_news()
        starts.append(job.results.take()[0])
    assert starts == [4, 0, 2]
    assert job.exhausted


def test_a_closed_job_keeps_nothing() -> None:
    job = make(range(6))
    first, second, _ = _carved(job)
    job.deliver(first.start, [0, 1], mixed=False)
    job.close()
    assert job.closed
    assert not job.results.has_news()
    job.deliver(second.start, [2, 3], mixed=False)
    assert not job.results.has_news()
    assert job.source.is_exhausted


def test_a_cancelled_job_is_abandoned_when_what_was_sent_is_back() -> None:
    job = make(range(6))
    offer(job)
    chunk = carve(job, 2)
    states = [job.abandoned]
    job.bulk.cancelled = True
    states.append(job.abandoned)
    job.deliver(chunk.start, [0, 1], mixed=False)
    states.append(job.abandoned)
    assert states == [False, False, True]
    assert job.settled()
    assert job.results.has_news()


def test_an_arrival_wakes_who_sleeps() -> None:
    job = make(range(6))
    job.deliver(_carved(job)[0].start, [0, 1], mixed=False)
    job.results.block(3600.0)  # or the test ends by its time-out
    job.results.block(0.0)


# Chunks that come back.


@pytest.mark.parametrize("items", ["abcdef", range(10, 16)])
def test_a_split_chunk_keeps_its_first_items(items: Any) -> None:
    job = make(items)
    offer(job)
    carve(job, 1)
    begun = carve(job, 5)
    rest = split(begun, 77, 2)
    assert (begun.id, begun.start, begun.count) == (0, 1, 2)
    assert (rest.id, rest.start, rest.count) == (77, 3, 3)
    assert list(job.items_of(begun)) == list(items[1:3])
    assert list(job.items_of(rest)) == list(items[3:6])
    assert type(job.items_of(rest)) is type(job._items)
    assert rest.payload is job
    assert (rest.function, rest.priority) == (begun.function, begun.priority)


def test_results_of_a_split_chunk_take_their_places() -> None:
    job = make(range(6))
    offer(job)
    begun = carve(job, 6)
    last = split(begun, 1, 4)
    middle = split(begun, 2, 1)
    job.deliver(last.start, [4, 5], mixed=False)
    assert not job.results.has_news()
    job.deliver(begun.start, [0], mixed=False)
    job.deliver(middle.start, [1, 2, 3], mixed=False)
    assert [job.results.take()[:2] for _ in range(3)] == [
        (0, [0]),
        (1, [1, 2, 3]),
        (4, [4, 5]),
    ]
    assert job.exhausted


def test_a_split_chunk_names_its_items_by_their_places_in_the_job() -> None:
    job = make([[1], [2], threading.Lock()])
    offer(job)
    rest = split(carve(job, 3), 1, 2)
    wire, _, _ = job.encode(rest)
    assert wire[0] == 1
    stand_in = codec.decode(wire[3][0][0])
    assert str(stand_in.error).startswith("item 2 cannot be pickled")


def test_a_job_is_abandoned_when_a_part_was_dropped_and_the_others_are_back() -> None:
    job = make(range(6))
    offer(job)
    begun = carve(job, 6)
    rest = split(begun, 1, 2)
    states = [job.abandoned]
    job.drop(rest)
    states.append(job.abandoned)
    job.deliver(begun.start, [0, 1], mixed=False)
    states.append(job.abandoned)
    assert states == [False, False, True]
    assert job.settled()
    assert job.results.take() == (0, [0, 1], False)
    assert job.settled()
    assert not job.results.has_news()
    assert not job.exhausted


def test_a_result_is_there_before_its_job_counts_as_abandoned() -> None:
    """Or the consumer, another thread, would raise CancelledError in its place."""
    job = make(range(6))
    offer(job)
    chunk = carve(job, 2)
    job.bulk.cancelled = True
    seen = []

    class Results(JobResults):
        def put(self, start: int, values: list[Any], *, mixed: bool) -> None:
            seen.append(job.abandoned)
            super().put(start, values, mixed=mixed)

    job.results = Results(ordered=True)
    job.deliver(chunk.start, [0, 1], mixed=False)
    assert seen == [False]
    assert job.abandoned


def test_a_finished_job_is_not_abandoned() -> None:
    job = make(range(6))
    for chunk in _carved(job):
        job.deliver(chunk.start, list(job.items_of(chunk)), mixed=False)
    assert not job.abandoned


def test_a_drop_wakes_who_sleeps() -> None:
    job = make(range(6))
    job.drop(_carved(job)[0])
    job.results.block(3600.0)  # or the test ends by its time-out
    job.results.block(0.0)


# What is kept of the items until they are done.


def kept(job: BulkJob) -> dict[int, list[Any]]:
    """Return the items that are at work, by the index of the first of each task."""
    return {start: list(items) for start, items in job._sent.items()}


@pytest.mark.parametrize("looked_at", [True, False], ids=["sent", "waiting"])
@pytest.mark.parametrize("first_ends_first", [True, False])
def test_items_are_let_go_when_they_are_done(
    *, looked_at: bool, first_ends_first: bool
) -> None:
    job = make(range(20, 30))
    offer(job)
    begun = carve(job, 6)
    rest = split(begun, 1, 2)
    if looked_at:
        assert list(job.items_of(rest)) == [22, 23, 24, 25]
    order = [(begun, [20, 21]), (rest, [22, 23, 24, 25])]
    for task, items in order if first_ends_first else reversed(order):
        assert list(job.release(task)) == items
    assert kept(job) == {}


def test_a_reported_part_is_let_go_and_the_others_are_not() -> None:
    job = make("abcdef")
    offer(job)
    chunk = carve(job, 6)
    first = chunk.part(chunk.id, 0, 2)
    chunk.start, chunk.count = 2, 4
    assert job.release(first) == ["a", "b"]
    rest = split(chunk, 7, 1)
    assert job.items_of(rest) == ["d", "e", "f"]
    assert kept(job) == {2: ["c"], 3: ["d", "e", "f"]}
    assert job.release(chunk) == ["c"]
    assert job.release(rest) == ["d", "e", "f"]
    assert kept(job) == {}


def test_an_item_is_kept_for_another_attempt() -> None:
    job = make("abc")
    offer(job)
    chunk = carve(job, 3)
    job.release(chunk)
    job.keep(1, "b")
    again = chunk.part(9, 1, 1)
    assert job.encode(again)[0][:1] == (9,)
    job.give(again, Failure(OSError()))
    assert kept(job) == {}
