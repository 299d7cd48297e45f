"""The worker's loop around isolated tasks: it stays responsive, and obeys."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import misbehaving
from misbehaving import Squares, identity
from mpitasks.errors import SerializationError, TaskCrashed, TaskTimeout
from mpitasks.task_spec import TaskSpec
from mpitasks.wire import codec
from mpitasks.wire.messages import (
    MAP_PLAIN,
    Cancel,
    Heartbeat,
    Outcomes,
    Ping,
    Returned,
    Shutdown,
)
from sandboxes import nothing_left
from working import Running, plain

ISOLATED = TaskSpec("fit", 2, isolate=True)


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A master whose worker runs in a thread; nothing is left of it."""
    # However busy the machine: nothing is given back because a child takes long.
    monkeypatch.setattr("mpitasks.worker.isolation.LOADING_SECONDS", 60.0)
    with nothing_left():
        master = Running()
        yield master
        if master.thread.is_alive():  # after a failure
            master.end.send(1, Cancel(list(range(1000))))
            master.end.send(1, Shutdown())
            master.thread.join(120.0)


def chunk(task_id: int, function: Any, items: Any) -> Any:
    """Return a chunk of plain items."""
    return task_id, function, MAP_PLAIN, codec.encode_plain(items), []


def test_calls_of_both_kinds_in_one_batch(master: Running) -> None:
    own = os.getpid()
    calls = [plain(n, misbehaving.pid) for n in range(6)]
    master.send(plain(9, identity, 1), task_spec={9: ISOLATED})
    master.receive(Outcomes)
    master.send(*calls, task_spec={1: ISOLATED, 4: ISOLATED})
    pids = master.finish()
    assert {pids[n] for n in (0, 2, 3, 5)} == {own}
    assert pids[1] == pids[4] != own


def test_a_crash_costs_one_call(master: Running) -> None:
    calls = [
        plain(0, identity, 1),
        plain(1, misbehaving.leave, 3),
        plain(2, identity, 2),
        chunk(3, Squares(x1="segfault", x2="raise"), range(5)),
    ]
    for call in calls:  # one after the other: what waits long is given back
        master.send(call, task_spec={call[0]: ISOLATED})
        master.receive(Outcomes)
    outcomes = master.finish()
    assert (outcomes[0], outcomes[2]) == (1, 2)
    error = outcomes[1].error
    assert isinstance(error, TaskCrashed)
    assert (error.exit_code, error.label, error.rank) == (3, "fit", 1)
    values = outcomes[3]
    # On a machine so busy that a new child takes long, the rest is given back.
    splits = [back.split[1] for back in master.returned if back.split is not None]
    assert len(values) == 5 or splits
    for x, value in enumerate(values):
        if x in (1, 2):
            assert isinstance(value.error, (TaskCrashed, ValueError)[x - 1])
        else:
            assert value == x * x


def warm(master: Running, task_id: int = 999) -> None:
    """Have a child ready, so that nothing is given back for want of one."""
    master.send(plain(task_id, identity, 0), task_spec={task_id: ISOLATED})
    master.receive(Outcomes)


def test_calls_that_run_together_are_tasks_of_their_own(master: Running) -> None:
    warm(master)
    task = Squares(x3="segfault", x5="raise", x20="exit")
    calls = [plain(n, task, n) for n in range(150)]
    calls[7] = plain(7, identity, "other")
    master.send(*calls, task_spec=dict.fromkeys(range(150), ISOLATED))
    outcomes = master.finish()
    back = {n for returned in master.returned for n in returned.ids}
    assert outcomes.keys() | back == {*range(150), 999}
    assert not outcomes.keys() & back
    for n in range(150):
        if n in (3, 20):
            assert n in back or isinstance(outcomes[n].error, TaskCrashed)
        elif n == 5:
            assert n in back or isinstance(outcomes[n].error, ValueError)
        else:
            assert n in back or outcomes[n] == ("other" if n == 7 else n * n)
    assert sum(items for reply in master.replies for _, items, *_ in reply.costs) == (
        len(outcomes)
    )


def test_calls_that_run_together_know_themselves(master: Running) -> None:
    warm(master)
    calls = [plain(n, misbehaving.who) for n in range(5)]
    master.send(*calls, task_spec=dict.fromkeys(range(5), ISOLATED))
    outcomes = master.finish()
    back = {n for returned in master.returned for n in returned.ids}
    for n in range(5):
        assert n in back or outcomes[n] == (n, 2, "fit", 1)
    assert 0 not in back


