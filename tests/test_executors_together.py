"""Several Executors at a time: what each may rely on, whatever the others do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from hands import Hands
from mpitasks.api.executor import Executor
from mpitasks.errors import ExecutorClosedError, JournalError
from mpitasks.wire import codec
from mpitasks.wire.messages import INITIALIZER, LIST, MAP_PLAIN, Batch, Outcomes

SECONDS = 30.0


@pytest.fixture
def hands() -> Iterator[Hands]:
    hands = Hands(2)
    yield hands
    hands.close()


def work_off(hands: Hands, calls: dict[int, Any]) -> None:
    """Answer all calls that workers have with their first argument."""
    for rank in (1, 2):
        for batch in hands.batches(rank):
            for call in batch.calls:
                calls[call[0]] = call
                hands.reply(rank, call, 7, batches=int(call is batch.calls[-1]))


def test_each_shutdown_waits_for_its_own_calls(hands: Hands) -> None:
    first, second = Executor(), Executor()
    slow, other = first.submit(abs, -1), second.submit(abs, -2)
    held = {r: hands.calls(r) for r in (1, 2)}
    (rank,) = [r for r in (1, 2) if held[r][0][3] == (-2,)]
    hands.reply(rank, held[rank][0], 2)
    second.shutdown()
    assert other.result(0) == 2
    assert not slow.done()
    with pytest.raises(ExecutorClosedError):
        second.submit(abs, 1)
    last = first.submit(abs, -3)
    hands.event_loop.nudge()
    (call,) = hands.calls(rank)
    hands.reply(rank, call, 3)
    assert last.result(0) == 3
    hands.reply(3 - rank, held[3 - rank][0], 1)
    first.shutdown()


def test_a_shutdown_cancels_its_own_calls(hands: Hands) -> None:
    first, second = Executor(), Executor()
    mine = [first.submit(abs, -n) for n in range(10)]
    theirs = [second.submit(abs, -n) for n in range(10)]
    items = second.map(abs, range(20))
    kept = first.map(abs, range(20))
    second.shutdown(wait=False, cancel_futures=True)
    assert not any(future.cancelled() for future in mine)
    assert all(future.cancelled() for future in theirs)
    for _ in range(100):
        if not hands.event_loop.outstanding:
            break
        for rank in (1, 2):
            for batch in hands.batches(rank):
                for call in batch.calls:
                    chunk = call[2] == MAP_PLAIN
                    value = list(codec.decode(call[3])) if chunk else 7
                    last = call is batch.calls[-1]
                    hands.reply(rank, call, value, batches=int(last))
    assert [future.result(0) for future in mine] == [7] * 10
    assert list(kept) == list(range(20))
    with pytest.raises(CancelledError):
        next(items)


def test_ids_do_not_depend_on_the_calls_of_others(hands: Hands) -> None:
    first = Executor(seed=3)
    second = Executor(seed=4)
    ids = [next(first._handle.ids) for _ in range(3)]
    others = [next(second._handle.ids) for _ in range(2)]
    origins = [executor._handle.origin for executor in (first, second)]
    assert None not in origins
    places = [origins[0].place(id) for id in ids]  # type: ignore[union-attr]
    assert places == [(3, (0, 0)), (3, (0, 1)), (3, (0, 2))]
    places = [origins[1].place(id) for id in others]  # type: ignore[union-attr]
    assert places == [(4, (0, 0)), (4, (0, 1))]
    assert min(others) > max(ids)


def test_workers_know_the_origins_of_all(hands: Hands) -> None:
    executors = [Executor(seed=n) for n in range(3)]
    futures = [executor.submit(abs, 1) for executor in (*executors, *executors)]
    calls: dict[int, Any] = {}
    for _ in range(20):
        work_off(hands, calls)
    assert all(future.done() for future in futures)
    for opening in hands.openings.values():
        assert [origin[2] for origin in opening.origins] == [0, 1, 2]


def test_when_all_are_closed_the_next_has_small_steps_again(hands: Hands) -> None:
    first, second = Executor(), Executor()
    first.shutdown()
    second.shutdown()
    third = Executor()
    before, after = next(second._handle.ids), next(third._handle.ids)
    assert before < after < before + 10


def test_they_use_as_many_workers_as_one_of_them_wants(hands: Hands) -> None:
    one = Executor(max_workers=1)
    assert one.num_workers == 1
    both = Executor()
    assert both.num_workers == 2
    both.shutdown()
    assert one.num_workers == 1
    one.shutdown()
    assert Executor().num_workers == 2


def initialize(*args: Any) -> None:
    """Is never called here."""


def test_each_has_its_own_initializer(hands: Hands) -> None:
    executors = [
        Executor(),
        Executor(initializer=initialize, initargs=(1,)),
        Executor(initializer=initialize, initargs=(2,)),
    ]
    needs = []
    for executor in (*executors, *executors):
        future = executor.submit(abs, -5)
        (rank,) = [r for r in (1, 2) if hands.event_loop.held(r)]
        for message in hands.messages(rank):
            assert isinstance(message, Batch) or needs
            if isinstance(message, Batch):
                told = {each[0]: each for each in message.functions}
                (call,) = message.calls
                frames = [
                    told[need][2]
                    for need in (told[call[1]][5] if call[1] in told else ())
                    if told.get(need, (0, ""))[1] == INITIALIZER
                ]
                needs.append(frames)
            else:
                call = message.call  # type: ignore[union-attr]
        hands.reply(rank, call, 5)
        assert future.result(SECONDS) == 5
    assert needs[0] == []
    assert len(needs[1]) == len(needs[2]) == 1
    assert needs[1] != needs[2]


def test_each_has_its_own_journal(hands: Hands, tmp_path: Path) -> None:
    first = Executor(journal=tmp_path / "one.db")
    second = Executor(journal=tmp_path / "two.db")
    futures = [ex.submit(abs, n) for n in (1, 2) for ex in (first, second)]
    calls: dict[int, Any] = {}
    while not all(future.done() for future in futures):
        work_off(hands, calls)
    first.shutdown()
    with pytest.raises(JournalError, match="open in this process"):
        Executor(journal=tmp_path / "two.db")
    second.shutdown()
    again = Executor(journal=tmp_path / "two.db")
    assert [again.submit(abs, n).result(0) for n in (1, 2)] == [7, 7]
    again.shutdown()


def test_the_journal_of_one_that_was_dropped_is_closed(
    hands: Hands, tmp_path: Path
) -> None:
    kept = Executor()
    Executor(journal=tmp_path / "run.db")
    again = Executor(journal=tmp_path / "run.db")
    again.shutdown()
    kept.shutdown()


def test_keys_of_one_journal_know_whose_initializer_it_is(
    hands: Hands, tmp_path: Path
) -> None:
    """As with the run's own journal, which all Executors share."""
    path = tmp_path / "run.db"
    first = Executor(journal=path, initializer=initialize, initargs=(1,))
    journal = first._handle.journal
    second = Executor(initializer=initialize, initargs=(2,))
    assert journal is not None
    handle = second._handle
    handle.journal = journal
    handle.keyed_by = journal.attach(hands.event_loop, initialize, (2,))
    futures = [ex.submit(abs, 1) for ex in (first, second, first)]
    calls: dict[int, Any] = {}
    while not all(future.done() for future in futures):
        work_off(hands, calls)
    entries = [future.entry.key for future in futures]
    assert entries[0] != entries[1]
    handle.journal = None
    second.shutdown()
    first.shutdown()


