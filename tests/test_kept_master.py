"""Kept results on rank 0: who holds them, when they are freed, how they come back."""

from __future__ import annotations

import concurrent.futures
import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hands import Hands
from mpitasks.api.executor import Executor
from mpitasks.errors import DataLost, WorkerLost
from mpitasks.master import kept_results
from mpitasks.master.lineage import LARGEST_BYTES, LONGEST_LINEAGE
from mpitasks.wire import codec
from mpitasks.wire.kept import Kept
from mpitasks.wire.local_transport import LocalTransport
from mpitasks.wire.messages import (
    CALL,
    CALL_PLAIN,
    ERROR,
    KEPT,
    SHARED,
    VALUE,
    Batch,
    Fetch,
    Fetched,
    HolderGone,
    Outcomes,
    Release,
    Request,
)
from mpitasks.wire.outcomes import encode_error
from mpitasks.wire.peer_memory import Guard, span_of

ARRAY = np.arange(20_000.0)
NBYTES = ARRAY.nbytes
GUARD = Guard()


class Run(Hands):
    """A run with workers that a test plays, which keep results."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers, near=range(workers + 1))
        self.others: dict[int, list[Any]] = {rank: [] for rank in self.ends}
        self.ex = Executor()
        self.keep = self.ex.with_options(keep=True)

    def sent(self) -> dict[int, list[Any]]:
        """Return the calls that each worker was sent since the last look."""
        self.turn()
        return {rank: self.calls(rank) for rank in self.ends}

    def turn(self) -> None:
        while self.event_loop.nudge():
            pass

    def one(self) -> tuple[int, Any]:
        """Return the only call that was sent, and to whom."""
        ((rank, call),) = [
            (r, call) for r, calls in self.sent().items() for call in calls
        ]
        return rank, call

    def keeps(self, rank: int, call: Any, origin: Any = None, batches: int = 1) -> None:
        """Have a worker keep what a call returned."""
        frame, buffers = codec.encode(ARRAY, "it")
        spans = tuple([span_of(buffer) for buffer in buffers])
        kept = Kept(call[0], rank, frame, spans, origin or GUARD.origin, ())
        costs = [(call[1], 1, 1e-5, 0)]
        report = Outcomes(rank, batches, [call[0]], [], costs, [kept], {0: (KEPT, 0)})
        self.say(rank, report)
        del report, kept
        self.turn()

    def raises(
        self, rank: int, call: Any, error: BaseException, batches: int = 1
    ) -> None:
        """Have a worker report that a call raised."""
        _, frame, _ = encode_error(error, "there")
        costs = [(call[1], 1, 1e-5, 0)]
        ids = [call[0]]
        self.say(
            rank, Outcomes(rank, batches, ids, ids, costs, [frame], {0: (ERROR, 0)})
        )
        self.turn()

    def messages(self, rank: int) -> list[Any]:
        """Return the calls of a worker; keep what it was told beside these."""
        messages = super().messages(rank)
        calls = [m for m in messages if type(m) in (Batch, Request)]
        self.others[rank] += [m for m in messages if type(m) not in (Batch, Request)]
        return calls

    def told(self, rank: int) -> list[Any]:
        """Return what a worker was sent beside calls, up to now."""
        gc.collect()
        self.turn()
        assert self.messages(rank) == []
        told, self.others[rank] = self.others[rank], []
        return told

    def make(self) -> tuple[Any, int, int]:
        """Return a future, the worker that keeps its result, and the other worker."""
        future = self.keep.submit(make, 1)
        rank, call = self.one()
        self.keeps(rank, call)
        return future, rank, 3 - rank

    def lose(self, rank: int) -> None:
        self.event_loop.lose(rank, f"rank {rank} died")
        self.turn()


def make(value: int) -> Any:
    return value


def use(*values: Any) -> Any:
    return values


def inputs(call: Any) -> list[Any]:
    """Return the inputs of a call: each form, and what stands there."""
    assert call[2] == CALL
    _, _, entries, _ = call[3]
    return [(form, payload) for form, payload, _ in entries]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setattr(LocalTransport, "survives", True)
    run = Run(2)
    yield run
    run.ex.shutdown(wait=False, cancel_futures=True)
    run.close()


def test_a_call_is_told_where_its_input_is(run: Run) -> None:
    kept, holder, _other = run.make()
    assert (kept.ranks, kept.nbytes > NBYTES) == ((0,), True)  # this very process
    user = run.ex.submit(use, kept, 3)
    rank, call = run.one()
    ((form, at),) = inputs(call)
    assert (rank, form, at.rank, at.is_last) == (holder, KEPT, holder, False)
    run.reply(rank, call, 5)
    assert user.result() == 5


def test_its_worker_lets_go_when_nothing_refers_to_it(run: Run) -> None:
    kept, holder, _other = run.make()
    id = kept._exception.lend()[1].at.id
    user = run.ex.submit(use, kept)
    rank, call = run.one()
    del kept
    assert run.told(holder) == []  # a call needs it
    run.reply(rank, call, 5)
    assert run.told(holder) == [Release([id])]
    assert not run.event_loop.keeps_results
    assert user.result() == 5


def test_fetching_keeps_it_as_well(run: Run) -> None:
    kept, holder, _other = run.make()
    value = kept.result()
    assert np.array_equal(value, ARRAY)
    value[:] = 0
    assert kept.result() is value
    assert (kept.nbytes > NBYTES, ARRAY[1], run.told(holder)) == (True, 1, [])
    del kept
    assert len(run.told(holder)) == 1


def test_what_cannot_be_read_here_is_asked_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    future = run.keep.submit(make, 1)
    rank, call = run.one()
    run.keeps(rank, call, GUARD.origin._replace(machine="elsewhere"))
    drive = run.event_loop.drive

    def answer(*args: Any) -> bool:
        monkeypatch.setattr(run.event_loop, "drive", drive)
        assert run.told(rank) == [Fetch(0, call[0])]
        frame, buffers = codec.encode(ARRAY, "it")
        run.ends[rank].send(0, Fetched(call[0], True, [frame, *buffers]))
        return drive(*args)

    monkeypatch.setattr(run.event_loop, "drive", answer)
    assert np.array_equal(future.result(), ARRAY)
    assert future.ranks == (rank,)


@pytest.mark.parametrize(
    ("options", "is_held", "is_last"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"retries": 1}, False, False),
        ({"isolate": True}, False, False),
    ],
)
def test_the_last_call_is_told_that_it_is(
    run: Run, options: dict[str, Any], *, is_held: bool, is_last: bool
) -> None:
    first = run.keep.submit(make, 1)
    users = [run.ex.with_options(**options).submit(use, first)]
    rank, call = run.one()
    held = [first] if is_held else []
    del first
    gc.collect()
    run.keeps(rank, call)
    to, user = run.one()
    ((_, at),) = inputs(user)
    assert (to, at.is_last) == (rank, is_last)
    run.reply(to, user, 1)
    assert [future.result() for future in users] == [1]
    assert len(held) == is_held


def test_two_calls_share_it_until_one_is_left(run: Run) -> None:
    first = run.keep.submit(make, 1)
    one, two = run.ex.submit(use, first), run.ex.submit(use, first)
    rank, call = run.one()
    del first
    run.keeps(rank, call)
    sent = [(r, each) for r, calls in run.sent().items() for each in calls]
    assert not any(inputs(each)[0][1].is_last for _, each in sent)
    while sent:
        run.reply(*sent.pop(), 1)
        sent += [(r, each) for r, calls in run.sent().items() for each in calls]
    assert (one.result(), two.result()) == (1, 1)
    assert len(run.told(rank)) == 1


def test_what_is_lost_is_made_again(run: Run) -> None:
    kept, holder, other = run.make()
    run.lose(holder)
    assert kept.ranks == ()
    user = run.ex.submit(use, kept)  # waits for it
    rank, call = run.one()
    assert (rank, call[2:4]) == (other, (CALL_PLAIN, (1,)))
    run.keeps(other, call, GUARD.origin._replace(machine="elsewhere"))
    rank, call = run.one()
    ((form, at),) = inputs(call)
    assert (rank, form, at.rank) == (other, KEPT, other)
    run.reply(other, call, 5)
    assert (user.result(), kept.ranks) == (5, (other,))
    assert run.event_loop.engine.lineage.recovered == 1


def test_a_loss_while_it_is_fetched(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, holder, other = run.make()
    reads = iter([lambda at: run.lose(holder), kept_results.read])
    monkeypatch.setattr(kept_results, "read", lambda at: next(reads)(at))
    drive = run.event_loop.drive

    def answer(done: Any, *args: Any) -> bool:
        if not done():
            (call,) = run.sent()[other]
            run.keeps(other, call)
        return done()

    monkeypatch.setattr(run.event_loop, "drive", answer)
    assert np.array_equal(kept.result(), ARRAY)
    monkeypatch.setattr(run.event_loop, "drive", drive)


def test_a_timeout_holds_while_it_is_made_again(run: Run) -> None:
    kept, holder, _ = run.make()
    run.lose(holder)
    assert kept.done()
    for ask in (kept.result, kept.exception):
        with pytest.raises(concurrent.futures.TimeoutError):
            ask(timeout=0)
    rank, call = run.one()
    run.keeps(rank, call)
    assert np.array_equal(kept.result(timeout=0), ARRAY)


def test_no_room_to_fetch_it_is_not_for_good(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(at: Kept) -> Any:
        raise MemoryError("no room")

    kept, _, _ = run.make()
    with monkeypatch.context() as patched:
        patched.setattr(kept_results, "read", no_room)
        for _ in range(2):
            with pytest.raises(MemoryError, match="no room"):
                kept.result()
    assert np.array_equal(kept.result(), ARRAY)


def test_bytes_are_counted_once_whatever_becomes_of_them(run: Run) -> None:
    run.event_loop.engine.kept.bound({1: ("a", None), 2: ("b", None)})
    used = run.event_loop.engine.kept._used
    first, holder, _ = run.make()
    host = "ab"[holder - 1]
    assert used[host] > NBYTES
    second = run.keep.submit(use, first)
    rank, call = run.one()
    assert rank == holder
    run.keeps(rank, call)
    del first
    run.told(holder)
    assert NBYTES < used[host] < 2 * NBYTES
    run.lose(holder)
    assert used[host] == 0
    for _ in range(2):
        rank, call = run.one()
        run.keeps(rank, call)
    assert used["ab"[rank - 1]] > NBYTES
    del second
    run.told(rank)
    assert set(used.values()) == {0}


def test_other_workers_hear_of_it(run: Run) -> None:
    kept, holder, other = run.make()
    run.lose(holder)
    rank, _ = run.one()
    assert rank == other
    assert run.told(other) == [HolderGone(holder, f"rank {holder} died")]
    del kept


def test_what_nobody_needed_any_more_is_made_again_as_well(run: Run) -> None:
    first, holder, other = run.make()
    second = run.keep.submit(use, first, first)
    rank, call = run.one()
    assert rank == holder
    run.keeps(holder, call)
    del first
    assert len(run.told(holder)) == 1
    run.lose(holder)
    rank, call = run.one()
    assert (rank, call[2:4]) == (other, (CALL_PLAIN, (1,)))  # the first
    run.keeps(other, call)
    rank, call = run.one()
    ((form, at),) = inputs(call)
    assert (form, at.rank, at.is_last) == (KEPT, other, True)
    run.keeps(other, call)
    assert np.array_equal(second.result(), ARRAY)
    assert run.event_loop.engine.lineage.recovered == 2
    assert len([m for m in run.told(other) if type(m) is Release]) == 1


def test_a_call_that_did_not_get_it_runs_again(run: Run) -> None:
    kept, holder, other = run.make()
    blocked = [run.ex.submit(use, n) for n in range(2)]
    blockers = run.sent()
    user = run.ex.submit(use, kept)  # waits for the holder
    assert run.sent() == {1: [], 2: []}
    run.lose(holder)  # and now it may go to the other one
    run.reply(other, blockers[other][0], 0)
    while not user.done():
        run.turn()
        calls = []
        for batch in run.batches(other):
            calls += [(call, 0) for call in batch.calls[:-1]]
            calls.append((batch.calls[-1], 1))
        assert calls, "it is forgotten"
        for call, ends in calls:
            if call[2] == CALL and inputs(call)[0][1].rank == holder:
                error = DataLost("the result of task 0 is lost")
                run.raises(other, call, error, batches=ends)
            elif call[3] == (1,) and kept.ranks == ():
                run.keeps(other, call, batches=ends)
            else:
                run.reply(other, call, 8, batches=ends)
    assert (user.result(), len(blocked)) == (8, 2)


def test_shared_objects_are_sent_along_again(run: Run) -> None:
    table = run.ex.share({"a": 1})
    kept = run.keep.submit(use, table)
    rank, call = run.one()
    run.keeps(rank, call)
    user = run.ex.submit(use, kept, table)
    del table
    assert run.one()[0] == rank
    other = 3 - rank
    run.lose(rank)
    learned: set[int] = set()
    while not user.done():
        run.turn()
        batches = run.batches(other)
        assert batches, "it is forgotten"
        for batch in batches:
            learned.update(told[0] for told in batch.functions)
            learned.difference_update(batch.forget)
            for call in batch.calls:
                shared = [at for form, at in inputs(call) if form == SHARED]
                assert learned.issuperset(shared)
                assert len(shared) == 1
                if len(inputs(call)) == 1:
                    run.keeps(other, call)
                elif inputs(call)[0][1].rank == rank:
                    run.raises(other, call, DataLost("it is lost"))
                else:
                    run.reply(other, call, 3)
    assert user.result() == 3


def test_an_input_that_is_missing_for_another_reason_is_not_waited_for(
    run: Run,
) -> None:
    kept, _holder, _other = run.make()
    user = run.ex.submit(use, kept)
    rank, call = run.one()
    run.raises(rank, call, DataLost("the kept result of task 0 is lost"))
    assert run.sent() == {1: [], 2: []}
    assert isinstance(user.exception(), DataLost)
    assert not kept.has_failed()


def test_if_it_fails_the_second_time_that_is_what_it_comes_to(run: Run) -> None:
    kept, holder, _other = run.make()
    run.lose(holder)
    user = run.ex.submit(use, kept)
    rank, call = run.one()
    run.raises(rank, call, ValueError("the file is gone"))
    assert isinstance(user.exception(), ValueError)
    with pytest.raises(ValueError, match="the file is gone"):
        kept.result()


def test_if_it_comes_to_a_small_value_that_counts(run: Run) -> None:
    kept, holder, _other = run.make()
    run.lose(holder)
    user = run.ex.submit(use, kept)
    rank, call = run.one()
    run.answer(rank, call, [1, 2], form=VALUE)
    rank, call = run.one()
    run.reply(rank, call, 9)
    assert (user.result(), kept.result()) == (9, [1, 2])


def test_large_arguments_are_not_remembered(run: Run) -> None:
    kept = run.keep.submit(make, b"x" * (LARGEST_BYTES + 1))
    rank, call = run.one()
    run.keeps(rank, call)
    run.lose(rank)
    user = run.ex.submit(use, kept)
    for future in (kept, user):
        error = future.exception()
        assert isinstance(error, DataLost)
        assert f"left on rank {rank} is lost: rank {rank} died" in str(error)
    assert run.sent()[3 - rank] == []


def test_a_long_lineage_is_given_up(run: Run) -> None:
    future, holder, other = run.make()
    held = []
    for length in range(2, LONGEST_LINEAGE + 2):
        future = run.keep.submit(use, future)
        rank, call = run.one()
        assert rank == holder
        run.keeps(holder, call)
        if length >= LONGEST_LINEAGE:
            held.append(future)
    run.lose(holder)
    assert isinstance(held[1].exception(), DataLost)
    rank, call = run.one()
    assert (rank, call[2:4]) == (other, (CALL_PLAIN, (1,)))  # the first of them all


def test_without_workers_all_ends(run: Run) -> None:
    kept, _, _ = run.make()
    for rank in (1, 2):
        run.lose(rank)
    assert isinstance(kept.exception(), WorkerLost)
    assert isinstance(run.ex.submit(use, kept).exception(), WorkerLost)


def test_a_run_that_ends_with_a_rank_remembers_no_calls() -> None:
    run = Run(2)
    try:
        kept, _, _ = run.make()
        assert kept._exception.lend()[1].recipe is None
    finally:
        run.ex.shutdown(wait=False, cancel_futures=True)
        run.close()


def test_memory_is_counted_by_host(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    rooms = {1: ("a", 2 * NBYTES), 2: ("a", 2 * NBYTES)}
    run.event_loop.engine.kept.bound(rooms)
    one, _, _ = run.make()
    two, _, _ = run.make()
    user = run.ex.submit(use, 0)  # something that runs, so that others wait
    rank, call = run.one()
    producer = run.keep.submit(make, 7)
    assert run.sent() == {1: [], 2: []}
    assert capsys.readouterr().err.count("--node-memory") == 1
    del two
    gc.collect()
    assert [c[3] for calls in run.sent().values() for c in calls] == [(7,)]
    run.reply(rank, call, 1)
    assert (user.result(), producer.done(), len(one.ranks)) == (1, False, 1)
    assert capsys.readouterr().err == ""