def test_results_do_not_wait_for_a_call_that_hangs(master: Running) -> None:
    warm(master)
    calls = [plain(n, Squares(x2="hang"), n) for n in range(6)]
    master.send(*calls, task_spec=dict.fromkeys(range(6), ISOLATED))
    there: list[int] = []
    while len(there) < 2:
        there += master.receive(Outcomes).ids
    assert there == [0, 1]
    assert master.receive(Returned).ids == [3, 4, 5]
    master.end.send(1, Cancel([2]))
    outcomes = master.finish()
    assert outcomes.keys() <= {999, 0, 1, 2}


def test_results_do_not_wait_for_all_that_run_together(master: Running) -> None:
    warm(master)
    calls = [plain(n, misbehaving.nap, 0.02) for n in range(20)]
    master.send(*calls, task_spec=dict.fromkeys(range(20), ISOLATED))
    assert 0 < len(master.receive(Outcomes).ids) < 20
    master.finish()


def test_one_of_the_calls_that_run_together_is_revoked(
    master: Running, tmp_path: Path
) -> None:
    warm(master)
    log = tmp_path / "ran"
    calls = [plain(n, misbehaving.count_or_hang, str(log), n) for n in range(9)]
    master.send(*calls, task_spec=dict.fromkeys(range(9), ISOLATED))
    master.end.send(1, Cancel([4, 6]))  # the fifth hangs; the seventh is to come
    outcomes = master.finish()
    back = {n for returned in master.returned for n in returned.ids}
    ran = list(map(int, log.read_text().split()))
    # On a busy machine the fifth is revoked before it begins, too.
    spared = {6, *back} if 4 in ran else {4, 6, *back}
    assert ran == [n for n in range(9) if n not in spared]
    assert outcomes.keys() - {4, 999} == set(ran) - {4}


def test_limits_come_from_the_task_spec(master: Running) -> None:
    short = TaskSpec(timeout=0.2, isolate=True)
    long = TaskSpec(timeout=120.0, isolate=True, memory_limit=10**9)
    master.send(plain(0, misbehaving.hang), task_spec={0: short})
    master.receive(Outcomes)
    master.send(plain(1, identity, 3), task_spec={1: long})
    outcomes = master.finish()
    assert isinstance(outcomes[0].error, TaskTimeout)
    assert outcomes[1] == 3


def test_the_task_knows_itself(master: Running) -> None:
    master.send(plain(5, misbehaving.who), task_spec={5: ISOLATED})
    assert master.finish() == {5: (5, 2, "fit", 1)}


def test_what_waits_behind_a_hanging_task_is_given_back(
    master: Running, tmp_path: Path
) -> None:
    path = str(tmp_path / "pid")
    calls = [plain(0, misbehaving.hang, path), plain(1, identity, 1)]
    master.send(*calls, task_spec={0: ISOLATED})
    assert master.receive(Returned) == Returned(1, [1], None)
    master.send(plain(2, identity, 2), plain(3, identity, 3))
    assert master.receive(Returned) == Returned(1, [2, 3], None)
    master.end.send(1, Ping())
    master.receive(Heartbeat)
    master.drop(Heartbeat)
    master.end.send(1, Cancel([0]))
    outcomes = master.finish()
    assert set(outcomes) <= {0}


def test_the_rest_of_a_chunk_is_given_back(master: Running) -> None:
    master.send(chunk(7, Squares(x2="hang"), range(10)), task_spec={7: ISOLATED})
    task_id, kept = master.receive(Returned).split
    assert task_id == 7
    assert 1 <= kept <= 3  # 1, or more on a busy machine
    master.end.send(1, Cancel([7]))
    values = master.finish()[7]
    assert values[:2] == [0, 1][: len(values)]
    assert len(values) <= 3
    reported = sum(reply.parts.get(7, 0) for reply in master.replies)
    assert len(values) == reported + kept


def test_finished_items_do_not_wait_for_one_that_hangs(master: Running) -> None:
    warm(master)
    master.send(chunk(7, Squares(x2="hang"), range(3)), task_spec={7: ISOLATED})
    there = 0
    while there < 2:
        report = master.receive(Outcomes)
        assert report.ids == [7]
        there += report.parts[7]
    assert there == 2
    master.end.send(1, Cancel([7]))
    values = master.finish()[7]
    assert values[:2] == [0, 1]
    assert len(values) == 3
    assert master.returned == []