def test_a_map_that_a_finalizer_ends_in_a_poll_has_its_items_until_it_is_over(
    hands: Hands,
) -> None:
    """What is closed in the middle of a poll is cancelled after it."""
    executor = Executor(chunksize=1)
    results = executor.map(abs, [-n for n in range(10_000)])
    all_sent = [(rank, call) for rank in (1, 2) for call in hands.calls(rank)]
    [(rank, first)] = [each for each in all_sent if codec.decode(each[1][3]) == [0]]
    hands.reply(rank, first, [0])
    assert next(results) == 0
    loop = hands.event_loop
    held = hands.batches(rank)[0].calls
    loop._holder = threading.get_ident()  # as if the collector ran in a poll
    results.close()
    loop._holder = 0
    ids = [call[0] for call in held]
    values = [codec.encode_plain([0]) for _ in held]
    forms = dict.fromkeys(range(len(held)), (LIST, 0))
    costs = [(held[0][1], len(held), 1e-5, 0)]
    loop.engine.take(Outcomes(rank, 1, ids, [], costs, values, forms))  # it goes on
    sent = hands.calls(rank)
    assert [len(list(codec.decode(call[3]))) for call in sent] == [1] * len(sent)
    loop._run_callbacks()
    assert loop.outstanding == len(loop.held(1)) + len(loop.held(2))
