"""How a bulk job is extended, and cut into chunks that fit into a message."""

from __future__ import annotations

from driver import LONG, SHORT, Driver, Recorder, only, positions
from mpitasks.scheduler.events import (
    Assign,
    BulkCancelled,
    BulkExtended,
    Cancelled,
    CancelRequested,
    Fail,
    QueueCancelled,
    WorkerJoined,
)
from mpitasks.scheduler.policy import BATCH_BYTES

FULL = BATCH_BYTES
QUARTER = BATCH_BYTES // 4


def _cut(driver: Driver, job: Recorder) -> list[int]:
    """Let a worker join and do all there is; return how many items each chunk had."""
    driver.learn(job.function, SHORT)
    driver.handle(WorkerJoined(0))
    while driver.batches[0]:
        driver.finish(0)
    assert driver.scheduler.outstanding == 0
    items = [item for chunk in job.chunks for item in positions(chunk)]
    assert items == list(range(job.next))
    assert not job.sizes
    return [chunk.count for chunk in job.chunks]


def _extended(*sizes: int, chunksize: int | None = 100) -> tuple[Driver, Recorder]:
    driver, job = Driver(), Recorder(chunksize=chunksize)
    driver.extend(job, len(sizes), sizes=sizes)
    return driver, job


# Sizes.


def test_a_chunk_is_as_large_as_a_message() -> None:
    assert _cut(*_extended(*[QUARTER] * 10)) == [4, 4, 2]


def test_a_chunk_is_not_larger_than_a_message() -> None:
    assert _cut(*_extended(*[QUARTER + 1] * 10)) == [3, 3, 3, 1]


def test_the_last_item_decides_as_the_first_does() -> None:
    assert _cut(*_extended(1, FULL - 1, 1, FULL, 1)) == [2, 1, 1, 1]


def test_an_item_larger_than_a_message_is_a_chunk() -> None:
    assert _cut(*_extended(3, 2 * FULL, 2 * FULL, 3, 3)) == [1, 1, 1, 2]


def test_a_chunk_of_small_items_is_as_long_as_wanted() -> None:
    assert _cut(*_extended(*[10] * 30, chunksize=7)) == [7, 7, 7, 7, 2]


def test_it_is_so_if_the_user_leaves_the_chunks_to_us() -> None:
    counts = _cut(*_extended(*[QUARTER] * 1000, chunksize=None))
    assert max(counts) == 4
    assert sum(counts) == 1000


def test_a_batch_of_chunks_is_not_larger_than_a_message() -> None:
    driver, job = Driver(), Recorder()
    driver.learn(0, SHORT)
    driver.extend(job, 1000, sizes=[QUARTER] * 1000)
    driver.handle(WorkerJoined(0))
    assert [[chunk.count for chunk in b] for b in driver.batches[0]] == [[4], [4]]


def test_sizes_that_come_later_are_those_of_the_later_items() -> None:
    driver, job = Driver(), Recorder(chunksize=100)
    driver.extend(job, 3)
    driver.extend(job, 5, sizes=[QUARTER * 2] * 5)
    assert list(job.sizes) == [0] * 3 + [QUARTER * 2] * 5
    assert _cut(driver, job) == [5, 2, 1]


def test_later_items_may_be_small() -> None:
    driver, job = Driver(), Recorder(chunksize=100)
    driver.extend(job, 3, sizes=[QUARTER * 2] * 3)
    driver.extend(job, 5)
    driver.extend(job, 2, sizes=[QUARTER, QUARTER + 1])
    assert list(job.sizes) == [QUARTER * 2] * 3 + [0] * 5 + [QUARTER, QUARTER + 1]
    assert _cut(driver, job) == [2, 7, 1]


def test_items_that_are_all_small_have_no_sizes() -> None:
    driver, job = Driver(), Recorder(chunksize=100)
    driver.extend(job, 3)
    driver.extend(job, 5)
    assert not job.sizes
    assert _cut(driver, job) == [8]