def test_all_items_of_a_chunk_come_once_and_in_order(master: Running) -> None:
    master.send(chunk(7, Naps(x3="segfault"), range(12)), task_spec={7: ISOLATED})
    values = master.finish()[7]
    splits = [back.split[1] for back in master.returned if back.split is not None]
    assert len(values) == 12 or splits
    assert isinstance(values[3].error, TaskCrashed)
    del values[3]
    assert values == [x * x for x in range(len(values) + 1) if x != 3]
    assert any(7 in reply.parts for reply in master.replies)


class Naps(Squares):
    """As `Squares`, but each item takes a while."""

    def __call__(self, x: Any) -> Any:
        """Return the square."""
        misbehaving.nap(0.015)
        return super().__call__(x)


def test_revoked_calls_are_not_run(master: Running, tmp_path: Path) -> None:
    log = str(tmp_path / "ran")
    hanging = plain(0, misbehaving.hang)
    calls = [plain(n, misbehaving.count, log, n) for n in range(1, 5)]
    master.send(hanging, *calls, task_spec=dict.fromkeys(range(5), ISOLATED))
    # Before the worker looks around for the first time, so that it keeps them.
    master.end.send(1, Cancel([2, 3, 0, 77]))
    outcomes = master.finish()
    assert (tmp_path / "ran").read_text().split() == ["1", "4"]
    assert {n: outcomes[n] for n in (1, 4)} == {1: 1, 4: 4}
    assert outcomes.keys() <= {0, 1, 4}


def test_a_late_revocation_is_ignored(master: Running) -> None:
    master.end.send(1, Cancel([0, 1]))
    master.send(plain(0, identity, 1), task_spec={0: ISOLATED})
    assert master.receive(Outcomes).ids == [0]
    master.end.send(1, Cancel([0]))
    master.send(plain(1, identity, 2), task_spec={1: ISOLATED})
    assert master.finish() == {0: 1, 1: 2}


class OnlyInTheChild:
    """Cannot be unpickled in the process of the test."""

    def __init__(self) -> None:
        self.own = os.getpid()

    def __reduce__(self) -> Any:
        return misbehaving.load_elsewhere, (self.own,)

    def __call__(self) -> None:
        """Never run here."""


def test_the_rank_does_not_load_what_its_child_runs(master: Running) -> None:
    function = OnlyInTheChild()
    master.send(plain(0, function), task_spec={0: ISOLATED})
    master.receive(Outcomes)
    master.send(plain(1, function))
    master.receive(Outcomes)
    master.send(plain(2, function), task_spec={2: ISOLATED})
    outcomes = master.finish()
    assert outcomes[0] == outcomes[2] == "loaded elsewhere"
    assert isinstance(outcomes[1].error, SerializationError)


def test_a_forgotten_function_is_forgotten_in_the_child(master: Running) -> None:
    master.send(plain(0, identity, 1), task_spec={0: ISOLATED})
    master.receive(Outcomes)
    master.send(plain(1, misbehaving.pid), forget=[identity], task_spec={1: ISOLATED})
    master.receive(Outcomes)
    del master.functions[0]
    master.functions[9] = print  # so that its next number is a new one
    master.send(plain(2, identity, 5), task_spec={2: ISOLATED})
    assert master.finish()[2] == 5


def test_a_task_that_cannot_begin_yet_is_not_overdue(
    master: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpitasks.worker.isolation.LOADING_SECONDS", 0.1)
    path = tmp_path / "go"
    limited = TaskSpec(timeout=0.1, isolate=True)
    master.send(plain(0, misbehaving.LoadsSlowly(str(path))), task_spec={0: limited})
    for _ in range(2):  # it says so
        assert master.receive(Outcomes).ids == []
    path.touch()
    assert master.finish() == {0: "loaded"}


def test_starting_the_child_is_no_cost_of_the_function(master: Running) -> None:
    master.send(plain(0, identity, 1), task_spec={0: ISOLATED})
    master.finish()
    (reply,) = master.replies
    ((_, items, seconds, _),) = reply.costs
    assert items == 1
    isolation = master.worker._isolation
    assert isolation is not None
    assert seconds < isolation._sandbox.preparing