def test_sizes_are_forgotten_as_chunks_are_cut() -> None:
    driver, job = _extended(QUARTER, QUARTER, FULL, 7)
    driver.handle(WorkerJoined(0))
    assert list(job.sizes) == [FULL, 7]
    assert (job.next, job.ready) == (2, 2)
    driver.finish(0)
    driver.finish(0)
    assert not job.sizes
    driver.extend(job, 1)
    assert not job.sizes


def test_a_cancelled_job_forgets_its_sizes() -> None:
    driver, job = _extended(FULL, FULL, FULL)
    driver.handle(WorkerJoined(0))
    driver.handle(BulkCancelled(job))
    assert not job.sizes
    driver.extend(job, 2, sizes=[1, 2])
    assert not job.sizes
    assert (job.next, job.ready) == (1, 0)
    assert driver.scheduler.statistics().cancelled == 2


def test_so_does_one_that_is_cancelled_with_the_queue() -> None:
    driver, job = _extended(FULL, FULL, FULL)
    assert driver.handle(QueueCancelled()) == []
    assert not job.sizes
    assert driver.scheduler.statistics().cancelled == 3


def test_a_job_is_lost_in_chunks_of_a_message() -> None:
    driver = Driver(workers=1)
    driver.lose(0)
    job = Recorder()
    assert driver.extend(job, 3, sizes=[FULL] * 3) == [Fail(job.chunks, None)]
    assert [chunk.count for chunk in job.chunks] == [1, 1, 1]


def test_what_is_given_back_is_not_cut_again() -> None:
    driver, job = _extended(*[QUARTER] * 8)
    driver.learn(0, SHORT)
    driver.handle(WorkerJoined(0))
    assert [chunk.count for chunk in job.chunks] == [4, 4]
    driver.give_back(0, keep=1)
    rest = job.chunks[2]
    assert positions(rest) == range(1, 4)
    assert driver.handle(CancelRequested([rest])) == [Cancelled([rest])]
    assert driver.scheduler.statistics().cancelled == 3


# Functions.


def test_a_job_may_call_another_function_from_now_on() -> None:
    driver = Driver(workers=1)
    job = Recorder(3, chunksize=2)
    driver.extend(job, 4)
    driver.extend(job, 1, function=5)
    driver.extend(job, 1)
    while driver.batches[0]:
        driver.finish(0)
    assert job.function == 5
    assert [(chunk.function, chunk.count) for chunk in job.chunks] == [
        (3, 2),
        (5, 2),
        (5, 2),
    ]


def test_the_function_0_is_one() -> None:
    driver = Driver()
    job = Recorder(3)
    driver.extend(job, 1, function=0)
    assert job.function == 0


def test_a_chunk_keeps_its_function() -> None:
    driver = Driver(workers=1)
    job = Recorder(3, chunksize=4)
    driver.extend(job, 4)
    driver.extend(job, 1, function=5)
    driver.give_back(0, keep=1)
    assert [chunk.function for chunk in job.chunks] == [3, 3]


def test_an_extension_by_nothing_changes_no_function() -> None:
    driver = Driver()
    job = Recorder(3)
    driver.extend(job, 0, function=5)
    assert job.function == 3
    driver.extend(job, 1)
    driver.handle(BulkCancelled(job))
    driver.handle(BulkExtended(job, 1, 5))
    assert job.function == 3


# Positions.


def test_chunks_follow_each_other() -> None:
    driver = Driver(workers=2)
    job = Recorder(chunksize=3)
    driver.extend(job, 5)
    driver.extend(job, 4)
    ranges = [positions(chunk) for chunk in job.chunks]
    assert ranges == [range(3), range(3, 5)]
    assert (job.next, job.ready) == (5, 4)
    (send,) = only(Assign, driver.finish(0, seconds=LONG))
    assert [positions(chunk) for chunk in send.tasks] == [range(5, 8)]
    (send,) = only(Assign, driver.finish(1, seconds=LONG))
    assert [positions(chunk) for chunk in send.tasks] == [range(8, 9)]
